"""DICOM series from public bug reports: each is read, or refused with the true reason in one sentence."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread

from dicom_node.errors import SeriesError
from dicom_node.masks.measures import extent
from dicom_node.objects.result_set import ResultSet
from dicom_node.regions import region_for
from dicom_node.series import ImageSeries, read_series
from tests.support.images import PROVENANCE, result_errors
from voxtell.inference.hounsfield import hounsfield_doubt
from worker.selection.study_volumes import StudyVolume, studies_in

Case = Callable[..., Path]


def files_of(case: Path) -> list[Path]:
    return sorted((case / "dicom").iterdir())


def read(case: Path) -> ImageSeries:
    return read_series(files_of(case))


def volumes_in(case: Path, character_set: str = "") -> list[StudyVolume]:
    return [volume for study in studies_in(case / "dicom", character_set) for volume in study]


def results_of(series: ImageSeries) -> Iterator[tuple[str, Dataset]]:
    """Every result of a box on the slices but the first."""
    masks = np.zeros((1, *series.volume.spatial_shape), dtype=bool)
    masks[0, 1:, 20:40, 20:40] = True
    wanted = ("seg", "rtstruct", "sr", "preview")
    plan = ResultSet(series, masks, [region_for("liver")], PROVENANCE, wanted, label_map=True)
    yield from plan.written([extent(masks[0], series.affine)])


on_values_kept_as_they_are = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")


@on_values_kept_as_they_are
@pytest.mark.parametrize(
    ("name", "shape", "least", "most"),
    [
        ("charset-ascii-declared-latin1", (8, 143, 161), -1000, 1092),
        ("charset-cp1251", (8, 143, 161), -1000, 1092),
        ("charset-not-supplied", (8, 143, 161), -1000, 1092),
        ("ct-ele-in-undefined-length", (4, 512, 512), -3024, 1254),
        ("ct-gh1308", (4, 512, 512), -3024, 1376),
        ("ct-jpeg-lossless-12bit", (4, 512, 512), -1024, 1456),
        ("echo-time-as-integer-string", (4, 64, 64), 127, 2145),
        ("empty-modality-lut-sequence", (8, 143, 161), -1000, 1092),
        ("ge-integer-strings-with-decimals", (8, 143, 161), -1000, 1092),
        ("identity-values-out-of-vr", (6, 143, 161), -1000, 1092),
        ("j2k-signed-mismatch", (4, 512, 512), -2000, 1896),
        ("monaco-no-part10-header", (8, 143, 161), -1000, 1092),
        ("mr-j2k-philips", (4, 256, 256), 0, 1119),
        ("mr-small-padded", (4, 64, 64), 127, 2145),
        ("nifti2dicom-without-rescale", (8, 143, 161), -1000, 1092),
        ("no-frame-of-reference", (8, 143, 161), -1000, 1092),
        ("non-image-file-in-series", (8, 143, 161), -1000, 1092),
        ("pet-tiny-slopes", (4, 128, 128), 0, 0.0010072085),
        ("rle-many-fragments", (4, 512, 512), -3024, 1254),
    ],
)
def test_an_unusual_series_is_one_volume_of_these_values(
    name: str, shape: tuple[int, int, int], least: float, most: float, shared_case: Case
) -> None:
    (volume,) = volumes_in(shared_case(name))
    assert volume.problem == ""
    values = read(shared_case(name)).volume.array
    assert values.shape == shape
    assert (values.min(), values.max()) == pytest.approx((least, most))


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("anonymiser-new-series-uid-per-slice", "each of the 8 files has a Series Instance UID of its own"),
        ("classic-ct-multiframe", "001.dcm holds 8 frames and says of 0 where they lie"),
        ("mosaics-at-two-positions", "it is a Siemens mosaic (MOSAIC): its slices are tiles of one image"),
        ("same-position-different-slicelocation", "all 8 slices say the same position, (-80.00, -70.00, 0.00) mm"),
        ("siemens-mosaic-series", "it is a Siemens mosaic (MOSAIC): its slices are tiles of one image"),
        ("variable-slice-spacing", "spacing changes from 3 to 6 mm at 006.dcm"),
    ],
)
def test_what_is_no_volume_is_one_answer_with_the_true_reason(name: str, sentence: str, shared_case: Case) -> None:
    (volume,) = volumes_in(shared_case(name))
    assert sentence in volume.problem
    assert "missing" not in volume.problem
    with pytest.raises(SeriesError):
        read(shared_case(name))


def test_an_object_without_a_position_is_left_out_with_a_note(shared_case: Case) -> None:
    series = read(shared_case("non-image-file-in-series"))
    assert series.notes == ("009.dcm has no ImagePositionPatient: it is no slice of a volume, and is left out",)


@pytest.mark.long
def test_a_ct_that_is_not_in_hounsfield_units_is_doubted(shared_case: Case) -> None:
    assert hounsfield_doubt(read(shared_case("ct-without-rescale-unsigned")).volume.array)
    assert not hounsfield_doubt(read(shared_case("nifti2dicom-without-rescale")).volume.array)


@pytest.mark.long
@on_values_kept_as_they_are
@pytest.mark.parametrize(
    ("name", "character_set", "patient"),
    [
        ("charset-ascii-declared-latin1", "", "Müller^Jörg"),
        ("charset-ascii-declared-latin1", "cp1251", "Müller^Jörg"),  # what a file declares goes before the setting
        ("charset-cp1251", "cp1251", "Иванов^Иван"),
        ("charset-not-supplied", "", "Muster^Case"),
        ("charset-not-supplied", "cp1251", "Muster^Case"),
    ],
)
def test_a_name_is_what_the_pacs_shows_in_every_result_and_in_the_list_of_jobs(
    name: str, character_set: str, patient: str, shared_case: Case
) -> None:
    (volume,) = volumes_in(shared_case(name), character_set)
    assert volume.patient_name == patient
    series = read_series(files_of(shared_case(name)), character_set=character_set)
    assert {str(result.PatientName) for _, result in results_of(series)} == {patient}


@pytest.mark.long
@on_values_kept_as_they_are
def test_identifiers_that_break_the_standard_are_those_of_the_images(shared_case: Case) -> None:
    """An archive files a result by them: corrected ones would be another study's."""
    for _, result in results_of(read(shared_case("identity-values-out-of-vr"))):
        assert result.StudyInstanceUID == "1.2.826.0.1.3680043.08.0498.007.1"
        assert result.AccessionNumber == "ACC-2024-000012345678"


@pytest.mark.peers
@pytest.mark.parametrize(
    "name",
    [
        "echo-time-as-integer-string",
        "empty-modality-lut-sequence",
        "ge-integer-strings-with-decimals",
        "monaco-no-part10-header",
        "no-frame-of-reference",
    ],
)
def test_dciodvfy_finds_no_error_in_the_results_of_such_images(name: str, shared_case: Case, tmp_path: Path) -> None:
    results = list(results_of(read(shared_case(name))))
    assert [kind for kind, _ in results] == [
        "seg.dcm", "sr.dcm", "seg-labelmap.dcm", "sr-labelmap.dcm", "rtstruct.dcm", "preview.dcm",
    ]  # fmt: skip
    assert [error for _, result in results for error in result_errors(result, tmp_path)] == []


@pytest.mark.peers
def test_a_spacing_that_changes_is_made_even_where_that_is_asked_for(shared_case: Case, tmp_path: Path) -> None:
    """Gaps of 3 mm, then of 6 mm: a grid of 3 mm, whose results lie on the slices that there are."""
    files = files_of(shared_case("variable-slice-spacing"))
    series = read_series(files, even=True)
    assert series.volume.spacing[0] == pytest.approx(3)
    results = dict(results_of(series))
    shown = {
        frame.PlanePositionSequence[0].ImagePositionPatient[2]
        for frame in results["seg.dcm"].PerFrameFunctionalGroupsSequence
    }
    assert shown <= {dcmread(path).ImagePositionPatient[2] for path in files}
    assert [error for result in results.values() for error in result_errors(result, tmp_path)] == []

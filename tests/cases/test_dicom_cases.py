"""DICOM series from public bug reports: each is read, or refused with the true reason in one sentence."""

from collections.abc import Callable
from pathlib import Path

import pytest

from dicom_node.errors import SeriesError
from dicom_node.series import ImageSeries, read_series
from voxtell.inference.hounsfield import hounsfield_doubt
from worker.selection.study_volumes import StudyVolume, studies_in

Case = Callable[..., Path]


def files_of(case: Path) -> list[Path]:
    return sorted((case / "dicom").iterdir())


def read(case: Path) -> ImageSeries:
    return read_series(files_of(case))


def volumes_in(case: Path) -> list[StudyVolume]:
    return [volume for study in studies_in(case / "dicom") for volume in study]


@pytest.mark.filterwarnings("ignore:Unknown encoding", "ignore:Invalid value for VR UI")
@pytest.mark.filterwarnings("ignore:The value length:UserWarning")  # pydicom, on values that are kept as they are
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


def test_a_ct_that_is_not_in_hounsfield_units_is_doubted(shared_case: Case) -> None:
    assert hounsfield_doubt(read(shared_case("ct-without-rescale-unsigned")).volume.array)
    assert not hounsfield_doubt(read(shared_case("nifti2dicom-without-rescale")).volume.array)

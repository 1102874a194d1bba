"""The preview: a valid picture of what was found, with its notice, on any real series."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from dicom_node.errors import ResultError
from dicom_node.objects import preview
from dicom_node.objects.preview import write_preview
from dicom_node.objects.provenance import Provenance, Review
from dicom_node.picture.planes import Pictured
from dicom_node.picture.sheet import Words
from dicom_node.regions import Region, region_for
from dicom_node.series import ImageSeries, read_series
from dicom_node.synthesis import Subject, ct_series
from tests.support.images import PROVENANCE, edit, iod_errors, series_files

REGIONS = [region_for("liver"), region_for("spleen")]
HEADER = 112  # rows of the picture with whose it is


def boxes(series: ImageSeries) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    masks = np.zeros((2, *series.volume.spatial_shape), dtype=bool)
    a, b, c = (size // 3 for size in series.volume.spatial_shape)
    masks[0, a : 2 * a + 1, b : 2 * b, c : 2 * c] = True
    return masks


@pytest.mark.peers
@pytest.mark.parametrize(
    "case",
    [
        "mr_brain_t1sag/HFDR/dicom",
        "tiny_cases/failing__gantrytilting__001/dicom",
        "mr_enhanced/siemens_anat_8frames/dicom",
    ],
)
def test_over_real_series_the_preview_is_a_valid_image(
    shared_data: Callable[..., Path], tmp_path: Path, case: str
) -> None:
    series = read_series(series_files(shared_data(case)))
    written = write_preview(series, boxes(series), REGIONS, PROVENANCE)
    assert iod_errors(written, tmp_path) == []
    pixels = dcmread(tmp_path / f"{written.SOPInstanceUID}.dcm").pixel_array
    red, green, blue = np.moveaxis(pixels.reshape(-1, 3).astype(int), -1, 0)
    colour = REGIONS[0].colour
    assert ((red == colour[0]) & (green == colour[1]) & (blue == colour[2])).sum() > 50


def test_it_says_what_it_is_and_whose(tmp_path: Path) -> None:
    def preview_of(patient: str) -> tuple[ImageSeries, np.ndarray[tuple[int, ...], np.dtype[np.uint8]]]:
        files = ct_series(
            np.zeros((6, 60, 80)), (3.0, 2.0, 2.0), tmp_path / patient, subject=Subject(patient_id=patient)
        )
        series = read_series(files)
        dataset = write_preview(series, boxes(series), REGIONS, PROVENANCE)
        assert (dataset.Modality, dataset.BurnedInAnnotation) == ("OT", "YES")
        assert "not for diagnosis" in dataset.SeriesDescription
        assert dataset.PatientID == patient
        return series, dataset.pixel_array

    (series, one), (_, other) = preview_of("ONE"), preview_of("ANOTHER")
    assert not np.array_equal(one[:HEADER], other[:HEADER]), "the patient's ID is burned in"
    assert np.array_equal(one[HEADER:], other[HEADER:])
    assert write_preview(series, boxes(series), REGIONS, PROVENANCE).SOPInstanceUID == PROVENANCE.uid(
        "preview", series, REGIONS
    )
    assert write_preview(
        series, boxes(series), REGIONS, replace(PROVENANCE, protocol_digest="x")
    ).SOPInstanceUID != PROVENANCE.uid("preview", series, REGIONS)
    with pytest.raises(ResultError, match="nothing to show"):
        write_preview(series, np.zeros_like(boxes(series)), REGIONS, PROVENANCE)


def words_of(series: ImageSeries, regions: list[Region], provenance: Provenance) -> tuple[Words, list[str]]:
    """What a preview says besides its planes, and the names of its structures."""
    seen: list[tuple[Words, list[str]]] = []

    def picture(_image: object, _masks: object, structures: list[Pictured], words: Words, *, ct: bool) -> object:
        assert ct
        seen.append((words, [one.label for one in structures]))
        return np.zeros((2, 2, 3), np.uint8)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(preview, "picture", picture)
        write_preview(series, boxes(series)[[0] * len(regions)], regions, provenance)
    return seen[0]


def test_it_says_which_image_which_model_and_what_to_look_at(tmp_path: Path) -> None:
    files = ct_series(np.zeros((6, 60, 80)), (3.0, 2.0, 2.0), tmp_path, subject=Subject(patient_id="P 7"))
    for file in files:
        edit(file, StudyDate="20260214", SeriesDescription="Kopf nativ")
    series = read_series(files)
    masks = np.concatenate([boxes(series), boxes(series)[1:], boxes(series)[1:]])
    regions = [
        *REGIONS,
        replace(region_for("kidney"), empty_means="not known"),
        replace(region_for("heart"), placeholder=True),
    ]
    said = replace(PROVENANCE, protocol="abdomen", review=(Review("The liver is small."),))
    with pytest.MonkeyPatch.context() as patch:
        seen: list[Words] = []
        patch.setattr(
            preview, "picture", lambda *arguments, ct: seen.append(arguments[3]) or np.zeros((2, 2, 3), np.uint8)
        )
        write_preview(series, masks, regions, said)
    (words,) = seen
    assert words.heading == "P 7 · 2026-02-14 · Kopf nativ"
    assert words.model == f"Contoured by {said.algorithm.name} {said.algorithm.version}, protocol abdomen"
    assert words.notes == ["Looked for, not found: spleen.", "Not known to this model: kidney."]
    assert words.reviews == ["The liver is small."]


def test_a_name_that_the_typeface_lacks_is_shown_by_its_prompt(tmp_path: Path) -> None:
    series = read_series(ct_series(np.zeros((6, 60, 80)), (3.0, 2.0, 2.0), tmp_path))
    regions = [
        replace(region_for("liver"), label="Leber, vergrößert"),
        replace(region_for("spleen"), label="脾臓"),
        replace(region_for("左腎"), tg263="Kidney_L"),
        region_for("肝臓"),
    ]
    _, names = words_of(series, regions, PROVENANCE)
    assert names == ["Leber, vergrößert", "spleen", "Kidney_L", "肝臓"]

"""The preview: a valid picture of what was found, with its notice, on any real series."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from dicom_node.errors import ResultError
from dicom_node.masks.picture import LEGEND_HEIGHT
from dicom_node.objects.preview import write_preview
from dicom_node.regions import region_for
from dicom_node.series import ImageSeries, read_series
from dicom_node.synthesis import Subject, ct_series
from tests.support.images import PROVENANCE, iod_errors, series_files

REGIONS = [region_for("liver"), region_for("spleen")]


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
    preview = write_preview(series, boxes(series), REGIONS, PROVENANCE)
    assert iod_errors(preview, tmp_path) == []
    pixels = dcmread(tmp_path / f"{preview.SOPInstanceUID}.dcm").pixel_array
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
    assert np.array_equal(one[:-LEGEND_HEIGHT], other[:-LEGEND_HEIGHT])
    assert not np.array_equal(one[-LEGEND_HEIGHT:], other[-LEGEND_HEIGHT:]), "the patient's ID is burned in"
    assert write_preview(series, boxes(series), REGIONS, PROVENANCE).SOPInstanceUID == PROVENANCE.uid(
        "preview", series, REGIONS
    )
    assert write_preview(
        series, boxes(series), REGIONS, replace(PROVENANCE, protocol_digest="x")
    ).SOPInstanceUID != PROVENANCE.uid("preview", series, REGIONS)
    with pytest.raises(ResultError, match="nothing to show"):
        write_preview(series, np.zeros_like(boxes(series)), REGIONS, PROVENANCE)

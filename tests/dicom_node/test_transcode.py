"""The same object in another transfer syntax: fewer bytes, the same UID, the same values and pixels."""

from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import DeflatedExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless

from dicom_node.objects.rtstruct import write_rtstruct
from dicom_node.objects.seg import SegmentationType, write_seg
from dicom_node.regions import region_for
from dicom_node.scu.transcode import transcoded
from dicom_node.series import ImageSeries, read_series
from dicom_node.synthesis import ct_series
from tests.support.images import PROVENANCE


@pytest.fixture
def series(tmp_path: Path) -> ImageSeries:
    return read_series(ct_series(np.zeros((4, 64, 64)), (1, 1, 1), tmp_path / "ct"))


def masks() -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    mask = np.zeros((1, 4, 64, 64), dtype=bool)
    mask[0, 1:3, 10:50, 10:50] = True
    return mask


def saved(dataset: Dataset | None, path: Path) -> Path:
    assert dataset is not None
    dataset.save_as(path, enforce_file_format=True)
    return path


@pytest.mark.parametrize(
    ("form", "syntax", "uid"),
    [
        ("BINARY", "deflated", DeflatedExplicitVRLittleEndian),
        ("LABELMAP", "deflated", DeflatedExplicitVRLittleEndian),
        ("LABELMAP", "rle", RLELossless),
    ],
)
def test_a_copy_is_smaller_and_holds_the_same(
    series: ImageSeries, tmp_path: Path, form: SegmentationType, syntax: str, uid: str
) -> None:
    path = saved(write_seg(series, masks(), [region_for("liver")], PROVENANCE, form).dataset, tmp_path / "seg.dcm")
    folder = tmp_path / "copies"
    folder.mkdir()
    copy = transcoded(path, syntax, folder)  # type: ignore[arg-type]
    assert copy.parent == folder
    assert copy.stat().st_size < path.stat().st_size
    before, after = dcmread(path), dcmread(copy)
    assert after.file_meta.TransferSyntaxUID == uid
    assert np.array_equal(before.pixel_array, after.pixel_array)
    for dataset in (before, after):
        del dataset.PixelData
    assert before.to_json_dict() == after.to_json_dict()


def test_what_cannot_be_encoded_stays_as_it_is(series: ImageSeries, tmp_path: Path) -> None:
    seg = saved(write_seg(series, masks(), [region_for("liver")], PROVENANCE).dataset, tmp_path / "seg.dcm")
    assert transcoded(seg, "rle", tmp_path / "copies") == seg, "one bit a pixel"
    assert transcoded(seg, "explicit", tmp_path / "copies") == seg
    contours = saved(write_rtstruct(series, masks(), [region_for("liver")], PROVENANCE), tmp_path / "rtstruct.dcm")
    assert transcoded(contours, "deflated", tmp_path / "copies") == contours
    assert dcmread(contours).file_meta.TransferSyntaxUID == ImplicitVRLittleEndian

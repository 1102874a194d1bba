"""Pixel bombs: what a header does not announce is not decoded, and what it announces must be there."""

import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless

from dicom_node.errors import SeriesError
from dicom_node.series import read_series
from dicom_node.synthesis import ct_series
from tests.support import attacks

MB = 2**20


@pytest.fixture
def ct(tmp_path: Path) -> list[Path]:
    return ct_series(np.zeros((4, 16, 16), np.float32), (3.0, 1.0, 1.0), tmp_path / "ct")


def j2k(rows: int, columns: int) -> bytes:
    """The beginning of a JPEG 2000 codestream of that size."""
    return b"\xff\x4f\xff\x51" + struct.pack(">HHLLLL", 41, 0, columns, rows, 0, 0) + bytes(64)


def jpeg_ls(rows: int, columns: int) -> bytes:
    """The beginning of a JPEG-LS codestream of that size, behind a comment."""
    return b"\xff\xd8\xff\xfe\x00\x04ab" + b"\xff\xf7" + struct.pack(">HBHH", 11, 16, rows, columns) + bytes(64)


def compress(path: Path, frame: bytes, syntax: str, **values: object) -> None:
    image = dcmread(path)
    image.file_meta.TransferSyntaxUID = syntax
    image.PixelData = encapsulate([frame])
    for keyword, value in values.items():
        setattr(image, keyword, value)
    image.save_as(path)


def refused(paths: list[Path], match: str) -> None:
    tracemalloc.start()
    with pytest.raises(SeriesError, match=match) as error:
        read_series(paths)
    assert error.value.retry == "final"
    assert tracemalloc.get_traced_memory()[1] < 48 * MB
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("frame", "syntax", "match"),
    [
        (j2k(40_000, 40_000), JPEG2000Lossless, r"0002\.dcm.*codestream has 40000 x 40000 pixels.*header says 16 x 16"),
        (jpeg_ls(16, 60_000), JPEGLSLossless, r"0002\.dcm.*codestream has 16 x 60000"),
        (bytes(2 * MB), RLELossless, r"0002\.dcm.*more than 1049600 bytes"),
    ],
    ids=["JPEG 2000", "JPEG-LS", "RLE"],
)
def test_compressed_pixels_that_are_more_than_announced_are_not_decoded(ct, frame, syntax, match):
    compress(ct[1], frame, syntax)
    refused(ct, match)


def test_pixels_that_the_data_does_not_have_are_refused_before_room_is_made_for_them(ct):
    for path in ct:
        image = dcmread(path)
        image.Rows = image.Columns = 8000
        image.save_as(path)
    refused(ct, r"announces 128000000 bytes of them, the file has 512")


def test_frames_larger_than_any_are_refused(ct):
    for path in ct:
        compress(path, j2k(65_535, 65_535), JPEG2000Lossless, Rows=65_535, Columns=65_535)
    refused(ct, "announces 65535 x 65535 pixels")


def test_rle_that_can_never_make_so_many_bytes_is_refused(ct):
    for path in ct:
        compress(path, bytes(64), RLELossless, Rows=8000, Columns=8000)
    refused(ct, "bytes of RLE make no 128000000")


def test_millions_of_frames_are_refused(ct):
    image = dcmread(ct[0])
    image.NumberOfFrames = 40_000_000
    image.save_as(ct[0])
    refused(ct, "holds 40000000 frames")


@pytest.mark.long
def test_a_deflated_image_that_inflates_to_more_than_announced_is_refused(ct):
    for path in ct:
        image = dcmread(path)
        image.file_meta.TransferSyntaxUID = attacks.DEFLATED
        image.PixelData = bytes(64 * MB)
        image.save_as(path)
    with pytest.raises(
        SeriesError, match=r"inflated it has more than \d+ bytes, which is more than its header announces"
    ):
        read_series(ct)

"""Refuses pixels that their header does not announce, before a codec makes them out of a few bytes.

Rows x Columns x samples x bits x frames (PS3.3 C.7.6.3) say how many bytes there must be. A codestream states its size
in its first bytes (JPEG 2000: ISO 15444-1 A.5.1; JPEG, JPEG-LS: ISO 10918-1 B.2.2), which a decoder would believe.
"""

import io
import struct
from dataclasses import dataclass
from typing import Final

from pydicom import Dataset
from pydicom.encaps import generate_frames
from pydicom.filereader import read_dataset
from pydicom.uid import RLELossless

from dicom_node.errors import SeriesError
from dicom_node.images.frames import File
from dicom_node.images.header_limits import BoundedReader, LimitError
from dicom_node.images.headers import file_meta
from dicom_node.images.inflate import HEADER_BYTES, inflate_all

MOST_PIXELS: Final = 2**26
"""Pixels of one frame, 8192 x 8192: CT, MR and PET have 4096 x 4096 at most. Decoded they take 256 MB."""
RLE_GAIN: Final = 64
"""PackBits (PS3.5 G.3.1) makes at most 128 bytes out of 2."""
SPARE_BYTES: Final = 2**20
"""For what stands around pixel data: a compressed frame may have twice the bytes of a plain one, and so many more."""

_HEADER_OF_ELEMENT: Final = 12  # tag, VR, length
_FRAME_MARKERS: Final = frozenset(
    (*range(0xC0, 0xC4), *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0), 0xF7)
)


@dataclass(frozen=True)
class _Announced:
    """Holds what a header says about its pixels."""

    frames: int
    rows: int
    columns: int
    bits: int  # of one pixel, all samples

    @property
    def frame_bytes(self) -> int:
        """Bytes of one decoded frame."""
        return (self.rows * self.columns * self.bits + 7) // 8


def _announced(file: File) -> _Announced:
    """Returns what the header announces; absent values are 0, or 1 for frames and samples."""
    header = file.header
    return _Announced(
        frames=int(header.get("NumberOfFrames") or 1),
        rows=int(header.get("Rows") or 0),
        columns=int(header.get("Columns") or 0),
        bits=int(header.get("BitsAllocated") or 0) * int(header.get("SamplesPerPixel") or 1),
    )


def require_possible(file: File) -> None:
    """Checks what can be said without reading the pixels: the size of a frame, and that the file can hold them.

    Raises:
        SeriesError: when a frame is larger than any that is read, or the file is too short for its pixels.
    """
    said = _announced(file)
    if said.rows * said.columns > MOST_PIXELS:
        raise SeriesError(
            f"{file.path.name} announces {said.rows} x {said.columns} pixels; frames of at most {MOST_PIXELS} are read"
        )
    syntax = file.header.file_meta.get("TransferSyntaxUID")
    plain = syntax is not None and not syntax.is_encapsulated and not syntax.is_deflated
    try:
        there = file.path.stat().st_size - file.pixels_at
    except OSError:  # whoever reads it says why
        return
    needed = said.frames * said.frame_bytes
    if plain and there < needed:
        raise SeriesError(
            f"the pixels of {file.path.name} cannot be decoded: its header announces {needed} bytes of them, "
            f"the file has {max(0, there - _HEADER_OF_ELEMENT)}"
        )
    if syntax == RLELossless and there * RLE_GAIN < needed:
        raise SeriesError(f"the pixels of {file.path.name} cannot be decoded: {there} bytes of RLE make no {needed}")


def require_announced(file: File) -> None:
    """Checks that compressed pixels are not more than their header announces, frame by frame. Nothing is decoded.

    Raises:
        LimitError: when a frame has too many bytes, or a codestream of another size.
        PYDICOM_ERRORS: when the fragments cannot be told apart.
    """
    syntax = file.header.file_meta.get("TransferSyntaxUID")
    if syntax is None or not syntax.is_encapsulated:
        return
    said = _announced(file)
    most = 2 * said.frame_bytes + SPARE_BYTES
    with BoundedReader(file.path) as stream:
        if (stream.size - file.pixels_at) > said.frames * most:
            raise LimitError(
                f"its pixels have more than {said.frames * most} bytes, which is more than its header announces"
            )
        stream.seek(file.pixels_at + _HEADER_OF_ELEMENT)
        for frame in generate_frames(stream, number_of_frames=said.frames):
            size = _codestream_size(frame)
            if size is not None and size != (said.rows, said.columns):
                raise LimitError(
                    f"its codestream has {size[0]} x {size[1]} pixels and its header says {said.rows} x {said.columns}"
                )


def _codestream_size(frame: bytes) -> tuple[int, int] | None:
    """Returns the rows and columns that a JPEG, JPEG-LS or JPEG 2000 codestream states; None for other kinds."""
    if frame[:4] == b"\xff\x4f\xff\x51" and len(frame) >= 24:
        width, height, left, top = struct.unpack_from(">4L", frame, 8)
        return height - top, width - left
    if frame[:2] != b"\xff\xd8":
        return None
    at = 2
    while at + 9 <= len(frame) and frame[at] == 0xFF:
        marker, length = frame[at + 1], int.from_bytes(frame[at + 2 : at + 4], "big")
        if marker in _FRAME_MARKERS:
            return int.from_bytes(frame[at + 5 : at + 7], "big"), int.from_bytes(frame[at + 7 : at + 9], "big")
        at += 1 if marker == 0xFF else 2 + length
    return None


def inflated_image(file: File) -> Dataset:
    """Returns the whole data set of a deflated file, which pydicom cannot read in parts.

    Raises:
        LimitError: when it inflates to more than its header announces.
        PYDICOM_ERRORS: when it is damaged.
    """
    said = _announced(file)
    with BoundedReader(file.path) as stream:
        meta = file_meta(stream)
        content = inflate_all(stream, HEADER_BYTES + SPARE_BYTES + said.frames * said.frame_bytes)
    image = read_dataset(io.BytesIO(content), False, True)
    image.file_meta = meta
    return image

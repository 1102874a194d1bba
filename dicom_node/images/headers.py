"""Reads one file as far as its pixels, within the limits of `structure`."""

import io
from pathlib import Path
from typing import Any, BinaryIO, Final

from pydicom import Dataset, dcmread
from pydicom.dataelem import RawDataElement
from pydicom.dataset import FileMetaDataset
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_dataset, read_preamble
from pydicom.tag import BaseTag
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian

from dicom_node.images.header_limits import PIXELS_FROM, BoundedReader, LimitError, check_meta, require_bytes
from dicom_node.images.header_limits import check as check_structure
from dicom_node.images.headerless import headerless_meta
from dicom_node.images.inflate import HEADER_BYTES, inflate
from dicom_node.images.pydicom_errors import PYDICOM_ERRORS

# Longer values stay in the file until somebody asks for them: they are mostly private blocks of vendors.
DEFERRED_BYTES: Final = 16 * 1024

_PIXEL_TAGS: Final = (0x7FE00008, 0x7FE00009, 0x7FE00010)  # Float, Double Float and plain Pixel Data (PS3.3 C.7.6.24)


def read_to_pixels(stream: BoundedReader) -> tuple[Dataset, int]:
    """Returns the data set in front of the pixels, with file meta information, and the byte where the pixels begin."""
    meta = file_meta(stream)
    syntax = meta.get("TransferSyntaxUID")
    if syntax == DeflatedExplicitVRLittleEndian:
        return _deflated_header(stream, meta)
    check_structure(stream, stream.size, syntax, kept_below=DEFERRED_BYTES)
    stream.seek(0)
    header = dcmread(stream, stop_before_pixels=True, defer_size=DEFERRED_BYTES, force=True)
    if header.preamble is None:
        if not header.get("SOPClassUID"):  # whatever begins like a data set, it is no instance
            raise InvalidDicomError
        header.file_meta = meta
    pixels_at = stream.tell()
    for tag in header.keys():  # noqa: SIM118 (to go through a data set converts its values)
        element: Any = header.get_item(tag, keep_deferred=True)
        if isinstance(element, RawDataElement) and element.value is None and tag < PIXELS_FROM:
            require_bytes(element.length, stream.size - element.value_tell)
    return header, pixels_at


def _deflated_header(stream: BinaryIO, meta: FileMetaDataset) -> tuple[Dataset, int]:
    """Returns the same for a deflated file, without deferred values: offsets in inflated bytes are not in the file."""
    content, complete = inflate(stream, HEADER_BYTES)
    inflated = io.BytesIO(content)
    beyond = LimitError(f"inflated it has more than {HEADER_BYTES} bytes before its pixels")
    try:
        check_structure(inflated, len(content), ExplicitVRLittleEndian, kept_below=2**32)
    except LimitError as error:
        raise error if complete else beyond from error
    header = read_dataset(inflated, False, True, stop_when=_is_pixels)
    if not complete and inflated.tell() >= len(content):
        raise beyond
    header.file_meta = meta
    return header, 0


def _is_pixels(tag: BaseTag, _vr: str | None, _length: int) -> bool:
    """Whether an element is pixel data, at which reading stops."""
    return int(tag) in _PIXEL_TAGS


def sop_class_of(path: Path) -> str:
    """Returns the SOP Class UID that a file's meta information gives it; "" where that cannot be read."""
    try:
        with BoundedReader(path) as stream:
            return str(file_meta(stream).get("MediaStorageSOPClassUID", ""))
    except PYDICOM_ERRORS:
        return ""


def file_meta(stream: BinaryIO) -> FileMetaDataset:
    """Reads the file meta information (PS3.10 7.1) of the file in `stream`, which then stands at the data set.

    Of a file that has none, the transfer syntax is told by its first element (`dicom_node.images.headerless`).

    Raises:
        LimitError: when the information is beyond a limit.
        PYDICOM_ERRORS: when it is no DICOM file.
    """
    try:
        read_preamble(stream, force=False)
    except InvalidDicomError:
        return headerless_meta(stream)
    check_meta(stream)
    return FileMetaDataset(read_dataset(stream, False, True, stop_when=lambda tag, _vr, _length: tag.group != 2))

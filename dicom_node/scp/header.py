"""Reads the four UIDs that say which instance an encoded data set is, and nothing behind them."""

import io
import zlib
from dataclasses import dataclass
from typing import BinaryIO, Final, cast

from pydicom.datadict import keyword_for_tag
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pydicom.tag import BaseTag, Tag
from pydicom.uid import UID

from dicom_node.errors import DicomNodeError
from dicom_node.uids import is_uid

_TAGS: Final = tuple(map(Tag, ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")))
_LAST_TAG: Final = 0x0020000E  # Series Instance UID; elements come in the order of their tags (PS3.5 section 7.1)

# What precedes the pixel data of a deflated data set lies in here; bounded, so that a few bytes cannot fill the memory.
_INFLATED_BYTES: Final = 16 * 2**20


class HeaderError(DicomNodeError):
    """The data set does not say which instance it is."""


@dataclass(frozen=True)
class Header:
    """The UIDs of an instance, its series and its study, and its SOP class; each one is checked (PS3.5 section 9.1)."""

    sop_class_uid: str
    sop_uid: str
    study_uid: str
    series_uid: str


def read_header(data_set: BinaryIO, transfer_syntax: UID) -> Header:
    """Reads the UIDs of a data set, encoded in `transfer_syntax`, that begins where `data_set` stands.

    `data_set` has neither preamble nor file meta information; it is read up to Series Instance UID (0020,000E), or of a
    deflated one the first 16 MiB. An unknown transfer syntax is taken for explicit VR little endian.

    Raises:
        HeaderError: an attribute is missing or no UID; the message names it.
        PYDICOM_ERRORS: the bytes are no data set (see `dicom_node.images.pydicom_errors`).
    """
    # Of private transfer syntaxes nothing is known; in practice their headers are explicit little endian.
    known = transfer_syntax.is_transfer_syntax
    if known and transfer_syntax.is_deflated:
        deflated = data_set.read(_INFLATED_BYTES)
        data_set = io.BytesIO(zlib.decompressobj(-zlib.MAX_WBITS).decompress(deflated, _INFLATED_BYTES))
    elements = read_dataset(
        data_set,
        is_implicit_VR=known and transfer_syntax.is_implicit_VR,
        is_little_endian=not known or transfer_syntax.is_little_endian,
        stop_when=_is_behind_uids,
        specific_tags=list(_TAGS),
    )
    return Header(*(_uid(elements, tag) for tag in _TAGS))


def _is_behind_uids(tag: BaseTag, _vr: str | None, _length: int) -> bool:
    return int(tag) > _LAST_TAG


def _uid(elements: Dataset, tag: BaseTag) -> str:
    """The value as it stands there: pydicom's conversion would not notice that the data set ends within it."""
    raw = cast(RawDataElement, elements.get_item(tag)) if tag in elements else None
    value = (raw.value if raw else None) or b""
    if raw and len(value) != raw.length:
        raise HeaderError(f"the data set ends within {keyword_for_tag(tag)}")
    text = value.decode("ascii", "replace").rstrip("\0 ")
    if not is_uid(text):
        raise HeaderError(f"{keyword_for_tag(tag)} is {text[:80]!r}, which is no UID (PS3.5 section 9.1)")
    return text

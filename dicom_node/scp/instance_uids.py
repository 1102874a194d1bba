"""Reads the four UIDs that say which instance an encoded data set is, and nothing behind them."""

import io
from dataclasses import dataclass
from typing import BinaryIO, Final

from pydicom.datadict import keyword_for_tag
from pydicom.tag import Tag
from pydicom.uid import UID

from dicom_node.errors import DicomNodeError
from dicom_node.images.header_limits import LimitError, Walk
from dicom_node.images.inflate import HEADER_BYTES, inflate
from dicom_node.uids import is_uid

_TAGS: Final = tuple(map(Tag, ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")))
_LAST_TAG: Final = 0x0020000E  # Series Instance UID; elements come in the order of their tags (PS3.5 section 7.1)
_UID_BYTES: Final = 1024  # of a value that are looked at: a UID has 64

_MOST_ELEMENTS: Final = 50_000  # before them: real headers have a few hundred; a walk through as many takes 0.1 s


class HeaderError(DicomNodeError):
    """The data set does not say which instance it is."""


@dataclass(frozen=True)
class InstanceUids:
    """The UIDs of an instance, its series and its study, and its SOP class; each one is checked (PS3.5 section 9.1)."""

    sop_class_uid: str
    sop_uid: str
    study_uid: str
    series_uid: str


def read_uids(data_set: BinaryIO, transfer_syntax: UID) -> InstanceUids:
    """Reads the UIDs of a data set, encoded in `transfer_syntax`, that begins where `data_set` stands.

    `data_set` has neither preamble nor file meta information; it is read up to Series Instance UID (0020,000E), or of a
    deflated one the first 16 MiB. Nothing is built of what stands before them. An unknown transfer syntax is taken for
    explicit VR little endian.

    Raises:
        HeaderError: when a UID is missing, not valid, or behind more than a header may hold; the message names it.
        PYDICOM_ERRORS: when the bytes are no data set (see `dicom_node.images.pydicom_errors`).
    """
    # Of private transfer syntaxes nothing is known; in practice their headers are explicit little endian.
    known = transfer_syntax.is_transfer_syntax
    start = data_set.tell()
    end = data_set.seek(0, io.SEEK_END)
    data_set.seek(start)
    if known and transfer_syntax.is_deflated:
        content, _ = inflate(data_set, HEADER_BYTES)
        data_set, end = io.BytesIO(content), len(content)
    walk = Walk(
        data_set,
        end,
        implicit=known and transfer_syntax.is_implicit_VR,
        little=not known or transfer_syntax.is_little_endian,
        stop_at=_LAST_TAG + 1,
        wanted=_TAGS,
        longest=_UID_BYTES,
        most_elements=_MOST_ELEMENTS,
    )
    try:
        walk.run()
    except LimitError as error:
        missing = next((keyword_for_tag(tag) for tag in _TAGS if tag not in walk.found), "the data set")
        raise HeaderError(f"{missing} is not read: {error}") from error
    return InstanceUids(*(_uid(tag, *walk.found.get(tag, (0, b""))) for tag in _TAGS))


def _uid(tag: int, length: int, value: bytes) -> str:
    """Returns the UID of a value of `length` bytes, of which the data set holds `value`."""
    if len(value) != min(length, _UID_BYTES):
        raise HeaderError(f"the data set ends within {keyword_for_tag(tag)}")
    text = value.decode("ascii", "replace").rstrip("\0 ")
    if not is_uid(text):
        raise HeaderError(f"{keyword_for_tag(tag)} is {'no UID' if text else 'missing'} (PS3.5 section 9.1)")
    return text

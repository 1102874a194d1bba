"""Takes DICOM files out of the body of a STOW-RS request while it comes (PS3.18 section 8.6.1.2, RFC 2387).

Nothing of a file is held in memory but its file meta information (at most 64 KiB). One thread at a time.
"""

import io
import struct
from collections.abc import Callable
from email.message import Message
from typing import Final, Protocol

from pydicom import dcmread
from pydicom.dataset import FileMetaDataset
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser

from dicom_node.errors import DicomNodeError
from dicom_node.images.pydicom_errors import PYDICOM_ERRORS

_PREFIX: Final = 132  # preamble and "DICM", PS3.10 section 7.1
_GROUP_LENGTH: Final = struct.Struct("<HH2sHL")  # (0002,0000) UL, explicit VR little endian
_LONGEST_META: Final = 2**16
_LONGEST_BOUNDARY: Final = 70  # characters, RFC 2046 section 5.1.1
_LONGEST_PREAMBLE: Final = 2**16


class WebRequestError(DicomNodeError):
    """The request is no STOW-RS of DICOM files."""


class WebPart(Protocol):
    """One file that is being received: `write` any number of times, then `finish`, or `discard` at any time."""

    def write(self, content: bytes) -> None:
        """Takes the next bytes of the data set."""

    def finish(self) -> None:
        """Ends the part, whose file is complete; called once."""

    def discard(self) -> None:
        """Leaves nothing behind of a file that did not finish; harmless after `finish`."""


BeginPart = Callable[[FileMetaDataset | None], WebPart]
"""Begins a part by its file meta information; for None there is none, and `write` gets every byte that came."""


class Parts:
    """The parts of one request, given out one after the other."""

    def __init__(self, content_type: str, begin: BeginPart) -> None:
        """Takes parts apart by the boundary in `content_type` (the header's value); `begin` is called for each.

        Raises:
            WebRequestError: when the request is no multipart/related, or of another type than application/dicom.
        """
        message = Message()
        message["Content-Type"] = content_type
        boundary = message.get_param("boundary")
        kind = str(message.get_param("type") or "application/dicom").strip("'").lower()
        if message.get_content_type() != "multipart/related" or not isinstance(boundary, str):
            raise WebRequestError("send multipart/related with a boundary (PS3.18 section 10.5)")
        if not 0 < len(boundary) <= _LONGEST_BOUNDARY or not boundary.isascii():
            raise WebRequestError(
                f"the boundary is not valid; it has at most {_LONGEST_BOUNDARY} ASCII characters (RFC 2046)"
            )
        if kind != "application/dicom":
            raise WebRequestError(f"{kind} is not taken here; send application/dicom")
        self._begin = begin
        self._part: WebPart | None = None
        self._head = bytearray()  # of a file whose meta information is not complete yet
        callbacks = {
            "on_part_begin": self._part_begun,
            "on_part_data": self._part_data,
            "on_part_end": self._part_ended,
            "on_end": self._ended,
        }
        self._boundary = b"--" + boundary.encode("ascii")
        self._before: bytes | None = b""  # what came before the first boundary; None behind it
        self.complete = False  # the last boundary has come
        self._parser = MultipartParser(self._boundary[2:], callbacks)  # type: ignore[arg-type]

    def write(self, content: bytes) -> None:
        """Takes the next bytes of the body, cut anywhere.

        Raises:
            WebRequestError: when they are no multipart message.
        """
        if self._before is not None:
            content = self._without_preamble(self._before + content)
        try:
            self._parser.write(content)
        except FormParserError as error:
            raise WebRequestError(f"the body is no multipart message: {error}") from error

    def _without_preamble(self, content: bytes) -> bytes:
        """Leaves out what stands before the first boundary (RFC 2046 section 5.1.1): all, until that has come."""
        start = 0 if content.startswith(self._boundary) else content.find(b"\n" + self._boundary) + 1
        if start or content.startswith(self._boundary):
            self._before = None
            return content[start:]
        if len(content) > _LONGEST_PREAMBLE:
            raise WebRequestError("the body is no multipart message: the boundary of the header does not come in it")
        self._before = content
        return b""

    def _ended(self) -> None:
        self.complete = True

    def discard(self) -> None:
        """Leaves nothing behind of a part that did not come to its end, because the request broke off."""
        if self._part:
            self._part.discard()

    def _part_begun(self) -> None:
        self._head.clear()
        self._part = None

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        if self._part:
            self._part.write(data[start:end])
            return
        self._head += data[start:end]
        if (length := _meta_end(self._head)) is not None and len(self._head) >= length:
            self._open(length)

    def _open(self, length: int) -> None:
        """Begins the part whose head is complete, or will never be; a head without meta information is kept whole."""
        meta = _meta(bytes(self._head[:length])) if length else None
        self._part = self._begin(meta)
        self._part.write(bytes(self._head[length if meta else 0 :]))
        self._head.clear()

    def _part_ended(self) -> None:
        if self._part is None:
            self._open(0)
        assert self._part is not None
        self._part.finish()
        self._part = None


def _meta_end(head: bytes | bytearray) -> int | None:
    """Returns where the file meta information ends; 0 when there is none, None when more bytes are needed to know."""
    if len(head) < _PREFIX + _GROUP_LENGTH.size:
        return None
    group, element, vr, size, length = _GROUP_LENGTH.unpack_from(head, _PREFIX)
    known = (group, element, vr, size) == (2, 0, b"UL", 4) and head[128:_PREFIX] == b"DICM" and length <= _LONGEST_META
    return _PREFIX + _GROUP_LENGTH.size + length if known else 0


def _meta(head: bytes) -> FileMetaDataset | None:
    try:
        meta = dcmread(io.BytesIO(head)).file_meta
        list(meta)  # pydicom understands a value when it is asked for
        return meta
    except PYDICOM_ERRORS:
        return None

"""Walks through foreign bytes before pydicom builds objects of them, and limits what one header may hold.

A data set costs pydicom about 80 times its bytes when it is made of empty items, and a length in it may claim 4 GB. The
walk reads tags and lengths only (PS3.5 section 7.1), in constant memory, and ends at the first limit.
"""

import io
import os
import re
import struct
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Final

from pydicom.valuerep import VR

MOST_ELEMENTS: Final = 250_000
"""Elements and items before the pixel data: an enhanced image of 5,000 frames has about 40 for each. They cost up to
170 MB and 5 s."""
DEEPEST: Final = 64
"""Sequences within each other: templates in use stay below 10, and 200 overflow Python's stack."""
MOST_VALUE_BYTES: Final = 64 * 2**20
"""Bytes of one value before the pixel data, and of all those that are kept in memory. Vendors' private blocks have a
few MB."""
PIXELS_FROM: Final = 0x7FE00000
"""Tags from here on are Pixel Data and what follows it."""
MOST_META_ELEMENTS: Final = 1000
"""Elements and items of file meta information (PS3.10 section 7.1), which defines about 20."""
LARGE_READ: Final = 2**20
"""Bytes: a read of less is not worth asking whether the file has as much."""
SMALLEST_ELEMENT: Final = 8
"""Bytes of tag and length (PS3.5 section 7.1.3)."""
DATA_SET_FROM: Final = 0x00030000
"""Tags from here on are none of file meta information."""
UNDEFINED: Final = 0xFFFFFFFF
"""The length of a value that ends with a delimiter (PS3.5 section 7.5.1)."""

_ITEM_ENDS: Final = (0xFFFEE00D, 0xFFFEE0DD)
_ITEM: Final = b"\xfe\xff\x00\xe0", b"\xff\xfe\xe0\x00"  # little, big endian
_LONG: Final = frozenset((b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"))
_VR: Final = re.compile(rb"[A-Z]{2}")
_KNOWN_VRS: Final = frozenset(vr.value.encode() for vr in VR)


class LimitError(ValueError):
    """The data set holds more than a header may hold."""

    retry = "final"


class BoundedReader(io.BufferedReader):
    """Reads a file, and refuses to read more than it has instead of asking for that much memory first."""

    def __init__(self, path: Path) -> None:
        """Opens the file for reading.

        Raises:
            OSError: when the disk does not give it out.
        """
        super().__init__(io.FileIO(str(path)))
        self.size = os.fstat(self.fileno()).st_size

    def read(self, size: int | None = -1, /) -> bytes:
        """Returns the next bytes.

        Raises:
            LimitError: when `size` is large and more than what is left.
        """
        if size is not None and size > LARGE_READ:
            require_bytes(size, self.size - self.tell())
        return super().read(size)


def require_bytes(claimed: int, there: int) -> None:
    """Checks the length that a value claims, in bytes.

    Raises:
        LimitError: when fewer bytes are there, or it is more than any value before the pixels may have.
    """
    if claimed > there:
        raise LimitError(f"a value claims {claimed} bytes where {max(0, there)} are left")
    if claimed > MOST_VALUE_BYTES:
        raise LimitError(f"a value before the pixels has {claimed} bytes; at most {MOST_VALUE_BYTES} are read")


@dataclass
class Walk:
    """Walks once through a data set that begins where `stream` stands and ends at the byte `end`.

    stop_at: the first tag at the top level that is not walked any more. wanted: tags whose values are kept in `found`,
    at most `longest` bytes of each.
    """

    stream: BinaryIO
    end: int
    implicit: bool
    little: bool = True
    stop_at: int = PIXELS_FROM
    wanted: Collection[int] = ()
    longest: int = 256
    most_elements: int = MOST_ELEMENTS
    kept_below: int = 2**32  # bytes: a longer value at the top level stays in the file
    found: dict[int, tuple[int, bytes]] = field(default_factory=dict)  # tag: length as written, value
    elements: int = 0
    kept_bytes: int = 0
    delimited: tuple[int, int] = (0, 0)  # depth of the sequence whose delimiter was seen last, and the byte behind it

    def run(self) -> "Walk":
        """Walks to the end, or to `stop_at`; returns self.

        Raises:
            LimitError: when a limit of this module is passed; the message says which.
        """
        self._stop = "its data set" if self.stop_at == DATA_SET_FROM else "its pixels"
        order = "<" if self.little else ">"
        self._tag = struct.Struct(f"{order}HH4s").unpack
        self._u32 = struct.Struct(f"{order}L").unpack
        self._u16 = struct.Struct(f"{order}H").unpack
        self._item = _ITEM[not self.little]
        self._elements(self.stream.tell(), self.end, 0, self.implicit)
        return self

    def _elements(self, at: int, end: int, depth: int, implicit: bool) -> int:
        """Walks the elements from `at` to `end` or to a delimiter; returns the byte behind them."""
        read, seek = self.stream.read, self.stream.seek
        first = True
        while at + SMALLEST_ELEMENT <= end:
            head = read(SMALLEST_ELEMENT)
            if len(head) < SMALLEST_ELEMENT:
                return end
            group, element, rest = self._tag(head)
            at += SMALLEST_ELEMENT
            tag = group << 16 | element
            if depth and tag in _ITEM_ENDS:
                return at
            if not depth and tag >= self.stop_at:
                return at
            self._spend()
            if first:  # as pydicom does, for data sets that are in the other encoding than they say
                first, implicit = False, implicit and rest[:2] not in _KNOWN_VRS
            vr = b"" if implicit or not _VR.fullmatch(rest, 0, 2) else rest[:2]
            if vr in _LONG:
                length, at = self._length(read(4)), at + 4
            else:
                (length,) = self._u16(rest[2:]) if vr else self._u32(rest)
            at = self._value(tag, vr, length, at, end, depth, implicit)
            seek(at)
        return at

    def _length(self, content: bytes) -> int:
        """Returns a length of four bytes; 0 where the file ends before."""
        return int(self._u32(content)[0]) if len(content) == 4 else 0

    def _value(self, tag: int, vr: bytes, length: int, at: int, end: int, depth: int, implicit: bool) -> int:
        """Walks one value from `at`, which may hold items; returns the byte behind it."""
        if length == UNDEFINED:
            return self._items(at, end, depth + 1, implicit or vr == b"UN", fragments=vr in (b"OB", b"OW"))
        if length > LARGE_READ and tag < self.stop_at:
            require_bytes(length, end - at)
        if depth or length < self.kept_below:
            self._keep(length)
        if not depth and tag in self.wanted:
            self.found[tag] = length, self.stream.read(min(length, self.longest))
        elif length >= SMALLEST_ELEMENT and vr in (b"", b"SQ", b"UN") and self.stream.read(4) == self._item:
            self.stream.seek(at)
            self._items(at, min(at + length, end), depth + 1, implicit or vr == b"UN")
        return at + length

    def _items(self, at: int, end: int, depth: int, implicit: bool, *, fragments: bool = False) -> int:
        """Walks the items from `at` to `end` or to the end of their sequence; returns the byte behind it."""
        if depth > DEEPEST:
            raise LimitError(f"its sequences lie more than {DEEPEST} deep in each other")
        while at + SMALLEST_ELEMENT <= end:
            head = self.stream.read(SMALLEST_ELEMENT)
            if len(head) < SMALLEST_ELEMENT:
                return end
            group, element, rest = self._tag(head)
            at += SMALLEST_ELEMENT
            if group << 16 | element == _ITEM_ENDS[1]:
                self.delimited = depth, at
                return at
            self._spend()
            length = self._length(rest)
            if length == UNDEFINED:
                at = self._elements(at, end, depth, implicit)
            else:
                if length > LARGE_READ:
                    require_bytes(length, end - at)
                if not fragments:
                    self._elements(at, min(at + length, end), depth, implicit)
                at += length
            self.stream.seek(at)
        return at

    def _spend(self) -> None:
        """Counts an element or item. Raises `LimitError` at the limit."""
        self.elements += 1
        if self.elements > self.most_elements:
            raise LimitError(f"it has more than {self.most_elements} elements and items before {self._stop}")

    def _keep(self, length: int) -> None:
        """Counts the bytes of a value that pydicom keeps in memory. Raises `LimitError` at the limit."""
        self.kept_bytes += length
        if self.kept_bytes > MOST_VALUE_BYTES:
            raise LimitError(f"it has more than {MOST_VALUE_BYTES} bytes before its pixels")


def check(stream: BinaryIO, end: int, transfer_syntax: Any, *, kept_below: int) -> None:
    """Checks the data set from where `stream` stands to the byte `end`, and puts the stream back.

    A data set that is too short to pass a limit is not walked: that is nearly every slice of a CT.

    Raises:
        LimitError: when the data set is beyond a limit.
    """
    start = stream.tell()
    if end - start <= SMALLEST_ELEMENT * MOST_ELEMENTS:
        return
    known = transfer_syntax is not None and transfer_syntax.is_transfer_syntax
    implicit, little = known and transfer_syntax.is_implicit_VR, not known or transfer_syntax.is_little_endian
    Walk(stream, end, implicit=implicit, little=little, kept_below=kept_below).run()
    stream.seek(start)


def check_meta(stream: BinaryIO) -> None:
    """Checks the file meta information that begins where `stream` stands, and puts the stream back.

    A data set may go on with elements of the same group, which pydicom reads as if they were of it.

    Raises:
        LimitError: when it is beyond a limit.
    """
    start = stream.tell()
    end = stream.seek(0, io.SEEK_END)
    stream.seek(start)
    Walk(stream, end, implicit=False, stop_at=DATA_SET_FROM, most_elements=MOST_META_ELEMENTS).run()
    stream.seek(start)

"""Which attributes differ between two files that claim to be one instance, and whether one corrects the other.

The listener asks this of foreign files, so nothing is built of them and nothing decoded: a walk makes a short digest of
each attribute, in constant memory, within the limits of `header_limits`.
"""

import io
import struct
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import BinaryIO, Final, TypeVar

from pydicom.datadict import keyword_for_tag
from pydicom.uid import UID

from dicom_node.errors import DicomNodeError
from dicom_node.images.header_limits import PIXELS_FROM, UNDEFINED, BoundedReader, Walk
from dicom_node.images.headers import file_meta
from dicom_node.images.inflate import HEADER_BYTES, inflate
from dicom_node.images.pydicom_errors import PYDICOM_ERRORS

MOST_COMPARED: Final = 20_000
"""Elements and items of one file: real headers have a few hundred, enhanced images more. A walk through them all takes
about 0.1 s, for which the sender waits."""
PLACE: Final = frozenset(
    ("ImagePositionPatient", "InstanceNumber", "SliceLocation", "Rows", "Columns", "NumberOfFrames")
)
"""Where images differ in one of these, they are two images under one UID, and neither corrects the other."""
_OF_COMPRESSION: Final = frozenset(
    (
        *("PixelData", "PhotometricInterpretation", "PlanarConfiguration", "LossyImageCompression"),
        *("LossyImageCompressionRatio", "LossyImageCompressionMethod"),
    )
)
_AT_ONCE: Final = 2**20
_DIGEST_BYTES: Final = 8
_PIXEL_DATA: Final = 0x7FE00010
_PLACE: Final = struct.Struct(">LBL")  # tag, how deep in sequences it lies, how much lies in it
_PADDING: Final = b"\0 "


@dataclass
class _Digests(Walk):
    """A digest of each attribute at the top level, whatever the encoding of the data set around its values."""

    digests: dict[int, bytes] = field(default_factory=dict)

    def _value(self, tag: int, vr: bytes, length: int, at: int, end: int, depth: int, implicit: bool) -> int:
        if not depth:
            self._digest = blake2b(digest_size=_DIGEST_BYTES)
        before = self.elements
        behind = super()._value(tag, vr, length, at, end, depth, implicit)
        inside = self.elements - before  # items, and elements in them
        if not inside and length != UNDEFINED:
            self.stream.seek(at)
            self._add(min(length, end - at))
        self._digest.update(_PLACE.pack(tag, depth, inside))
        if not depth:
            self.digests[tag] = self._digest.digest()
        return behind

    def rest(self) -> bytes:
        """Returns a digest of what lies behind the walk, from the length of the pixel data on; b"" for nothing."""
        self._digest = blake2b(digest_size=_DIGEST_BYTES)
        before = self.stream.tell()
        self._add(self.end - before)
        return self._digest.digest() if self.stream.tell() > before else b""

    def _add(self, length: int) -> None:
        """Adds the next bytes to the digest, without the padding at their end (PS3.5 section 6.2)."""
        while length > 0 and (piece := self.stream.read(min(length, _AT_ONCE))):
            length -= len(piece)
            self._digest.update(piece if length > 0 else piece.rstrip(_PADDING))


_LEAST_ELEMENT: Final = 8  # bytes of an element without a value


@dataclass
class _Ends(Walk):
    """Walks to the end of the pixels and what follows them, to see whether the file was cut off."""

    stop_at: int = 2**32
    has_pixels: bool = False

    def run_to_end(self) -> bool:
        """Returns whether the file ends with an element, and each sequence without a length by its delimiter.

        A few zeros behind the last element, too few for another, are padding of whoever wrote the file.
        Fragments of pixels are such a sequence (PS3.5 section A.4): a file may be cut off between two of them.

        Raises:
            LimitError: when the data set is beyond a limit.
        """
        self._behind, self._open_end = self.end, False
        self.run()
        return not self._open_end and (self._behind == self.end or self._is_padded())

    def _is_padded(self) -> bool:
        rest = self.end - self._behind
        if not 0 < rest < _LEAST_ELEMENT:
            return False
        self.stream.seek(self._behind)
        return not any(self.stream.read(rest))

    def _elements(self, at: int, end: int, depth: int, implicit: bool) -> int:
        behind = super()._elements(at, end, depth, implicit)
        if not depth:
            self._behind = behind
        return behind

    def _value(self, tag: int, vr: bytes, length: int, at: int, end: int, depth: int, implicit: bool) -> int:
        self.has_pixels = self.has_pixels or (not depth and tag == _PIXEL_DATA)
        if not depth and tag >= PIXELS_FROM and length != UNDEFINED:
            return at + length  # the limits are those of what stands before the pixels
        behind = super()._value(tag, vr, length, at, end, depth, implicit)
        if length == UNDEFINED and self.delimited != (depth + 1, behind):
            self._open_end = True
        return behind


W = TypeVar("W", bound=Walk)


def differing_attributes(one: Path, other: Path) -> tuple[str, ...]:
    """Returns the keywords of the attributes whose values differ, in the order of their tags, PixelData last.

    A private attribute is named by its tag. Nothing is returned where one of the files cannot be read, or is beyond a
    limit.
    """
    try:
        first, second = _digests(one), _digests(other)
    except (DicomNodeError, *PYDICOM_ERRORS):
        return ()
    differ = (tag for tag in sorted(first.keys() | second.keys()) if first.get(tag) != second.get(tag))
    return tuple(map(_named, differ))


def is_correction(former: Path, later: Path, differing: Collection[str]) -> bool:
    """Whether the file `later` may take the place of `former`, from which it differs in these attributes.

    It does not where it is another slice, where it is the same image compressed in another way, where one of them
    cannot be read, and where it was cut off, has lost its pixels or has another matrix.
    """
    found = frozenset(differing)
    if not found or found & PLACE:
        return False
    try:
        with _walking(former, _Ends) as (before, _), _walking(later, _Ends) as (after, ends):
            whole = ends.run_to_end() and (ends.has_pixels or "PixelData" not in found)
            return whole and (before == after or not found <= _OF_COMPRESSION)
    except (DicomNodeError, *PYDICOM_ERRORS):
        return False


def _digests(path: Path) -> dict[int, bytes]:
    """Returns a digest of each attribute of a file, and one of all bytes from the pixels on."""
    with _walking(path, _Digests) as (_, walk):
        walk.run()
        return walk.digests | {_PIXEL_DATA: walk.rest()}


@contextmanager
def _walking(path: Path, kind: type[W]) -> Iterator[tuple[UID, W]]:
    """Opens a file; yields its transfer syntax and a walk of that kind through its data set, which has not begun."""
    data_set: BinaryIO
    with BoundedReader(path) as stream:
        syntax = UID(str(file_meta(stream).get("TransferSyntaxUID", "")))
        known = syntax.is_transfer_syntax
        data_set, end = stream, stream.size
        if known and syntax.is_deflated:
            content, _ = inflate(stream, HEADER_BYTES)
            data_set, end = io.BytesIO(content), len(content)
        yield (
            syntax,
            kind(
                data_set,
                end,
                implicit=known and syntax.is_implicit_VR,
                little=not known or syntax.is_little_endian,
                most_elements=MOST_COMPARED,
                kept_below=0,  # nothing is kept
            ),
        )


def _named(tag: int) -> str:
    return keyword_for_tag(tag) or f"({tag >> 16:04X},{tag & 0xFFFF:04X})"

"""DICOM files that cost their reader more than they should, as an attacker or a broken scanner makes them."""

import struct
import zlib
from pathlib import Path

from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from dicom_node.storage.part10 import file_start

STUDY, SERIES = "1.2.3", "1.2.3.4"
EMPTY_ITEM = b"\xfe\xff\x00\xe0" + bytes(4)
_LONG = {b"OB", b"SQ", b"UN", b"UT"}


def element(tag: int, vr: bytes, value: bytes, length: int | None = None) -> bytes:
    """One element, explicit VR little endian; `length` is what it claims to have."""
    size = len(value) if length is None else length
    head = struct.pack("<HH2s", tag >> 16, tag & 0xFFFF, vr)
    return head + (struct.pack("<HI", 0, size) if vr in _LONG else struct.pack("<H", size)) + value


def uid(tag: int, text: str) -> bytes:
    """A UID as an element."""
    value = text.encode()
    return element(tag, b"UI", value + bytes(len(value) % 2))


def data_set(
    sop_uid: str, *, before: bytes = b"", behind: bytes = b"", sop_class: str = CTImageStorage, series: str = SERIES
) -> bytes:
    """The UIDs of an image with `before` (groups below 0020) and `behind` (groups above) them."""
    start = uid(0x00080016, sop_class) + uid(0x00080018, sop_uid)
    return start + before + uid(0x0020000D, STUDY) + uid(0x0020000E, series) + behind


def deflated(content: bytes) -> bytes:
    """A data set as the deflated transfer syntax has it (PS3.5 A.5)."""
    squeezer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return squeezer.compress(content) + squeezer.flush()


def empty_items(count: int, tag: int = 0x00409096) -> bytes:
    """A sequence of that many empty items, its length defined: whoever asks for it builds them all."""
    return element(tag, b"SQ", EMPTY_ITEM * count)


def endless_items(count: int, tag: int = 0x00081140) -> bytes:
    """The same with a sequence of undefined length, which is built by reading alone."""
    return element(tag, b"SQ", EMPTY_ITEM * count + b"\xfe\xff\xdd\xe0" + bytes(4), 0xFFFFFFFF)


def deep(levels: int, tag: int = 0x00409096) -> bytes:
    """Sequences within each other."""
    start = element(tag, b"SQ", b"", 0xFFFFFFFF) + b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
    return start * levels + (b"\xfe\xff\x0d\xe0" + bytes(4) + b"\xfe\xff\xdd\xe0" + bytes(4)) * levels


def pixels(rows: int, columns: int, fragments: list[bytes]) -> bytes:
    """The pixel module of one 16-bit frame of that size, and these fragments as its encapsulated pixels."""
    words = (
        *((0x00280002, 1), (0x00280010, rows), (0x00280011, columns)),
        *((0x00280100, 16), (0x00280101, 16), (0x00280102, 15), (0x00280103, 0)),
    )
    module = b"".join(element(tag, b"US", struct.pack("<H", value)) for tag, value in words)
    items = b"".join(b"\xfe\xff\x00\xe0" + struct.pack("<I", len(one)) + one for one in (b"", *fragments))
    return module + element(0x7FE00010, b"OB", items + b"\xfe\xff\xdd\xe0" + bytes(4), 0xFFFFFFFF)


def j2k_bomb(size: int) -> bytes:
    """A JPEG 2000 frame of a few bytes that states size x size pixels (ISO 15444-1 A.5.1), as its header does."""
    stated = struct.pack(">4H8LHBBB", 0xFF4F, 0xFF51, 41, 0, size, size, 0, 0, size, size, 0, 0, 1, 15, 1, 1)
    return pixels(size, size, [stated + bytes(len(stated) % 2) + b"\xff\xd9"])


def rle_bomb(size: int) -> bytes:
    """An RLE frame (PS3.5 annex G) of runs, which unpack to 64 times their bytes."""
    return pixels(2**16 - 1, 2**16 - 1, [struct.pack("<16L", 1, 64, *[0] * 14) + b"\x81\0" * (size // 2)])


def part10(sop_uid: str, content: bytes, syntax: str = ExplicitVRLittleEndian) -> bytes:
    """A file of a data set."""
    return file_start(sop_class_uid=CTImageStorage, sop_uid=sop_uid, transfer_syntax=syntax) + content


def deflate_bomb(sop_uid: str, inflated_bytes: int) -> bytes:
    """A data set that inflates to a private value of so many bytes, which nobody asked for."""
    return deflated(data_set(sop_uid, behind=element(0x00291010, b"UN", bytes(inflated_bytes))))


def written(path: Path, content: bytes, syntax: str = ExplicitVRLittleEndian) -> Path:
    """A file of this data set at `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(part10(path.stem, content, syntax))
    return path


DEFLATED, IMPLICIT = DeflatedExplicitVRLittleEndian, ImplicitVRLittleEndian

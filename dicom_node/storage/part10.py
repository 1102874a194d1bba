"""Makes the beginning of a DICOM file for a data set that came over the network (PS3.10 section 7.1).

The data set follows byte for byte, so nothing is decoded, and one instance always becomes the same file.
"""

import struct
from typing import Final

# Every file of one instance must come out the same, so nothing here may depend on a version or on who sent it.
IMPLEMENTATION_CLASS_UID: Final = "2.25.314850391920961216248490419430131214225"  # derived_uid("voxtell-dicom")
IMPLEMENTATION_VERSION_NAME: Final = "VOXTELL_DICOM"

_PREAMBLE: Final = bytes(128) + b"DICM"
_SHORT_ELEMENT: Final = struct.Struct(
    "<HH2sH"
)  # group, element, VR, length: explicit VR little endian, PS3.5 section 7.1.2
_VERSION: Final = struct.pack("<HH2sHI", 0x0002, 0x0001, b"OB", 0, 2) + b"\x00\x01"


def file_start(*, sop_class_uid: str, sop_uid: str, transfer_syntax: str) -> bytes:
    """Returns what stands before a data set in a file: preamble, prefix, file meta information (PS3.10 table 7.1-1).

    The UIDs are written as given, padded to even length: characters other than ASCII become "?".
    """
    meta = b"".join(
        [
            _VERSION,
            _element(0x0002, b"UI", sop_class_uid),
            _element(0x0003, b"UI", sop_uid),
            _element(0x0010, b"UI", transfer_syntax),
            _element(0x0012, b"UI", IMPLEMENTATION_CLASS_UID),
            _element(0x0013, b"SH", IMPLEMENTATION_VERSION_NAME),
        ]
    )
    group_length = _SHORT_ELEMENT.pack(0x0002, 0x0000, b"UL", 4) + struct.pack("<I", len(meta))
    return _PREAMBLE + group_length + meta


def _element(element: int, vr: bytes, text: str) -> bytes:
    value = text.encode("ascii", "replace")  # a peer's UID may be anything; one that is not valid goes to quarantine
    if len(value) % 2:
        value += b"\x00" if vr == b"UI" else b" "  # PS3.5 section 6.2
    return _SHORT_ELEMENT.pack(0x0002, element, vr, len(value)) + value

"""Bytes of the DICOM upper layer and of DIMSE messages, made by hand."""

import struct

from pydicom.uid import CTImageStorage
from pynetdicom.dsutils import encode

from dicom_node.upper_layer.command import C_STORE_RQ
from tests.support.instances import small_instance

C_ECHO_RQ = 0x0030


def element(number: int, value: bytes) -> bytes:
    return struct.pack("<HHL", 0, number, len(value)) + value


def padded(uid: str) -> bytes:
    return uid.encode() + b"\0" * (len(uid) % 2)


def command(
    field: int = C_STORE_RQ,
    number: int = 7,
    sop_uid: str = "1.2.3.4",
    data_set: bool = True,
    sop_class: str = CTImageStorage,
) -> bytes:
    """A command set (PS3.7 section 6.3.1) with some elements that nobody needs."""
    return b"".join(
        [
            element(0x0000, struct.pack("<L", 0)),
            element(0x0002, padded(sop_class)),
            element(0x0100, struct.pack("<H", field)),
            element(0x0110, struct.pack("<H", number)),
            element(0x0700, struct.pack("<H", 0)),
            element(0x0800, struct.pack("<H", 0x0001 if data_set else 0x0101)),
            element(0x1000, padded(sop_uid)),
        ]
    )


Value = tuple[int, int, bytes]
"""Presentation context, message control header, fragment."""


def pdu(*values: Value) -> bytes:
    """A P-DATA-TF PDU (PS3.8 table 9-22)."""
    body = b"".join(struct.pack(">LBB", len(fragment) + 2, *header) + fragment for *header, fragment in values)
    return struct.pack(">BBL", 4, 0, len(body)) + body


def store(number: int, message: int = 7) -> tuple[bytes, bytes]:
    """Command set and data set of a C-STORE request."""
    content = encode(small_instance(number), is_implicit_vr=False, is_little_endian=True)
    assert content is not None
    return command(number=message, sop_uid=f"1.2.3.4.{number}"), content

"""Reads DIMSE command sets and writes those of C-STORE responses (PS3.7 sections 6.3.1, 9.3.1 and E.1).

A command set is a few elements of group 0000, always in implicit VR little endian, whatever transfer syntax the data
set behind it has. pynetdicom would make a pydicom data set of each, which costs more than the C-STORE itself.
"""

import struct
from dataclasses import dataclass
from typing import Final

from dicom_node.errors import DicomNodeError

C_STORE_RQ: Final = 0x0001
_C_STORE_RSP: Final = 0x8001
_NO_DATA_SET: Final = 0x0101

# Elements of group 0000.
_GROUP_LENGTH: Final = 0x0000
_AFFECTED_SOP_CLASS: Final = 0x0002
_COMMAND_FIELD: Final = 0x0100
_MESSAGE_ID: Final = 0x0110
_ANSWERED_ID: Final = 0x0120
_DATA_SET_TYPE: Final = 0x0800
_STATUS: Final = 0x0900
_ERROR_COMMENT: Final = 0x0902
_AFFECTED_INSTANCE: Final = 0x1000

_ELEMENT: Final = struct.Struct("<HHL")  # group, element, length (PS3.5 section 7.1.3)
_NUMBER: Final = struct.Struct("<H")


class MalformedCommandError(DicomNodeError):
    """The bytes are no command set; their association cannot go on and is aborted."""


@dataclass(frozen=True, slots=True)
class Command:
    """The elements of a command set that say what follows it, and how to answer it if it is a C-STORE request.

    The UIDs are as the peer sent them, without padding and without being checked; each is empty where the command set
    has none. `message_id` is 0 where there is none.
    """

    field: int  # Command Field (0000,0100): which message it is
    message_id: int
    has_data_set: bool  # Command Data Set Type (0000,0800): a data set follows
    sop_class_uid: str
    sop_uid: str


def read_command(content: bytes) -> Command:
    """Reads a whole command set.

    Raises:
        MalformedCommandError: when an element is cut off or of another group, or when Command Field or Command Data
            Set Type is missing.
    """
    values: dict[int, bytes] = {}
    place = 0
    while place < len(content):
        if len(content) < place + _ELEMENT.size:
            raise MalformedCommandError("a command set ends within an element")
        group, element, length = _ELEMENT.unpack_from(content, place)
        place += _ELEMENT.size
        if group != 0 or length > len(content) - place:
            raise MalformedCommandError(f"a command set holds ({group:04X},{element:04X}) with {length} bytes")
        values[element] = content[place : place + length]
        place += length
    return Command(
        field=_number(values, _COMMAND_FIELD),
        message_id=_number(values, _MESSAGE_ID, 0),
        has_data_set=_number(values, _DATA_SET_TYPE) != _NO_DATA_SET,
        sop_class_uid=_text(values, _AFFECTED_SOP_CLASS),
        sop_uid=_text(values, _AFFECTED_INSTANCE),
    )


def store_response(request: Command, status: int, comment: str = "") -> bytes:
    """Returns the command set of the response to a C-STORE `request` (PS3.7 section 9.3.1.2).

    `comment` becomes the Error Comment (0000,0902) and must fit LO (at most 64 characters of Latin-1); "" leaves it
    out. The UIDs go back as they came.
    """
    elements = b"".join(
        [
            _element(_AFFECTED_SOP_CLASS, _padded(request.sop_class_uid, b"\0")),
            _element(_COMMAND_FIELD, _NUMBER.pack(_C_STORE_RSP)),
            _element(_ANSWERED_ID, _NUMBER.pack(request.message_id)),
            _element(_DATA_SET_TYPE, _NUMBER.pack(_NO_DATA_SET)),
            _element(_STATUS, _NUMBER.pack(status)),
            _element(_ERROR_COMMENT, _padded(comment, b" ")) if comment else b"",
            _element(_AFFECTED_INSTANCE, _padded(request.sop_uid, b"\0")),
        ]
    )
    return _element(_GROUP_LENGTH, struct.pack("<L", len(elements))) + elements


def _element(element: int, value: bytes) -> bytes:
    return _ELEMENT.pack(0, element, len(value)) + value


def _padded(text: str, padding: bytes) -> bytes:
    value = text.encode("latin-1")
    return value + padding if len(value) % 2 else value


def _number(values: dict[int, bytes], element: int, default: int | None = None) -> int:
    value = values.get(element)
    if value is None and default is not None:
        return default
    if value is None or len(value) != _NUMBER.size:
        raise MalformedCommandError(f"a command set without a number in (0000,{element:04X})")
    return int(_NUMBER.unpack(value)[0])


def _text(values: dict[int, bytes], element: int) -> str:
    """Returns a UID without its padding; a peer's may be anything, so each byte becomes one character."""
    return values.get(element, b"").rstrip(b"\0 ").decode("latin-1")

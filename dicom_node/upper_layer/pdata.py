"""Reads P-DATA-TF PDUs (PS3.8 section 9.3.5) out of a stream of bytes without copying, and writes them.

A PDU is a header (type, length) and one or more presentation data values; each has a header of its own (length,
presentation context, message control header: annex E) and a fragment of a command set or of a data set. The stream may
be cut anywhere: the bytes of a fragment are given out as they come, so that no PDU is ever held as a whole.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from dicom_node.errors import DicomNodeError

P_DATA_TF: Final = 0x04  # PDU type

_COMMAND: Final = 0x01  # bits of the message control header; receivers do not look at the others
_LAST: Final = 0x02

_PDU_HEADER: Final = struct.Struct(">BxL")
_PDV_HEADER: Final = struct.Struct(">LBB")
_LEAST: Final = 2  # what a value's length counts besides the fragment: context and message control header


class MalformedPduError(DicomNodeError):
    """The PDU breaks PS3.8 section 9.3; its association cannot go on and is aborted."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Consecutive bytes of one fragment of a command set or of a data set.

    `content` is a view into the receive buffer: valid until the buffer is read into again, and empty only where an
    empty last fragment ends a message. `last` says that the command set or data set ends with this piece.
    """

    context_id: int
    is_command: bool
    content: memoryview
    last: bool


class PDataReader:
    """Follows the stream of P-DATA-TF PDUs of one connection across any cuts.

    The caller owns the buffer: it offers what it has to `pieces`, drops the first `taken` bytes, reads more behind the
    rest and offers that.
    """

    def __init__(self, longest: int) -> None:
        """Accepts PDUs of up to `longest` bytes, the maximum length that this side negotiated (PS3.8 annex D.1)."""
        self._longest = longest
        self._pdu_left = 0  # bytes of the present PDU behind the present value
        self._pdv_left = 0  # bytes of the present fragment
        self._open = False  # within a value
        self._context_id = 0
        self._control = 0
        self.pdus = 0  # that have begun
        self.taken = 0  # bytes of the latest `pieces` that need not be given again

    @property
    def inside(self) -> bool:
        """Whether it is in the middle of a PDU, where no PDU of another type can begin."""
        return self._open or self._pdu_left > 0

    def pieces(self, stream: memoryview) -> Iterator[Piece]:
        """Yields the pieces in `stream` until it ends or a PDU of another type begins; `taken` grows with each.

        The caller may stop between two pieces; it goes on with a stream that begins at `taken`.

        Raises:
            MalformedPduError: when a PDU is longer than negotiated, or a value does not fit into its PDU.
        """
        self.taken = 0
        while self._open or self._next_value(stream):
            content = stream[self.taken : self.taken + self._pdv_left]
            self.taken += len(content)
            self._pdv_left -= len(content)
            self._open = self._pdv_left > 0
            last = not self._open and bool(self._control & _LAST)
            if content or last:
                yield Piece(self._context_id, bool(self._control & _COMMAND), content, last)
            if self._open:
                return

    def _next_value(self, stream: memoryview) -> bool:
        """Reads the headers before the next fragment; returns False when they are not there as a whole."""
        place, left = self.taken, self._pdu_left
        if left == 0:
            if len(stream) < place + _PDU_HEADER.size:
                return False
            kind, left = _PDU_HEADER.unpack_from(stream, place)
            if kind != P_DATA_TF:
                return False
            if left > self._longest:
                raise MalformedPduError(f"a PDU of {left} bytes where {self._longest} were negotiated")
            place += _PDU_HEADER.size
        if left < _PDV_HEADER.size:
            raise MalformedPduError(f"{left} bytes of a PDU cannot hold a presentation data value")
        if len(stream) < place + _PDV_HEADER.size:
            return False
        self.pdus += self._pdu_left == 0
        length, self._context_id, self._control = _PDV_HEADER.unpack_from(stream, place)
        if not _LEAST <= length <= left - 4:
            raise MalformedPduError(f"a presentation data value of {length} bytes in {left} bytes of a PDU")
        self.taken = place + _PDV_HEADER.size
        self._pdv_left = length - _LEAST
        self._pdu_left = left - 4 - length
        self._open = True
        return True


def command_pdus(context_id: int, command: bytes, longest: int) -> bytes:
    """Returns the P-DATA-TF PDUs that carry a command set in a presentation context, one fragment each.

    `longest` is the maximum length in bytes that the peer negotiated (PS3.8 annex D.1); 0 stands for any length.
    """
    size = max(longest - _PDV_HEADER.size, 1) if longest else len(command)
    pdus = b""
    for start in range(0, len(command), size):
        fragment = command[start : start + size]
        control = _COMMAND | (_LAST if start + size >= len(command) else 0)
        value = _PDV_HEADER.pack(len(fragment) + _LEAST, context_id, control) + fragment
        pdus += _PDU_HEADER.pack(P_DATA_TF, len(value)) + value
    return pdus

"""Puts DIMSE messages together from their pieces (PS3.7 section 6.3); serves C-STORE requests, passes others on.

A message is a command set and, when the command says so, a data set; all of its pieces come in one presentation
context, and those of two messages do not mix. Without asynchronous operations (PS3.7 annex D.3.3.3), which this node
does not negotiate, a sender waits for each response. So one request is served to its end before anything after it is
looked at, and its response never leaves before its instance is durable.

Everything here runs in the thread of the association's upper layer.
"""

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple, Protocol

from pydicom.uid import UID

from dicom_node.upper_layer.command import C_STORE_RQ, Command, read_command, store_response
from dicom_node.upper_layer.pdata import MalformedPduError, Piece

_LONGEST_COMMAND: Final = 2**15  # bytes; real ones have some hundred
_LONGEST_PASSED_ON: Final = 2**23  # bytes of a data set that is held in memory: a commitment for 50,000 instances


class Storing(Protocol):
    """A C-STORE request that is being served, from its command set on.

    `write` is called for each piece of the data set, then `finish` once; or `discard` at any time, when the association
    is over before that. None of them may raise: their errors would end the association.
    """

    def write(self, content: memoryview) -> None:
        """Takes the next bytes of the data set, valid during the call only; `finish` reports what went wrong."""

    def finish(self) -> tuple[int, str]:
        """Ends the request when its data set is whole; returns status (PS3.4 table B.2-1) and Error Comment or ""."""

    def discard(self) -> None:
        """Drops what came of the data set; called when its association ended within it, and harmless after `finish`."""


class StorageContext(NamedTuple):
    """An accepted presentation context: what may come in it (PS3.8 section 9.3.3.2)."""

    sop_class_uid: UID
    transfer_syntax: UID


BeginStoring = Callable[[Command, StorageContext], Storing]
"""Begins to serve a C-STORE request; given its command set and the presentation context in which it comes."""

PassOn = Callable[[int, bytes], None]
"""Takes a whole command set or data set of another message; given the presentation context ID and the bytes of one
presentation data value behind its context ID, which begin with the message control header (PS3.8 annex E.2)."""


class Messages:
    """The messages of one association, taken apart piece by piece."""

    def __init__(self, contexts: Mapping[int, StorageContext], begin: BeginStoring, pass_on: PassOn) -> None:
        """Serves C-STORE requests in `contexts` by `begin`, and hands everything else to `pass_on`.

        `contexts` has the presentation contexts that were accepted for storage, by their IDs.
        """
        self._contexts = contexts
        self._begin = begin
        self._pass_on = pass_on
        self._context_id: int | None = None  # of the message that is coming
        self._command = bytearray()
        self._request: Command | None = None  # its command set is complete, its data set is coming
        self._storing: Storing | None = None  # it is a C-STORE
        self._fragment = bytearray()  # of a data set that is passed on

    def take(self, piece: Piece) -> bytes:
        """Works on the next piece; returns the command set to answer with in its context, b"" when there is none (yet).

        Raises:
            MalformedPduError: when the piece belongs to no message as PS3.7 orders them, or the message is too long.
            MalformedCommandError: when the command set cannot be read. Either way the association must be aborted.
        """
        if self._context_id not in (None, piece.context_id):
            raise MalformedPduError(f"presentation context {piece.context_id} within a message of {self._context_id}")
        self._context_id = piece.context_id
        if piece.is_command is (self._request is not None):
            raise MalformedPduError("a command set where a data set belongs, or the other way round")
        if self._request is None:
            return self._take_command(piece)
        return self._take_data(piece)

    def discard(self) -> None:
        """Drops the message that is coming, because its association is over; does nothing between messages."""
        if self._storing:
            self._storing.discard()
        self._context_id = self._request = self._storing = None
        self._command.clear()
        self._fragment.clear()

    def _take_command(self, piece: Piece) -> bytes:
        self._command += piece.content
        if len(self._command) > _LONGEST_COMMAND:
            raise MalformedPduError(f"a command set of more than {_LONGEST_COMMAND} bytes")
        if not piece.last:
            return b""
        content = bytes(self._command)
        self._command.clear()
        request = read_command(content)
        if request.field == C_STORE_RQ and piece.context_id in self._contexts:
            self._storing = self._begin(request, self._contexts[piece.context_id])
        else:
            self._pass_on(piece.context_id, b"\x03" + content)
        self._request = request
        return b"" if request.has_data_set else self._end()

    def _take_data(self, piece: Piece) -> bytes:
        if self._storing:
            self._storing.write(piece.content)
        else:
            self._fragment += piece.content
            if len(self._fragment) > _LONGEST_PASSED_ON:
                raise MalformedPduError(f"a data set of more than {_LONGEST_PASSED_ON} bytes that is no instance")
            if piece.last:
                self._pass_on(piece.context_id, b"\x02" + bytes(self._fragment))
        return self._end() if piece.last else b""

    def _end(self) -> bytes:
        request, storing = self._request, self._storing
        response = store_response(request, *storing.finish()) if request and storing else b""
        self.discard()
        return response

"""DIMSE messages as they come in pieces (PS3.7 section 6.3): C-STORE requests are served here, others passed on.

A message is a command set and, when the command says so, a data set; all of its pieces come in one presentation
context, and those of two messages do not mix. Without asynchronous operations (PS3.7 annex D.3.3.3), which this node
does not negotiate, a sender waits for each response. So one request is served to its end before anything after it is
looked at, and its response never leaves before its instance is durable.
"""

from collections.abc import Callable, Mapping
from typing import Final, Protocol

from pydicom.uid import UID

from dicom_node.upper_layer.command import C_STORE_RQ, Command, read_command, store_response
from dicom_node.upper_layer.pdata import MalformedPduError, Piece

_LONGEST_COMMAND: Final = 2**15  # bytes; real ones have some hundred
_LONGEST_PASSED_ON: Final = 2**26  # bytes of a data set that is held in memory; real ones name some thousand instances


class Storing(Protocol):
    """One C-STORE request that is being served."""

    def write(self, content: memoryview) -> None:
        """Take the next bytes of the data set; whatever is wrong is said by `finish`."""

    def finish(self) -> tuple[int, str]:
        """The status of PS3.4 table B.2-1, when the data set is complete, and an error comment."""

    def discard(self) -> None:
        """Leave nothing behind of what did not finish."""


BeginStoring = Callable[[Command, UID], Storing]
"""Begins to serve a request whose data set comes in a transfer syntax."""

PassOn = Callable[[int, bytes], None]
"""Takes a fragment that is none of a C-STORE: presentation context, message control header with the fragment."""


class Messages:
    """The messages of one association."""

    def __init__(self, contexts: Mapping[int, UID], begin: BeginStoring, pass_on: PassOn) -> None:
        """`contexts` are those accepted for storage, with their transfer syntaxes."""
        self._contexts = contexts
        self._begin = begin
        self._pass_on = pass_on
        self._context_id: int | None = None  # of the message that is coming
        self._command = bytearray()
        self._request: Command | None = None  # its command set is complete, its data set is coming
        self._storing: Storing | None = None  # it is a C-STORE
        self._fragment = bytearray()  # of a data set that is passed on

    def take(self, piece: Piece) -> bytes:
        """Work on the next piece; the command set to answer with, empty when there is no answer (yet).

        Raises MalformedPduError or MalformedCommandError when the association cannot go on.
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
        """Drop the message that is coming: its association is over."""
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

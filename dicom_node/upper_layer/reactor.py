"""pynetdicom's association machinery, woken by what happens instead of looking every millisecond.

pynetdicom 3.0 polls: its upper layer sleeps 1 ms whenever socket and queue are empty, its association 1 ms before every
message; it reads a socket 4 kB at a time and makes objects of every PDU, every fragment and every message, which takes
most of the time of a C-STORE. The classes here take the places of its objects before an association starts. What they
do is unchanged, but for P-DATA: while an association is established, `Messages` takes the fragments as they come, and
pynetdicom gets those that are none of a C-STORE request.

Concurrency. Each association has two threads. That of the upper layer (`_UpperLayer.run`) is the only one that reads
the connection; it serves C-STORE requests from the first byte to the response, and sleeps in poll() on the connection
and on a socket pair, the bell, which `send_pdu` rings. The association's own thread (pynetdicom's `Association.run`)
answers C-ECHO, N-ACTION and so on, and waits on its queue of messages; `_News` puts an empty message there when the
upper layer has something else for it. Between the two there are queues only.
"""

import contextlib
import logging
import queue
import select
import socket
import time
from collections.abc import Callable
from typing import Any, Final

from pynetdicom.association import Association
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dul import DULServiceProvider
from pynetdicom.fsm import TRANSITION_TABLE, StateMachine
from pynetdicom.pdu_primitives import P_DATA

from dicom_node.upper_layer.command import MalformedCommandError
from dicom_node.upper_layer.messages import Messages, PassOn
from dicom_node.upper_layer.pdata import P_DATA_TF, MalformedPduError, PDataReader, Piece, command_pdus
from dicom_node.upper_layer.sockets import CONNECTION_CLOSED, BrokenPduError, BufferedSocket, SlowPeerError
from dicom_node.upper_layer.timers import use_steady_timers

_UPPER_LAYER_MILLISECONDS: Final = 50  # how late a timer of the upper layer may be seen
_ASSOCIATION_SECONDS: Final = 0.25  # how late an association sees that it has been idle for too long

_DATA_TRANSFER: Final = "Sta6"  # PS3.8 table 9-3
_INVALID_PDU: Final = "Evt19"  # PS3.8 table 9-10; the association is aborted

_log = logging.getLogger(__name__)

Serve = Callable[[Association, PassOn], Messages]
"""Makes what takes the messages of an association; called once, when its first P-DATA comes."""


def make_event_driven(association: Association, serve: Serve) -> None:
    """Let an association that has its connection but has not started wait for events instead of polling.

    `serve` is called once the association is established, in the thread of its upper layer, and returns what takes its
    messages.
    """
    connection = association.dul.socket.socket
    association.dimse = _MessageQueue(association)
    association.dul = _UpperLayer(association, connection, serve)
    association.acse_timeout = association.acse_timeout  # sets the new timers
    association.network_timeout = association.network_timeout
    association.set_socket(BufferedSocket(association, connection))


class _MessageQueue(DIMSEServiceProvider):  # type: ignore[misc]
    """Queue of complete messages, on which the association's thread sleeps instead of looking every millisecond."""

    def get_msg(self, block: bool = False) -> Any:
        """The next message with its context ID, or (None, None) when none came within a quarter of a second."""
        if block:
            return super().get_msg(block=True)
        try:
            return self.msg_queue.get(timeout=_ASSOCIATION_SECONDS)
        except queue.Empty:
            return None, None


class _News(queue.Queue[Any]):
    """Queue of what the upper layer tells an association: requests, releases, aborts.

    The association's thread waits on another queue, that of messages; an empty message there wakes it.
    """

    def __init__(self, messages: queue.Queue[Any]) -> None:
        super().__init__()
        self._messages = messages

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        """Tell, and wake the association's thread."""
        super().put(item, block, timeout)
        self._messages.put((None, None))


class _StateMachine(StateMachine):  # type: ignore[misc]
    """Closes the connection at an event that its state does not know; pynetdicom's thread would die of it."""

    def do_action(self, event: str) -> None:
        """Do what PS3.8 table 9-10 says for `event` in the present state."""
        if (event, self.current_state) not in TRANSITION_TABLE:
            peer = self.dul.peer
            reason = f"event {event} came in state {self.current_state}"
            _log.warning("connection_closed", extra={"peer": peer, "reason": reason})
            event = CONNECTION_CLOSED
        super().do_action(event)


class _UpperLayer(DULServiceProvider):  # type: ignore[misc]
    """An upper layer (PS3.8) that sleeps until its peer or its association has something for it.

    It is a thread: pynetdicom's loop calls `_is_transport_event` over and over, which here sleeps, and does what the
    state machine says between two calls. Other threads call `send_pdu`, `kill_dul` and `stop_dul` only.
    """

    def __init__(self, association: Association, connection: socket.socket, serve: Serve) -> None:
        """The upper layer of `association` over the accepted `connection`; it starts with the association."""
        super().__init__(association)
        use_steady_timers(self)
        self.state_machine = _StateMachine(self)
        self._run_loop_delay = 0.0  # seconds; `_wait` sleeps instead
        self._bell, self._button = socket.socketpair()
        self._bell.setblocking(False)
        self._button.setblocking(False)
        self._news = select.poll()
        self._news.register(self._bell, select.POLLIN)
        self._news.register(connection, select.POLLIN)
        self.to_user_queue = _News(self.assoc.dimse.msg_queue)
        self._serve = serve
        self._data = PDataReader(self.assoc.acceptor.maximum_length)
        self._messages: Messages | None = None

    def run(self) -> None:
        """Serve the connection until its association is over, then drop what was half received (the thread itself)."""
        try:
            with self._bell, self._button:
                super().run()
        finally:
            if self._messages:
                self._messages.discard()

    def send_pdu(self, primitive: Any) -> None:
        """Queue a service primitive to be sent, and wake the thread; any thread may call it."""
        super().send_pdu(primitive)
        self._ring()

    def stop_dul(self) -> bool:
        """End the thread if the connection is over; False when it is not."""
        if self.state_machine.current_state == "Sta1":
            self.kill_dul()
            self._ring()
        return bool(super().stop_dul())

    def _ring(self) -> None:
        with contextlib.suppress(OSError):  # rung often enough, or over
            self._button.send(b"\0")

    def _is_transport_event(self) -> bool:
        if self.event_queue.empty() and self._wait() and self.state_machine.current_state == _DATA_TRANSFER:
            self._read_pdu_data()
            return False  # or pynetdicom would take every byte for a sign of life
        return bool(super()._is_transport_event())

    def _wait(self) -> bool:
        """Sleep until there are bytes to read (True), the bell rings or a timer may have run out (False)."""
        if self.socket.has_pending:
            return True
        if not self.socket.is_open:
            time.sleep(0.001)
            return False
        news = [descriptor for descriptor, _ in self._news.poll(_UPPER_LAYER_MILLISECONDS)]
        bell = self._bell.fileno()
        if bell in news:
            self._bell.recv(1024)
        return any(descriptor != bell for descriptor in news)

    @property
    def peer(self) -> str:
        """Who is at the other end, for the log: AE title and address, or the address before its request came."""
        peer = self.assoc.requestor
        return f"{peer.ae_title} at {peer.address}" if peer.ae_title else str(peer.address)

    # P-DATA

    def _read_pdu_data(self) -> None:
        """Take P-DATA as long as it comes; let pynetdicom read PDUs of other types."""
        try:
            while self._receive():
                pass
        except (MalformedPduError, MalformedCommandError) as error:
            _log.warning("association_aborted", extra={"peer": self.peer, "reason": str(error)})
            self.event_queue.put(_INVALID_PDU)
        except (SlowPeerError, BrokenPduError, ConnectionError) as error:
            _log.warning("connection_closed", extra={"peer": self.peer, "reason": str(error)})
            self.event_queue.put(CONNECTION_CLOSED)
        except OSError:
            self.event_queue.put(CONNECTION_CLOSED)

    def _receive(self) -> bool:
        """Work on the bytes that are there and read more; False when pynetdicom's loop has something to do.

        P-DATA is served in the state of data transfer only; in others it is passed over, as the state machine would do.
        """
        established = self.state_machine.current_state == _DATA_TRANSFER
        if established or self._data.inside:
            begun = self._data.pdus
            for piece in self._data.pieces(self.socket.pending):
                if established:
                    self._serve_piece(piece)
                if not self.event_queue.empty():
                    break
            self.socket.take(self._data.taken)
            if self._data.pdus > begun or (self._data.taken and not self._data.inside):
                self._idle_timer.restart()  # not at every byte: a PDU has to come to its end in time
        pending = self.socket.pending
        if not self._data.inside and not (established and pending[:1] in (b"", bytes([P_DATA_TF]))):
            timer = self._idle_timer if established else self.artim_timer
            self.socket.deadline = time.monotonic() + timer.remaining
            super()._read_pdu_data()
            return False
        self.socket.wants_more = True
        if not self.event_queue.empty() or not self.to_provider_queue.empty() or not self._wait():
            return False
        if not self.socket.fill():
            self.event_queue.put(CONNECTION_CLOSED)
            return False
        return True

    def _serve_piece(self, piece: Piece) -> None:
        if self._messages is None:
            self._messages = self._serve(self.assoc, self._pass_on)
        if response := self._messages.take(piece):
            self.socket.send(command_pdus(piece.context_id, response, self.assoc.requestor.maximum_length))

    def _pass_on(self, context_id: int, fragment: bytes) -> None:
        primitive = P_DATA()
        primitive.presentation_data_value_list.append([context_id, fragment])
        self.assoc.dimse.receive_primitive(primitive)

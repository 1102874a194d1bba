"""pynetdicom's association machinery, woken by what happens instead of looking every millisecond.

pynetdicom 3.0 polls: its upper layer sleeps 1 ms whenever socket and queue are empty, its association 1 ms before every
message; it reads a socket 4 kB at a time and makes objects of every PDU, every fragment and every message, which takes
most of the time of a C-STORE. The classes here take the places of its objects before an association starts. What they
do is unchanged, but for P-DATA: while an association is established, `Messages` takes the fragments as they come, in
the thread of the upper layer, and pynetdicom gets those that are none of a C-STORE request.
"""

import contextlib
import logging
import queue
import select
import socket
import ssl
import time
from collections.abc import Callable
from typing import Any, Final

from pynetdicom.association import Association
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dul import DULServiceProvider
from pynetdicom.fsm import TRANSITION_TABLE, StateMachine
from pynetdicom.pdu_primitives import P_DATA

from dicom_node.errors import DicomNodeError
from dicom_node.upper_layer.command import MalformedCommandError
from dicom_node.upper_layer.messages import Messages, PassOn
from dicom_node.upper_layer.pdata import P_DATA_TF, MalformedPduError, PDataReader, Piece, command_pdus
from dicom_node.upper_layer.sockets import CONNECTION_CLOSED, OwnSocket
from dicom_node.upper_layer.timers import steady

_UPPER_LAYER_MILLISECONDS: Final = 50  # how late a timer of the upper layer may be seen
_ASSOCIATION_SECONDS: Final = 0.25  # how late an association sees that it has been idle for too long
_BUFFER_BYTES: Final = 2**18
_LONGEST_CONTROL_PDU: Final = 2**20  # bytes; an A-ASSOCIATE-RQ with 128 contexts has less

_SMALL_READ: Final = 2**15  # bytes; who sends more at a time has more to send
_ACKNOWLEDGE_AT_ONCE: Final[int | None] = getattr(socket, "TCP_QUICKACK", None)  # Linux

_DATA_TRANSFER: Final = "Sta6"  # PS3.8 table 9-3
_INVALID_PDU: Final = "Evt19"  # PS3.8 table 9-10; the association is aborted

_log = logging.getLogger(__name__)

Serve = Callable[[Association, PassOn], Messages]
"""What takes the messages of an association that is established."""


class SlowPeerError(DicomNodeError):
    """A PDU did not come to its end in time."""


class BrokenPduError(DicomNodeError):
    """The connection broke within a PDU."""


def make_event_driven(association: Association, serve: Serve) -> None:
    """Let an association that has its socket but has not started wait for events."""
    association.dul.socket.__class__ = _Socket
    association.dul.socket.prepare()
    association.dimse.__class__ = _Messages
    association.dul.__class__ = _UpperLayer
    association.dul.prepare(serve)


class _Socket(OwnSocket):
    """Reads what is there into one buffer."""

    def prepare(self) -> None:
        """What a new object would do on creation."""
        self._buffer = memoryview(bytearray(_BUFFER_BYTES))
        self._start = self._end = 0
        self.wants_more = False  # what is pending means nothing before more comes
        self._news = select.poll()
        self._news.register(self.socket, select.POLLIN)
        self.deadline = 0.0  # on the monotonic clock, for the PDU that `recv` reads

    @property
    def is_open(self) -> bool:
        """True until it is closed, by whichever thread; its descriptor may be another's after that."""
        return self.socket is not None and self.socket.fileno() >= 0

    @property
    def pending(self) -> memoryview:
        """What was read and not taken yet."""
        return self._buffer[self._start : self._end]

    def take(self, count: int) -> None:
        """Forget the first `count` bytes of `pending`."""
        self._start += count

    def fill(self) -> bool:
        """Wait for more and read it; False when the connection is at its end. Raises OSError."""
        rest = bytes(self.pending)  # a part of a header, if anything
        self._buffer[: len(rest)] = rest
        count = self.socket.recv_into(self._buffer[len(rest) :])
        self._start, self._end = 0, len(rest) + count
        self.wants_more = False
        # A sender that collects small writes (Nagle, as most do) waits for the acknowledgement that we would put off
        # for 40 ms. Linux forgets the wish after a while.
        if count < _SMALL_READ and _ACKNOWLEDGE_AT_ONCE is not None:
            self.socket.setsockopt(socket.IPPROTO_TCP, _ACKNOWLEDGE_AT_ONCE, 1)
        return bool(count)

    def recv(self, nr_bytes: int) -> bytearray:
        """Read `nr_bytes` of what is no P-DATA, or fewer when the peer closes.

        Raises SlowPeerError, BrokenPduError: of an OSError pynetdicom would log the traceback.
        """
        if nr_bytes > _LONGEST_CONTROL_PDU:
            raise BrokenPduError(f"a PDU of {nr_bytes} bytes that is no P-DATA")
        content = bytearray(nr_bytes)
        filled = min(nr_bytes, len(self.pending))
        content[:filled] = self.pending[:filled]
        self.take(filled)
        with memoryview(content) as view:
            while filled < nr_bytes and (count := self._recv_in_time(view[filled:])):
                filled += count
        del content[filled:]
        return content

    def _recv_in_time(self, view: memoryview) -> int:
        patience = self.socket.gettimeout()
        left = self.deadline - time.monotonic()
        try:
            if left <= 0:
                raise TimeoutError
            self.socket.settimeout(left)
            count = int(self.socket.recv_into(view))
        except TimeoutError:
            raise SlowPeerError from None
        except OSError as error:
            raise BrokenPduError(str(error)) from None
        self.socket.settimeout(patience)
        return count

    @property
    def ready(self) -> bool:
        """True when there is something to read; a connection that is closed says so as an event."""
        if self.has_pending:
            return True
        if not self.is_open:
            self.event_queue.put(CONNECTION_CLOSED)
            return False
        return bool(self._news.poll(0))

    @property
    def has_pending(self) -> bool:
        """True when something can be read without waiting for the peer."""
        if self._start < self._end and not self.wants_more:
            return True
        return isinstance(self.socket, ssl.SSLSocket) and bool(self.socket.pending())


class _Messages(DIMSEServiceProvider):  # type: ignore[misc]
    """Messages that an association waits for."""

    def get_msg(self, block: bool = False) -> Any:
        """The next message, or (None, None) when none came."""
        if block:
            return super().get_msg(block=True)
        try:
            return self.msg_queue.get(timeout=_ASSOCIATION_SECONDS)
        except queue.Empty:
            return None, None


class _News(queue.Queue[Any]):
    """What the upper layer tells an association, which waits for messages meanwhile."""

    def __init__(self, messages: queue.Queue[Any]) -> None:
        super().__init__()
        self._messages = messages

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        """Tell, and wake the association."""
        super().put(item, block, timeout)
        self._messages.put((None, None))


class _StateMachine(StateMachine):  # type: ignore[misc]
    """Closes the connection at an event that its state does not know; pynetdicom's thread would die of it."""

    def do_action(self, event: str) -> None:
        """Do what PS3.8 table 9-10 says."""
        if (event, self.current_state) not in TRANSITION_TABLE:
            peer = self.dul.peer
            _log.warning("connection from %s closed: event %s came in state %s", peer, event, self.current_state)
            event = CONNECTION_CLOSED
        super().do_action(event)


class _UpperLayer(DULServiceProvider):  # type: ignore[misc]
    """An upper layer (PS3.8) that sleeps until its peer or its association has something for it."""

    def prepare(self, serve: Serve) -> None:
        """What a new object would do on creation."""
        steady(self)
        self.state_machine.__class__ = _StateMachine
        self._run_loop_delay = 0.0
        self._bell, self._button = socket.socketpair()
        self._bell.setblocking(False)
        self._button.setblocking(False)
        self._news = select.poll()
        self._news.register(self._bell, select.POLLIN)
        self._news.register(self.socket.socket, select.POLLIN)
        self.to_user_queue = _News(self.assoc.dimse.msg_queue)
        self._serve = serve
        self._data = PDataReader(self.assoc.acceptor.maximum_length)
        self._messages: Messages | None = None

    def run(self) -> None:
        """Serve the connection, then free what was taken for it."""
        try:
            with self._bell, self._button:
                super().run()
        finally:
            if self._messages:
                self._messages.discard()

    def send_pdu(self, primitive: Any) -> None:
        """Hand something over to be sent, and say so."""
        super().send_pdu(primitive)
        self._ring()

    def stop_dul(self) -> bool:
        """End the thread if the connection is over."""
        if self.state_machine.current_state == "Sta1":
            self._kill_thread = True
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
        """Until the peer sends, then True; or until something else is to be done."""
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
        """Who is at the other end, as far as that is known."""
        peer = self.assoc.requestor
        return f"{peer.ae_title} at {peer.address}" if peer.ae_title else str(peer.address)

    # P-DATA

    def _read_pdu_data(self) -> None:
        """Take P-DATA as long as it comes; let pynetdicom read PDUs of other types."""
        try:
            while self._receive():
                pass
        except (MalformedPduError, MalformedCommandError) as error:
            _log.warning("association with %s aborted: %s", self.peer, error)
            self.event_queue.put(_INVALID_PDU)
        except (SlowPeerError, BrokenPduError, ConnectionError) as error:
            _log.warning("connection from %s closed: %s", self.peer, error)
            self.event_queue.put(CONNECTION_CLOSED)
        except OSError:
            self.event_queue.put(CONNECTION_CLOSED)

    def _receive(self) -> bool:
        """Work on what is pending and read more; False when the reactor has something to do."""
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

"""The upper layer (PS3.8) of an association that is opened to the node, woken by what happens.

pynetdicom 3.0 polls: its upper layer sleeps 1 ms whenever socket and queue are empty, its association 1 ms before every
message; it reads a socket 4 kB at a time and makes objects of every PDU, every fragment and every message, which takes
most of the time of a C-STORE; and it dies of PDUs that it does not like. The classes here and in `association` take
the places of its objects before an association starts. PDUs are read here: an A-ASSOCIATE-RQ by `request`, the short
ones by their type alone. While an association is established, `Messages` takes the fragments of P-DATA as they come,
and pynetdicom gets those that are none of a C-STORE request.

Concurrency. Each association has two threads. That of the upper layer (`UpperLayer.run`) is the only one that reads
the connection; it serves C-STORE requests from the first byte to the response, and sleeps in poll() on the connection
and on a socket pair, the bell, which `send_pdu` rings. The association's own thread (`AcceptedAssociation.run`)
answers C-ECHO, N-ACTION and so on, and waits on its queue of messages; `News` puts an empty message there when the
upper layer has something else for it. Between the two there are queues only. Whatever either thread raises closes the
connection, and is one line of the log.
"""

import contextlib
import queue
import select
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from pynetdicom.association import Association
from pynetdicom.dul import DULServiceProvider
from pynetdicom.pdu import A_ABORT_RQ, A_ASSOCIATE_AC, A_ASSOCIATE_RQ, A_RELEASE_RP, A_RELEASE_RQ, P_DATA_TF
from pynetdicom.pdu_primitives import A_ABORT, A_ASSOCIATE, P_DATA

from dicom_node.images.pydicom_errors import PYDICOM_ERRORS
from dicom_node.upper_layer.command import MalformedCommandError
from dicom_node.upper_layer.fault_log import FaultLog, unforeseen
from dicom_node.upper_layer.messages import Messages, PassOn
from dicom_node.upper_layer.pdata import P_DATA_TF as P_DATA_TYPE
from dicom_node.upper_layer.pdata import MalformedPduError, PDataReader, Piece, command_pdus
from dicom_node.upper_layer.request import AssociationRequest, read_request
from dicom_node.upper_layer.sockets import CONNECTION_CLOSED, BrokenPduError, SlowPeerError
from dicom_node.upper_layer.state_machine import (
    AWAITING_CLOSE,
    DATA_TRANSFER,
    IDLE,
    INVALID_PDU,
    REQUEST_CAME,
    TIME_IS_UP,
    AcceptorStateMachine,
)
from dicom_node.upper_layer.timers import use_steady_timers

_UPPER_LAYER_MILLISECONDS: Final = 50  # how late a timer of the upper layer may be seen

_PDU_HEADER: Final = struct.Struct(">BxL")
_ASSOCIATE_RQ: Final = 0x01  # PDU type (PS3.8 section 9.3)
_SHORT_PDUS: Final = {
    0x04: (P_DATA_TF, "Evt10"),  # where no data can come: it is passed over or ends the association
    0x05: (A_RELEASE_RQ, "Evt12"),
    0x06: (A_RELEASE_RP, "Evt13"),
    0x07: (A_ABORT_RQ, "Evt16"),
}
"""PDUs whose content changes nothing, with their events: what they hold is not looked at. A peer that calls sends no
A-ASSOCIATE-AC or -RJ."""

_REFUSALS: Final = {
    (1, 3): "its AE title is not in the list",
    (1, 7): "it calls the node by another AE title",
    (3, 2): "the limit of associations is reached",
}
"""Why pynetdicom rejects an association, by source and reason (PS3.8 table 9-21)."""

Serve = Callable[[Association, PassOn], Messages]
"""Makes what takes the messages of an association; called once, when its first P-DATA comes."""


class UpperLayer(DULServiceProvider):  # type: ignore[misc]
    """An upper layer (PS3.8) that sleeps until its peer or its association has something for it.

    It is a thread. Other threads call `send_pdu`, `kill_dul`, `stop_dul`, `fail` and `request` only.
    """

    def __init__(
        self,
        association: Association,
        connection: socket.socket,
        serve: Serve,
        news: queue.Queue[Any],
        on_request: Callable[[], None],
    ) -> None:
        """Prepares the upper layer of `association` over the accepted `connection`; it starts with the association.

        `serve` is called once the association is established, in this thread, and returns what takes its messages.
        `news` takes what the association's thread is to hear; `on_request` is called when its request has come.
        """
        super().__init__(association)
        use_steady_timers(self)
        self.state_machine = AcceptorStateMachine(self)
        self._run_loop_delay = 0.0  # seconds; `_wait` sleeps instead
        self._bell, self._button = socket.socketpair()
        self._bell.setblocking(False)
        self._button.setblocking(False)
        self._news = select.poll()
        self._news.register(self._bell, select.POLLIN)
        self._news.register(connection, select.POLLIN)
        self.to_user_queue = news
        self._serve = serve
        self._data = PDataReader(self.assoc.acceptor.maximum_length)
        self._messages: Messages | None = None
        self.request: AssociationRequest | None = None
        self._on_request = on_request
        self._odd_ids: dict[int, int] = {}  # of the peer's even context IDs
        self._even_ids: dict[int, int] = {}  # the other way round
        self.log = FaultLog(association.requestor.address)

    def run(self) -> None:
        """Serves the connection until its association is over, then drops what is half received; runs in the thread."""
        try:
            with self._bell, self._button:
                self._idle_timer.start()
                self.assoc._dul_ready.set()
                while not self._kill_thread:
                    self._step()
        except Exception as error:  # noqa: BLE001 (a door: the connection must not outlive its thread)
            self.fail(error)
            self.to_user_queue.put(None)  # nobody may wait for a request any more
            if self.state_machine.current_state != IDLE:
                self.state_machine.do_action(CONNECTION_CLOSED)
        finally:
            self.assoc._dul_ready.set()
            if self._messages:
                self._messages.discard()

    def _step(self) -> None:
        """Sends or reads one thing at most, and does what the state machine says of one event."""
        if self.artim_timer.expired:
            if self.request is None:
                self.log.closed("no association request came in time")
            self.event_queue.put(TIME_IS_UP)
        if not self._process_recv_primitive() and self._is_transport_event():
            self._idle_timer.restart()
        if not self.event_queue.empty():
            self.state_machine.do_action(self.event_queue.get(block=False))

    def send_pdu(self, primitive: Any) -> None:
        """Queues a service primitive to be sent, and wakes the thread; any thread may call it."""
        if isinstance(primitive, A_ASSOCIATE) and primitive.result:
            why = (primitive.result_source, primitive.diagnostic)
            self.log.refused(_REFUSALS.get(why, f"rejected with source and reason {why}"))
        elif isinstance(primitive, A_ABORT) and self.state_machine.current_state == DATA_TRANSFER:
            idle = self.idle_timer_expired()
            self.log.aborted("it was silent for too long" if idle else "the node ends it, or cannot serve its message")
        super().send_pdu(primitive)
        self._ring()

    def stop_dul(self) -> bool:
        """Ends the thread if the connection is over; returns False when it is not."""
        if self.state_machine.current_state == IDLE:
            self.kill_dul()
            self._ring()
        return bool(super().stop_dul())

    def fail(self, error: Exception) -> None:
        """Closes the connection for an error that no code foresaw, by a line that says what and where; any thread."""
        self.log.closed(unforeseen(error))
        self.socket.interrupt()
        self._ring()

    # what is sent

    def answer_request(self) -> str:
        """Hands the request to the association, or rejects it (PS3.8 table 9-6, AE-6); returns the next state."""
        self.artim_timer.stop()
        request = self.request
        if request is None:
            raise MalformedPduError("an event of a request that did not come")
        if request.rejection:
            self.log.refused(request.rejection.sentence)
            self.socket.send(request.rejection.encoded())
            self.artim_timer.start()
            return AWAITING_CLOSE
        if request.flaws:
            self.log.contexts_refused(request.flaws)
        self._odd_ids = request.odd_ids()
        self._even_ids = {odd: even for even, odd in self._odd_ids.items()}
        pdu = A_ASSOCIATE_RQ()
        pdu.decode(request.encoded())
        self.to_user_queue.put(pdu.to_primitive())
        return "Sta3"

    def _send(self, pdu: Any) -> None:
        """Sends a PDU, with the context IDs that the peer gave."""
        if self._even_ids:
            items = pdu.presentation_context if isinstance(pdu, A_ASSOCIATE_AC) else ()
            items = pdu.presentation_data_value_items if isinstance(pdu, P_DATA_TF) else items
            for item in items:
                item.presentation_context_id = self._even_ids.get(item.context_id, item.context_id)
        super()._send(pdu)

    def _ring(self) -> None:
        with contextlib.suppress(OSError):  # rung often enough, or over
            self._button.send(b"\0")

    def _is_transport_event(self) -> bool:
        if self.event_queue.empty() and self._wait() and self.state_machine.current_state == DATA_TRANSFER:
            self._read_pdu_data()
            return False  # or pynetdicom would take every byte for a sign of life
        if self.state_machine.current_state == AWAITING_CLOSE:  # pynetdicom would read on, and wait for what is cut off
            self.socket.drain()
            self.socket.close()
            return True
        return bool(super()._is_transport_event())

    def _wait(self) -> bool:
        """Sleeps until there are bytes to read (True), the bell rings or a timer may have run out (False)."""
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

    # what is received

    def _read_pdu_data(self) -> None:
        """Takes P-DATA as long as it comes, or reads one PDU of another type; what is wrong becomes an event."""
        try:
            while self._receive():
                pass
        except (MalformedPduError, MalformedCommandError) as error:
            self.log.aborted(str(error))
            self.event_queue.put(INVALID_PDU)
        except (SlowPeerError, BrokenPduError, ConnectionError) as error:
            self.log.closed(str(error))
            self.event_queue.put(CONNECTION_CLOSED)
        except OSError:
            self.event_queue.put(CONNECTION_CLOSED)

    def _receive(self) -> bool:
        """Works on the bytes that are there and reads more; returns False when pynetdicom's loop has something to do.

        P-DATA is served in the state of data transfer only; in others it is passed over, as the state machine would do.
        """
        established = self.state_machine.current_state == DATA_TRANSFER
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
        if not self._data.inside and not (established and pending[:1] in (b"", bytes([P_DATA_TYPE]))):
            timer = self._idle_timer if established else self.artim_timer
            self.socket.deadline = time.monotonic() + timer.remaining
            self._read_control_pdu()
            return False
        self.socket.wants_more = True
        if not self.event_queue.empty() or not self.to_provider_queue.empty() or not self._wait():
            return False
        if not self.socket.fill():
            self.event_queue.put(CONNECTION_CLOSED)
            return False
        return True

    def _read_control_pdu(self) -> None:
        """Reads a PDU that is no P-DATA of an established association, and puts its event into the queue."""
        head = self.socket.recv(_PDU_HEADER.size)
        if len(head) < _PDU_HEADER.size:
            self.event_queue.put(CONNECTION_CLOSED)
            return
        kind, length = _PDU_HEADER.unpack(head)
        if kind != _ASSOCIATE_RQ and kind not in _SHORT_PDUS:
            raise MalformedPduError(f"a PDU of type 0x{kind:02X}")
        content = self.socket.recv(length)
        if len(content) < length:
            raise BrokenPduError("the peer closed the connection within a PDU")
        if kind == _ASSOCIATE_RQ:
            request = read_request(bytes(head + content))
            if self.request is None:  # a second one ends the association
                self.request, self.log.calling_ae = request, request.calling_ae
                self._on_request()
            self.event_queue.put(REQUEST_CAME)
            return
        pdu, event = _SHORT_PDUS[kind]
        self._recv_pdu.put(_made(pdu))
        self.event_queue.put(event)

    def _serve_piece(self, piece: Piece) -> None:
        if self._messages is None:
            self._messages = self._serve(self.assoc, self._pass_on)
        odd = (
            replace(piece, context_id=self._odd_ids.get(piece.context_id, piece.context_id)) if self._odd_ids else piece
        )
        if response := self._messages.take(odd):
            self.socket.send(command_pdus(piece.context_id, response, self.assoc.requestor.maximum_length))

    def _pass_on(self, context_id: int, fragment: bytes) -> None:
        primitive = P_DATA()
        primitive.presentation_data_value_list.append([context_id, fragment])
        try:
            self.assoc.dimse.receive_primitive(primitive)
        except PYDICOM_ERRORS as error:  # of a command that is none, or lacks something; their texts quote values
            raise MalformedCommandError(f"a message that is not understood ({type(error).__name__})") from error


def _made(kind: Any) -> Any:
    """Returns a short PDU in its plainest form; an abort is one by the peer's service user."""
    pdu = kind()
    if isinstance(pdu, A_ABORT_RQ):
        pdu.source = pdu.reason_diagnostic = 0
    return pdu

"""pynetdicom's association machinery, woken by what happens instead of looking every millisecond.

pynetdicom 3.0 polls: its upper layer sleeps 1 ms whenever socket and queue are empty, its association 1 ms before every
message, and it reads a socket 4 kB at a time. With a C-STORE every few milliseconds that is most of the time of one
association. The classes here take the places of its objects before an association starts; what they do is unchanged.
"""

import contextlib
import queue
import select
import socket
import ssl
import time
from typing import Any, Final

from pynetdicom.association import Association
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dul import DULServiceProvider
from pynetdicom.transport import AssociationSocket

_UPPER_LAYER_SECONDS: Final = 0.05  # how late a timer of the upper layer may be seen
_ASSOCIATION_SECONDS: Final = 0.01  # how late an association sees its release


def make_event_driven(association: Association) -> None:
    """Let an association that has its socket but has not started wait for events."""
    association.dul.socket.__class__ = _Socket
    association.dimse.__class__ = _Messages
    association.dul.__class__ = _UpperLayer
    association.dul.prepare()


class _Socket(AssociationSocket):  # type: ignore[misc]
    """Reads in large pieces, and is closed also when its peer went first."""

    def recv(self, nr_bytes: int) -> bytearray:
        """Read `nr_bytes`, or fewer when the peer closes."""
        buffer = bytearray(nr_bytes)
        with memoryview(buffer) as view:
            filled = 0
            while filled < nr_bytes and (count := self.socket.recv_into(view[filled:])):
                filled += count
        del buffer[filled:]
        return buffer

    def _shutdown_socket(self) -> None:
        """Close also where shutting down fails because the peer is gone; pynetdicom leaves that to the garbage."""
        connection = self.socket
        super()._shutdown_socket()
        if connection is not None:
            connection.close()


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


class _UpperLayer(DULServiceProvider):  # type: ignore[misc]
    """An upper layer (PS3.8) that sleeps until its peer or its association has something for it."""

    def prepare(self) -> None:
        """What a new object would do on creation."""
        self._run_loop_delay = 0.0
        self._bell, self._button = socket.socketpair()
        self._bell.setblocking(False)
        self._button.setblocking(False)

    def run(self) -> None:
        """Serve the connection, then free what `prepare` took."""
        with self._bell, self._button:
            super().run()

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
        if self.event_queue.empty():
            self._wait()
        return bool(super()._is_transport_event())

    def _wait(self) -> None:
        connection = self.socket.socket if self.socket else None
        if isinstance(connection, ssl.SSLSocket) and connection.pending():
            return
        sources = [self._bell] if connection is None else [self._bell, connection]
        try:
            select.select(sources, [], [], _UPPER_LAYER_SECONDS)
        except (OSError, ValueError):  # the socket was closed meanwhile
            time.sleep(0.001)
        with contextlib.suppress(BlockingIOError):
            self._bell.recv(1024)

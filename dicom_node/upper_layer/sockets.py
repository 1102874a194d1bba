"""The socket of an association: waited for by poll(), read into one buffer, closed whenever it is given up.

`PolledSocket` serves an association that the node opens and leaves pynetdicom's ways of reading and sending alone.
`BufferedSocket` serves one that was opened to the node; only its upper layer's thread reads from it.
"""

import contextlib
import select
import socket
import ssl
import time
from typing import Final

from pynetdicom.association import Association
from pynetdicom.transport import AssociationSocket

from dicom_node.errors import DicomNodeError

CONNECTION_CLOSED: Final = "Evt17"  # transport connection closed, PS3.8 table 9-5

_BUFFER_BYTES: Final = 2**18
_LONGEST_CONTROL_PDU: Final = 2**20  # bytes; an A-ASSOCIATE-RQ with 128 contexts has less

_MOST_DRAINED: Final = 64  # reads of a buffer, from a peer that sends on
_SMALL_READ: Final = 2**15  # bytes; who sends more at a time has more to send
_ACKNOWLEDGE_AT_ONCE: Final[int | None] = getattr(socket, "TCP_QUICKACK", None)  # Linux


class SlowPeerError(DicomNodeError):
    """A PDU did not come to its end in time."""


class BrokenPduError(DicomNodeError):
    """The connection broke within a PDU."""


def acknowledge_at_once(connection: socket.socket) -> None:
    """Acknowledges what was read without the delay of 40 ms for which a sender of small writes (Nagle) would wait.

    To be called after each read: Linux forgets the wish after a while; other systems know none.
    """
    if _ACKNOWLEDGE_AT_ONCE is not None:
        connection.setsockopt(socket.IPPROTO_TCP, _ACKNOWLEDGE_AT_ONCE, 1)


class PolledSocket(AssociationSocket):  # type: ignore[misc]
    """Closes what pynetdicom 3.0 leaves to the garbage collector, and waits for descriptors of any number."""

    @property
    def ready(self) -> bool:
        """Whether there is something to read; puts CONNECTION_CLOSED into the event queue for a closed connection.

        By poll(), since select() knows no descriptor above 1023.
        """
        if self.socket is None or not self._is_connected:
            return False
        news = select.poll()
        try:
            news.register(self.socket, select.POLLIN)
        except (OSError, ValueError):
            self.event_queue.put(CONNECTION_CLOSED)
            return False
        decrypted = self.socket.pending() if isinstance(self.socket, ssl.SSLSocket) else 0
        return bool(decrypted or news.poll(0))

    def _shutdown_socket(self) -> None:
        """Closes the socket also where shutting down fails, because the peer is gone or was never there."""
        connection = self.socket
        super()._shutdown_socket()
        if connection is not None:
            connection.close()


class BufferedSocket(PolledSocket):
    """Reads all bytes that are there into one buffer, out of which the upper layer takes P-DATA without copying.

    pynetdicom reads 4 kB at a time. Of PDUs that are no P-DATA it still gets the bytes that it asks for, by `recv`.
    """

    def __init__(self, association: Association, connection: socket.socket) -> None:
        """Wraps the accepted `connection`, and tells the state machine of `association` that it is there."""
        super().__init__(association, client_socket=connection)
        self._buffer = memoryview(bytearray(_BUFFER_BYTES))
        self._start = self._end = 0  # of what was read and not taken, in the buffer
        self._poll = select.poll()
        self._poll.register(connection, select.POLLIN)
        self.wants_more = False  # set by the reader of `pending`: it can do nothing before more bytes come
        self.deadline = 0.0  # seconds on the monotonic clock, for the PDU that `recv` reads

    @property
    def is_open(self) -> bool:
        """Whether nobody has closed it yet; its descriptor may be another's after that."""
        return self.socket is not None and self.socket.fileno() >= 0

    @property
    def pending(self) -> memoryview:
        """What was read and not taken yet; valid until the next `fill`."""
        return self._buffer[self._start : self._end]

    def take(self, count: int) -> None:
        """Forgets the first `count` bytes of `pending`."""
        self._start += count

    def fill(self) -> bool:
        """Waits for bytes and reads them behind `pending`; returns False when the peer has closed the connection.

        Raises:
            OSError: when the connection broke, or no byte came within its timeout.
        """
        rest = bytes(self.pending)  # a part of a header, if anything
        self._buffer[: len(rest)] = rest
        count = self.socket.recv_into(self._buffer[len(rest) :])
        self._start, self._end = 0, len(rest) + count
        self.wants_more = False
        if count < _SMALL_READ:
            acknowledge_at_once(self.socket)
        return bool(count)

    def recv(self, nr_bytes: int) -> bytearray:
        """Reads `nr_bytes` of a PDU that is no P-DATA, or fewer when the peer closes.

        The errors are not OSErrors, because pynetdicom would log the traceback of one.

        Raises:
            SlowPeerError: when the bytes did not come before `deadline`.
            BrokenPduError: when the connection broke, or the PDU is longer than any of the standard's.
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

    def interrupt(self) -> None:
        """Ends the connection in both directions, which wakes the thread that reads it; any thread may call it."""
        if (connection := self.socket) is not None:
            with contextlib.suppress(OSError):
                socket.socket.shutdown(connection, socket.SHUT_RDWR)  # below TLS, whose object is the other thread's

    def drain(self) -> None:
        """Drops what has come, without waiting: to close with bytes unread would take back what was sent last."""
        if self.is_open:
            self.take(len(self.pending))
            with contextlib.suppress(OSError):  # nothing is there, or the connection broke
                self.socket.setblocking(False)
                for _ in range(_MOST_DRAINED):
                    if not self.socket.recv_into(self._buffer):
                        break

    @property
    def ready(self) -> bool:
        """Whether there is something to read; puts CONNECTION_CLOSED into the event queue for a closed connection."""
        if self.has_pending:
            return True
        if not self.is_open:
            self.event_queue.put(CONNECTION_CLOSED)
            return False
        return bool(self._poll.poll(0))

    @property
    def has_pending(self) -> bool:
        """Whether something can be read without waiting for the peer."""
        if self._start < self._end and not self.wants_more:
            return True
        return isinstance(self.socket, ssl.SSLSocket) and bool(self.socket.pending())

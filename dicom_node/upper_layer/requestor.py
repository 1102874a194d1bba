"""The pynetdicom side of an association that the node opens: sockets that are closed, steady timers, kept answers."""

import queue
import socket
import time
from typing import Any, Final

from pynetdicom import AE, _config
from pynetdicom.association import Association
from pynetdicom.dimse import DIMSEServiceProvider

from dicom_node.upper_layer.sockets import PolledSocket, acknowledge_at_once
from dicom_node.upper_layer.timers import use_steady_timers

# `Association.send_c_store(path)` sends a file as it lies on the disk, without decoding it or holding it in memory.
# The setting holds for the whole process; nothing else here gives pynetdicom a path.
_config.STORE_SEND_CHUNKED_DATASET = True

_FIRST_BYTES: Final = 16
_MOST_READ: Final = 2**18  # bytes
_LOOK_SECONDS: Final = 0.1  # how late who waits for an answer sees that the association has ended


class Requestor(AE):  # type: ignore[misc]
    """An application entity for `associate`.

    Each association closes its connection in every case, keeps its timers when the system's clock is set, and gives an
    answer to whoever waits for it.
    """

    _made: "_HearingSocket | None" = None

    def heard(self) -> tuple[bytes, OSError | None]:
        """Returns the first bytes that the peer of the last association sent, and how reading failed if it did."""
        return (self._made.first, self._made.failure) if self._made else (b"", None)

    def close(self) -> None:
        """Closes the connection of the last association, which did not come about: pynetdicom leaves some open."""
        if self._made and (connection := self._made.socket) is not None:
            connection.close()

    def _create_socket(self, association: Association, address: Any, tls_args: Any) -> PolledSocket:
        """Makes the socket of an association; pynetdicom calls it once for each, before anything of it has started."""
        association.dimse = _Answers(association)
        use_steady_timers(association.dul)
        self._made = made = _HearingSocket(association, address=address)
        made.tls_args = tls_args
        return made


class _HearingSocket(PolledSocket):
    """Reads as much as is there at once, and acknowledges it at once.

    It also keeps the first bytes that came, which say what answers there when it is no DICOM, and how reading failed.
    """

    first = b""
    failure: OSError | None = None

    def recv(self, nr_bytes: int) -> bytearray:
        """Reads `nr_bytes`, or fewer when the peer closes.

        pynetdicom reads 4 kB at a time, and a peer that collects small writes waits 40 ms for each acknowledgement.
        """
        content = bytearray()
        try:
            while len(content) < nr_bytes and (piece := self.socket.recv(min(nr_bytes - len(content), _MOST_READ))):
                content += piece
            acknowledge_at_once(self.socket)
        except OSError as error:
            self.failure = error
            raise
        if len(self.first) < _FIRST_BYTES:
            self.first += bytes(content[:_FIRST_BYTES])
        return content


class _Answers(DIMSEServiceProvider):  # type: ignore[misc]
    """The messages of an association that the node opened.

    pynetdicom 3.0 stops its association's thread before a request, but that thread may have passed the stop already: it
    then takes the answer away from the one who asked, who waits until the time for answers is over. An answer comes
    only while the stop is set, so what was taken then is put back. That thread also takes the message which says that
    the peer has ended the association; so whoever waits looks whether there still is one.
    """

    def get_msg(self, block: bool = False) -> Any:
        """Returns the next message, or (None, None) when none is there for who does not wait, or none will come."""
        if block:
            return self._awaited()
        found = super().get_msg(block)
        if found[1] is None or self.assoc._reactor_checkpoint.is_set():
            return found
        self.msg_queue.put(found)
        return None, None

    def _awaited(self) -> Any:
        until = time.monotonic() + (float("inf") if self.dimse_timeout is None else self.dimse_timeout)
        while True:
            ended = has_ended(self.assoc)  # before the look: what came last is still taken
            left = 0.0 if ended else max(until - time.monotonic(), 0.0)
            try:
                return self.msg_queue.get(timeout=min(left, _LOOK_SECONDS))
            except queue.Empty:
                if ended or time.monotonic() >= until:
                    return None, None


def has_ended(association: Association) -> bool:
    """Whether nothing can come from the peer any more: it aborted or closed, and all that it sent before was read."""
    return not association.dul.is_alive()


def tune_connection(association: Association, send_seconds: float) -> None:
    """Sends small messages at once (TCP_NODELAY), and ends a send when the peer reads nothing for `send_seconds`.

    To be called when the connection is open (pynetdicom's EVT_CONN_OPEN).
    """
    connection = association.dul.socket.socket
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.settimeout(send_seconds)

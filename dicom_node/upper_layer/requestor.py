"""The pynetdicom side of an association that the node opens: sockets that are closed, steady timers, kept answers."""

import socket
from typing import Any

from pynetdicom import AE, _config
from pynetdicom.association import Association
from pynetdicom.dimse import DIMSEServiceProvider

from dicom_node.upper_layer.sockets import PolledSocket
from dicom_node.upper_layer.timers import use_steady_timers

# `Association.send_c_store(path)` sends a file as it lies on the disk, without decoding it or holding it in memory.
# The setting holds for the whole process; nothing else here gives pynetdicom a path.
_config.STORE_SEND_CHUNKED_DATASET = True


class Requestor(AE):  # type: ignore[misc]
    """An application entity for `associate`.

    Each association closes its connection in every case, keeps its timers when the system's clock is set, and gives an
    answer to whoever waits for it.
    """

    def _create_socket(self, association: Association, address: Any, tls_args: Any) -> PolledSocket:
        """Makes the socket of an association; pynetdicom calls it once for each, before anything of it has started."""
        association.dimse = _Answers(association)
        use_steady_timers(association.dul)
        made = PolledSocket(association, address=address)
        made.tls_args = tls_args
        return made


class _Answers(DIMSEServiceProvider):  # type: ignore[misc]
    """The messages of an association that the node opened.

    pynetdicom 3.0 stops its association's thread before a request, but that thread may have passed the stop already: it
    then takes the answer away from the one who asked, who waits until the time for answers is over. An answer comes
    only while the stop is set, so what was taken then is put back.
    """

    def get_msg(self, block: bool = False) -> Any:
        """Returns the next message, or (None, None) when none is there for the thread that does not wait."""
        found = super().get_msg(block)
        if block or found[1] is None or self.assoc._reactor_checkpoint.is_set():
            return found
        self.msg_queue.put(found)
        return None, None


def tune_connection(association: Association, send_seconds: float) -> None:
    """Sends small messages at once (TCP_NODELAY), and ends a send when the peer reads nothing for `send_seconds`.

    To be called when the connection is open (pynetdicom's EVT_CONN_OPEN).
    """
    connection = association.dul.socket.socket
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.settimeout(send_seconds)

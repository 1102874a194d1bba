"""The door of a port: a listening socket that gives out only the connections that are admitted.

`dicom_node.admission` judges them, as it does for the DICOM port; this is its form for servers in a loop of asyncio,
with its lines of the log.
"""

import os
import socket
from typing import Any, Final, Self

from dicom_node.admission import BOTH_FAMILIES, ConnectionAdmission, Refusal, plain
from worker.logs import get_logger

log = get_logger(__name__)

WORDS: Final = 4
"""Connections beyond a limit that are let in to hear that they are too many."""

_REASONS: Final = {
    Refusal.ADDRESS: "its address is not in VOXTELL_ALLOWED_ADDRESSES",
    Refusal.CROWD: str(Refusal.CROWD),
}


class GuardedSocket(socket.socket):
    """A listening socket whose `accept` gives only connections that are admitted."""

    _port_name: str
    _admission: ConnectionAdmission

    @classmethod
    def listening(cls, host: str, port: int, admission: ConnectionAdmission, *, name: str, shared: bool) -> Self:
        """Listens on an address, at `::` for IPv4 and IPv6; `shared` lets other processes listen there too.

        `name` stands for the port in the log.

        Raises:
            OSError: when the address cannot be bound.
        OverflowError: when the port is none.
        """
        with _bound(host, port, shared) as plain_socket:
            guarded = cls(plain_socket.family, plain_socket.type, plain_socket.proto, plain_socket.detach())
        guarded._port_name, guarded._admission = name, admission
        guarded.setblocking(False)
        return guarded

    def accept(self) -> tuple[socket.socket, Any]:
        """Returns the next connection.

        Raises:
            BlockingIOError: when there is none, or it was turned away.
        """
        connection, peer = super().accept()
        ruling = self._admission.admit(connection, peer)
        if ruling.gave_way:
            self._tell(ruling.gave_way, "it asked nothing and gave its place to a newer connection")
        if ruling.refusal is not None:
            self._tell(plain(peer[0]), _REASONS[ruling.refusal])
            connection.close()
            raise BlockingIOError  # asyncio looks again in the next round of its loop
        return connection, peer

    def _tell(self, address: str, reason: str) -> None:
        log.warning("door_connection_closed", port=self._port_name, address=address, reason=reason)


def _bound(host: str, port: int, shared: bool) -> socket.socket:
    if not 0 <= port <= 65535:
        raise OverflowError("port must be 0-65535")  # create_server says so, too, and leaves its socket open
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    both = host == BOTH_FAMILIES and socket.has_dualstack_ipv6()
    try:
        return socket.create_server((host, port), family=family, reuse_port=shared, dualstack_ipv6=both)
    except OSError as error:
        if error.errno is None or isinstance(error, socket.gaierror):
            raise
        raise OSError(error.errno, os.strerror(error.errno)) from error  # its own words repeat the address

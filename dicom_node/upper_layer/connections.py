"""Limits the open connections of a server, in all and from one address; silent ones make room for new ones."""

import contextlib
import socket
import threading
from dataclasses import dataclass
from typing import Protocol


class _Made(Protocol):
    """An association that was made of a connection."""

    @property
    def has_asked(self) -> bool:
        """Whether its request has come."""


@dataclass(eq=False, slots=True)
class _OpenSocket:
    connection: socket.socket
    address: str
    association: _Made | None = None

    @property
    def silent(self) -> bool:
        return self.association is None or not self.association.has_asked


class Connections:
    """The open connections, the oldest first.

    Where there are too many, the oldest that has asked for no association is closed: an honest peer asks at once, so
    peers that only hold connections cannot shut the port. `admit` belongs to one thread, `made` to any.
    """

    def __init__(self, most: int, most_per_address: int) -> None:
        """Allows `most` connections in all, and `most_per_address` from one IP address."""
        self._most = most
        self._most_per_address = most_per_address
        self._open: dict[socket.socket, _OpenSocket] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._open)

    def admit(self, connection: socket.socket, address: str) -> tuple[bool, str]:
        """Says whether an accepted connection may stay, and the address of the one that was closed for it, or ""."""
        with self._lock:
            self._open = {made: known for made, known in self._open.items() if made.fileno() >= 0}
            everybody = list(self._open.values())
            rivals = [known for known in everybody if known.address == address]
            closed = ""
            if len(rivals) >= self._most_per_address or len(everybody) >= self._most:
                among = rivals if len(rivals) >= self._most_per_address else everybody
                oldest = next((known for known in among if known.silent), None)
                if oldest is None:
                    return False, ""
                del self._open[oldest.connection]
                closed = oldest.address
                with contextlib.suppress(OSError):  # below TLS, whose objects belong to the connection's own thread
                    socket.socket.shutdown(oldest.connection, socket.SHUT_RDWR)
            self._open[connection] = _OpenSocket(connection, address)
            return True, closed

    def made(self, connection: socket.socket, association: _Made) -> None:
        """Notes the association that a connection became."""
        with self._lock:
            if connection in self._open:
                self._open[connection].association = association

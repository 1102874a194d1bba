"""The door of a port: who may connect and how many, judged when a connection is accepted and before it costs anything.

A connection that asks nothing gives its place to a newer one when there are too many, in all or from one address: an
honest client asks at once, so clients that only hold connections shut out nobody. A TLS handshake counts as asking
nothing. All methods run in the loop of the port's thread.
"""

import ipaddress
import os
import socket
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, Self

from dicom_node.scp.access import Access
from worker.logs import get_logger

log = get_logger(__name__)

Peer = tuple[Any, ...]
"""Address and port of a connection's other end, as the socket gives them."""

TOLD_SECONDS: Final = 10.0  # of one address the log hears once in so long, with a count
WORDS: Final = 4  # connections beyond the limit that are let in to hear that they are too many
_MOST_TOLD: Final = 1000  # addresses that are remembered for that


@dataclass
class _OpenConnection:
    connection: socket.socket
    network: str
    allowed: bool
    waits_since: float = field(default_factory=time.monotonic)
    asks: bool = False


class Door:
    """The open connections of one port."""

    def __init__(self, name: str, access: Access, *, most: int, most_per_address: int, strangers: int = 0) -> None:
        """Lets in `most` connections in all, and `most_per_address` from an address (IPv6: from a /64 network).

        Addresses that `access` does not allow are turned away; `strangers` of them are let in beside the others at one
        time, where a protocol can tell them why they are refused. `name` stands for the port in the log.
        """
        self._name, self._access = name, access
        self._most, self._most_per_address, self._strangers = most, most_per_address, strangers
        self._open: dict[Peer, _OpenConnection] = {}
        self._told: dict[str, tuple[float, int]] = {}

    def asks(self, peer: Peer | None, asks: bool) -> None:
        """Notes that a connection has asked something, or has its answer and waits again."""
        known = self._open.get(peer) if peer else None
        if known is not None and known.asks != asks:
            known.asks, known.waits_since = asks, time.monotonic()

    def is_crowded(self, peer: Peer | None) -> bool:
        """Whether the port has too many connections, so that this one is answered 503 only."""
        known = self._open.get(peer) if peer else None
        mine = known.network if known else ""
        return len(self._of(allowed=True)) > self._most or len(self._of(network=mine)) > self._most_per_address

    def admits(self, connection: socket.socket, peer: Peer) -> bool:
        """Whether a connection that was just accepted may stay; another may be closed for it."""
        self._open = {known: one for known, one in self._open.items() if one.connection.fileno() >= 0}
        address = str(peer[0])
        new = _OpenConnection(connection, _network(address), self._access.allows(address))
        if not new.allowed:
            self._tell(address, "its address is not in VOXTELL_ALLOWED_ADDRESSES")
            strangers = self._of(allowed=False)
            if not self._strangers or (len(strangers) >= self._strangers and not self._close_one(strangers)):
                return False
        else:
            same, everybody = self._of(network=new.network), self._of(allowed=True)
            if len(same) >= self._most_per_address:
                room = self._close_one(same)
            else:
                room = len(everybody) < self._most or self._close_one(_of_the_greediest(everybody))
            if not room and len(everybody) >= self._most + WORDS:
                self._tell(address, f"{len(everybody)} connections are open and all ask something")
                return False
        self._open[peer] = new
        return True

    def _of(self, *, allowed: bool | None = None, network: str | None = None) -> dict[Peer, _OpenConnection]:
        return {
            peer: one
            for peer, one in self._open.items()
            if (allowed is None or one.allowed == allowed) and (network is None or one.network == network)
        }

    def _close_one(self, among: dict[Peer, _OpenConnection]) -> bool:
        """Closes the connection that has waited longest and asks nothing; False where all ask something."""
        waiting = [peer for peer, one in among.items() if not one.asks]
        if not waiting:
            return False
        oldest = min(waiting, key=lambda peer: self._open[peer].waits_since)
        with suppress(OSError):  # below TLS; its transport sees the end and closes
            self._open.pop(oldest).connection.shutdown(socket.SHUT_RDWR)
        self._tell(str(oldest[0]), "it asked nothing and gave its place to a newer connection")
        return True

    def _tell(self, address: str, reason: str) -> None:
        """Logs one line; of one address not more than one in ten seconds, with the count of those between."""
        last, missed = self._told.get(address, (-TOLD_SECONDS, 0))
        now = time.monotonic()
        if now - last < TOLD_SECONDS:
            self._told[address] = (last, missed + 1)
            return
        if len(self._told) >= _MOST_TOLD:
            self._told.clear()
        self._told[address] = (now, 0)
        log.warning("door_connection_closed", port=self._name, address=address, reason=reason, times=missed + 1)


class GuardedSocket(socket.socket):
    """A listening socket whose `accept` gives only connections that the door admits."""

    door: Door

    @classmethod
    def listening(cls, host: str, port: int, door: Door, *, shared: bool) -> Self:
        """Listens on an address; `shared` lets other processes listen there too.

        Raises:
            OSError: when the address cannot be bound.
            OverflowError: when the port is not a number from 0 to 65535.
        """
        with _bound(host, port, shared) as plain:
            guarded = cls(plain.family, plain.type, plain.proto, plain.detach())
        guarded.door = door
        guarded.setblocking(False)
        return guarded

    def accept(self) -> tuple[socket.socket, Any]:
        """Accepts the next connection; BlockingIOError where there is none, or where it was turned away."""
        connection, peer = super().accept()
        if not self.door.admits(connection, peer):
            connection.close()
            raise BlockingIOError  # asyncio looks again in the next round of its loop
        return connection, peer


def _bound(host: str, port: int, shared: bool) -> socket.socket:
    if not 0 <= port <= 65535:
        raise OverflowError("port must be 0-65535")  # create_server says so, too, and leaves its socket open
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, reuse_port=shared)
    except OSError as error:
        if error.errno is None or isinstance(error, socket.gaierror):
            raise
        raise OSError(error.errno, os.strerror(error.errno)) from error  # its own words repeat the address


def _network(address: str) -> str:
    """Returns what counts as one address: an IPv4 address, or the /64 network of an IPv6 address."""
    peer = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(peer, ipaddress.IPv6Address) and peer.ipv4_mapped is None:
        return str(ipaddress.ip_network((peer, 64), strict=False))
    return str(getattr(peer, "ipv4_mapped", None) or peer)


def _of_the_greediest(everybody: dict[Peer, _OpenConnection]) -> dict[Peer, _OpenConnection]:
    """Returns the connections that may make room: of the network with the most that ask nothing."""
    waiting = Counter(one.network for one in everybody.values() if not one.asks)
    greediest = {network for network, count in waiting.items() if count == max(waiting.values())}
    return {peer: one for peer, one in everybody.items() if one.network in greediest}

"""Admission of connections: who may connect to a port and how many, judged at accept, before they cost anything.

Every port of the node has such a judge, whether threads serve it (DICOM) or a loop of asyncio (HTTP, MLLP). Where there
are too many, in all or from one address, a connection that asks nothing gives its place to a newer one: an honest peer
asks at once, so peers that only hold connections shut out nobody. A TLS handshake counts as asking nothing.

One address is an IPv4 address or an IPv6 network of 64 bits, in which a peer may take any address.
"""

import contextlib
import enum
import ipaddress
import socket
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

SocketAddress = tuple[Any, ...]
"""Address and port of a connection's other end, as its socket gives them."""

BOTH_FAMILIES: Final = "::"
"""The address to listen on that takes IPv4 and IPv6."""


class Refusal(enum.StrEnum):
    """Why a connection is turned away."""

    ADDRESS = "the address is not in the list"
    CROWD = "too many connections are open and all ask something"


@dataclass(frozen=True)
class Ruling:
    """What becomes of a connection that was just accepted: it stays unless there is a `refusal`.

    gave_way: the address of the connection that was closed for it, or "".
    """

    refusal: Refusal | None = None
    gave_way: str = ""


@dataclass
class _Known:
    connection: socket.socket
    network: str
    allowed: bool
    waits_since: float = field(default_factory=time.monotonic)
    asks: bool = False


class ConnectionAdmission:
    """The open connections of one port. Any thread may call its methods."""

    def __init__(
        self,
        allows: Callable[[str], bool],
        *,
        connections: int,
        per_address: int,
        spare: int = 0,
        strangers: int = 0,
    ) -> None:
        """Admits `connections` in all and `per_address` from one address, of addresses that `allows` accepts.

        Where a protocol can say why it refuses, `spare` connections beyond a limit are let in to be told so (see
        `is_crowded`), and `strangers` of addresses that are not allowed; they take no place of the others.
        """
        self._allows = allows
        self._most, self._most_per_address = connections, per_address
        self._spare, self._strangers = spare, strangers
        self._open: dict[SocketAddress, _Known] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._open)

    def admit(self, connection: socket.socket, peer: SocketAddress) -> Ruling:
        """Judges a connection that was just accepted from `peer`; another may be closed for it.

        One that is refused is the caller's to close.
        """
        address = str(peer[0])
        new = _Known(connection, network_of(address), self._allows(address))
        with self._lock:
            self._open = {other: known for other, known in self._open.items() if known.connection.fileno() >= 0}
            ruling = self._judge(new)
            if ruling.refusal is None:
                self._open[peer] = new
        return ruling

    def asks(self, peer: SocketAddress | None, asks: bool) -> None:
        """Notes that a connection has asked something, or has its answer and waits again."""
        with self._lock:
            known = self._open.get(peer) if peer else None
            if known is not None and known.asks != asks:
                known.asks, known.waits_since = asks, time.monotonic()

    def is_crowded(self, peer: SocketAddress | None) -> bool:
        """Whether there are more connections than the limits allow, so that this one is only to be told so."""
        with self._lock:
            known = self._open.get(peer) if peer else None
            return len(self._of(allowed=True)) > self._most or (
                known is not None and len(self._of(network=known.network)) > self._most_per_address
            )

    def _judge(self, new: _Known) -> Ruling:
        if not new.allowed:
            strangers = self._of(allowed=False)
            if len(strangers) < self._strangers:
                return Ruling()
            gave_way = self._close_one(strangers) if self._strangers else ""
            return Ruling(None if gave_way else Refusal.ADDRESS, gave_way)
        same, everybody = self._of(network=new.network), self._of(allowed=True)
        if len(same) >= self._most_per_address:
            gave_way = self._close_one(same)
        elif len(everybody) >= self._most:
            gave_way = self._close_one(_of_the_greediest(everybody))
        else:
            return Ruling()
        beyond = max(len(same) - self._most_per_address, len(everybody) - self._most)
        return Ruling(None if gave_way or beyond < self._spare else Refusal.CROWD, gave_way)

    def _of(self, *, allowed: bool | None = None, network: str | None = None) -> dict[SocketAddress, _Known]:
        return {
            peer: known
            for peer, known in self._open.items()
            if (allowed is None or known.allowed == allowed) and (network is None or known.network == network)
        }

    def _close_one(self, among: Mapping[SocketAddress, _Known]) -> str:
        """Closes the connection that has waited longest and asks nothing; returns its address, or "" for none."""
        waiting = [peer for peer, known in among.items() if not known.asks]
        if not waiting:
            return ""
        oldest = min(waiting, key=lambda peer: among[peer].waits_since)
        with contextlib.suppress(OSError):  # below TLS, whose objects belong to the connection's own thread or loop
            socket.socket.shutdown(self._open.pop(oldest).connection, socket.SHUT_RDWR)
        return plain(str(oldest[0]))


class Place:
    """A place of `Places`. It is free again as soon as nobody holds this object."""


class Places:
    """Places for work that peers ask for, so many in all and per address. Any thread may call its methods."""

    def __init__(self, *, in_all: int, per_address: int, wait_seconds: float) -> None:
        """Lends `in_all` places, of which one address gets `per_address`; who asks for one waits `wait_seconds`."""
        self._most, self._most_per_address, self._wait_seconds = in_all, per_address, wait_seconds
        self._taken: Counter[str] = Counter()
        self._changed = threading.Condition()  # of an RLock: a place may be given back within `take`

    def take(self, address: str) -> Place | None:
        """Returns a place for a peer at this address, or None when none became free in time."""
        network = network_of(address)
        with self._changed:
            if not self._changed.wait_for(lambda: self._has_one_for(network), self._wait_seconds):
                return None
            self._taken[network] += 1
        place = Place()
        weakref.finalize(place, self._give_back, network).atexit = False
        return place

    def _has_one_for(self, network: str) -> bool:
        return self._taken.total() < self._most and self._taken[network] < self._most_per_address

    def _give_back(self, network: str) -> None:
        with self._changed:
            self._taken[network] -= 1
            self._taken += Counter()  # forgets addresses that hold none
            self._changed.notify_all()


def plain(address: str) -> str:
    """Returns an IP address as it is listed: ::ffff:10.1.0.1, by which IPv6 sockets name IPv4 peers, is 10.1.0.1."""
    mapped = getattr(_parsed(address), "ipv4_mapped", None)
    return address if mapped is None else str(mapped)


def network_of(address: str) -> str:
    """Returns what counts as one address: an IPv4 address, or the /64 network of an IPv6 address."""
    peer = _parsed(plain(address))
    return str(ipaddress.ip_network((peer, 64), strict=False)) if peer.version == 6 else str(peer)


def _parsed(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    return ipaddress.ip_address(address.partition("%")[0])


def _of_the_greediest(everybody: Mapping[SocketAddress, _Known]) -> dict[SocketAddress, _Known]:
    """Returns the connections that may make room: of the network with the most that ask nothing."""
    waiting = Counter(known.network for known in everybody.values() if not known.asks)
    greediest = {network for network, count in waiting.items() if count == max(waiting.values())}
    return {peer: known for peer, known in everybody.items() if known.network in greediest}

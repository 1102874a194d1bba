"""pynetdicom's association server for a node that must never stand still: limits, TLS, several processes on a port.

Whether a peer's address may connect at all, and whether there is room for one more connection, is judged before the
connection gets anything of the node.

Concurrency. One thread (`serve_forever`) accepts; it never waits for a peer. Each connection gets a thread of its own
for the TLS handshake, which makes its association and ends; the association then has two threads (see `reactor`).
"""

import logging
import socket
import socketserver
import ssl
import sys
import time
from functools import partial
from typing import Any, Final, Self

from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext
from pynetdicom.transport import AddressInformation, ThreadedAssociationServer

from dicom_node.admission import BOTH_FAMILIES, ConnectionAdmission, Refusal, plain
from dicom_node.upper_layer.association import AcceptedAssociation
from dicom_node.upper_layer.fault_log import unforeseen
from dicom_node.upper_layer.reactor import Serve

_log = logging.getLogger(__name__)

_LEAST_SECONDS: Final = 0.05  # for the handshake of a peer whose first byte took all the time
_KEEPALIVE: Final = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 4}  # a peer without power is gone in 2 min


class Acceptor(AE):  # type: ignore[misc]
    """An application entity whose limit of associations counts none of the connections that have not asked for one."""

    @property
    def active_associations(self) -> list[Association]:
        """The associations that are requested or established."""
        return [made for made in super().active_associations if getattr(made, "has_asked", True)]


class SharedContexts(list[PresentationContext]):
    """Presentation contexts that all associations share, unchanged; pynetdicom would copy them deeply for each."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self


class Server(ThreadedAssociationServer):  # type: ignore[misc]
    """Accepts connections and starts an association for each, within limits of connections in all and per address."""

    request_queue_size = 128  # a connect beyond those is tried again by its system after a second

    def __init__(
        self,
        ae: Acceptor,
        address: tuple[str, int],
        contexts: SharedContexts,
        handlers: list[tuple[Any, Any]],
        *,
        tls: ssl.SSLContext | None,
        share_port: bool,
        serve: Serve,
        admission: ConnectionAdmission,
    ) -> None:
        """Binds `address` (host, port; port 0 for any free one) and listens; `serve_forever` accepts.

        `ae` gives AE title, timeouts and the limit of associations; `contexts` is offered to every peer, `handlers` are
        pynetdicom's pairs of event and function. With `share_port` other processes may listen on the port too, and the
        kernel deals connections out (SO_REUSEPORT). `serve` makes what takes the messages of each association.
        `admission` judges who may connect.

        Raises:
            OSError: when the address cannot be bound.
        """
        self.serve = serve
        self._share_port = share_port
        self._idle_seconds = ae.network_timeout
        self._request_seconds: float = ae.acse_timeout
        self.admission = admission
        super().__init__(ae, address, ae.ae_title, contexts, tls, handlers)

    def server_bind(self) -> None:
        """Binds the address, as one of several processes when the port is shared."""
        if self._share_port:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if self.server_address[0] == BOTH_FAMILIES:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accepts a connection without its TLS handshake, in which one silent peer would hold up all others."""
        connection, address = self.socket.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _KEEPALIVE.items():
            if hasattr(socket, name):  # Linux
                connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        if self.ssl_context:
            connection = self.ssl_context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        return connection, (plain(address[0]), *address[1:])

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Whether a connection may stay: its address is admitted, and it is not one too many."""
        address = client_address[0]
        ruling = self.admission.admit(request, client_address)
        if ruling.refusal is Refusal.ADDRESS:
            facts = {"address": address, "calling_ae": "", "reason": str(ruling.refusal)}
            _log.warning("association_refused", extra=facts)
        elif ruling.refusal is Refusal.CROWD:
            _log.warning("connection_refused", extra={"address": address, "open": len(self.admission)})
        elif closed := ruling.gave_way:
            reason = "it asked for no association while others wait for its connection"
            _log.warning("connection_closed", extra={"peer": closed, "address": closed, "reason": reason})
        return ruling.refusal is None

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Shakes hands by TLS, in the connection's own thread, then starts its association."""
        until = time.monotonic() + self._request_seconds
        if self.ssl_context:
            request.settimeout(self._request_seconds)
            if not socket.socket.recv(request, 1, socket.MSG_PEEK):  # below TLS
                self.shutdown_request(request)  # without a word, as checks of the port do
                return
            request.settimeout(max(until - time.monotonic(), _LEAST_SECONDS))
            request.do_handshake()
        request.settimeout(self._idle_seconds)  # a peer that falls silent within a PDU
        peer = AddressInformation.from_tuple(client_address)
        asked = partial(self.admission.asks, client_address, True)
        association = AcceptedAssociation(self, request, peer, serve=self.serve, request_until=until, on_request=asked)
        evt.trigger(association, evt.EVT_CONN_OPEN, {"address": client_address})
        association.start()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 (socketserver's signature)
        """Logs a connection that never became an association, as when a peer lacks the certificate that it needs."""
        error = sys.exception()
        problem = str(error) if isinstance(error, OSError) or error is None else unforeseen(error)
        _log.warning("connection_failed", extra={"address": client_address[0], "problem": problem})

    def service_actions(self) -> None:
        """Does nothing between connections: the base class collects garbage here, for the sockets it left open."""

    def shutdown(self) -> None:
        """Accepts no more; open associations go on. (The base class expects that its AE started it.)"""
        socketserver.BaseServer.shutdown(self)
        self.server_close()


def stop_waiting_for_request(association: Association) -> None:
    """Ends the thread of an association whose connection closed before its request came."""
    association.dul.to_user_queue.put(None)

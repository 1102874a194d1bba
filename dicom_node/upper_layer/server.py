"""pynetdicom's association server for a node that must never stand still: limits, TLS, several processes on a port.

Concurrency. One thread (`serve_forever`) accepts; it never waits for a peer. Each connection gets a thread of its own
for the TLS handshake, which makes its association and ends; the association then has two threads (see `reactor`).
"""

import logging
import socket
import socketserver
import ssl
import sys
from typing import Any, Final, Self

from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext
from pynetdicom.transport import RequestHandler, ThreadedAssociationServer

from dicom_node.upper_layer.reactor import Serve, make_event_driven

_log = logging.getLogger(__name__)

_SPARE_CONNECTIONS: Final = 8  # for those that never ask for an association, such as checks of the port


class SharedContexts(list[PresentationContext]):
    """Presentation contexts that all associations share, unchanged; pynetdicom would copy them deeply for each."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self


class Server(ThreadedAssociationServer):  # type: ignore[misc]
    """Accepts connections and starts an association for each; more than twice the limit of associations are refused."""

    request_queue_size = 128  # a connect beyond those is tried again by its system after a second

    def __init__(
        self,
        ae: AE,
        address: tuple[str, int],
        contexts: SharedContexts,
        handlers: list[tuple[Any, Any]],
        *,
        tls: ssl.SSLContext | None,
        share_port: bool,
        serve: Serve,
    ) -> None:
        """Bind `address` (host, port; port 0 for any free one) and listen; `serve_forever` accepts.

        `ae` gives AE title, timeouts and the limit of associations; `contexts` is offered to every peer, `handlers` are
        pynetdicom's pairs of event and function. With `share_port` other processes may listen on the port too, and the
        kernel deals connections out (SO_REUSEPORT). `serve` makes what takes the messages of each association.

        Raises:
            OSError: the address cannot be bound.
        """
        self.serve = serve
        self._share_port = share_port
        self._idle_seconds = ae.network_timeout
        self._handshake_seconds = ae.acse_timeout
        # Associations beyond their limit are rejected in words, which takes a connection for each.
        self._most_connections = 2 * ae.maximum_associations + _SPARE_CONNECTIONS
        self._connections: list[socket.socket] = []
        super().__init__(ae, address, ae.ae_title, contexts, tls, handlers, _Handler)

    def server_bind(self) -> None:
        """Bind the address, as one of several processes when the port is shared."""
        if self._share_port:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        super().server_bind()

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept a connection without its TLS handshake, in which one silent peer would hold up all others."""
        connection, address = self.socket.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.ssl_context:
            connection = self.ssl_context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        return connection, address

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """False for a connection too many: peers that say nothing must not take every descriptor of the process."""
        self._connections = [connection for connection in self._connections if connection.fileno() >= 0]
        if len(self._connections) >= self._most_connections:
            _log.warning("connection_refused", extra={"address": client_address[0], "open": len(self._connections)})
            return False
        self._connections.append(request)
        return True

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Shake hands by TLS, in the connection's own thread, then start its association."""
        if self.ssl_context:
            request.settimeout(self._handshake_seconds)
            if not socket.socket.recv(request, 1, socket.MSG_PEEK):  # below TLS
                self.shutdown_request(request)  # without a word, as checks of the port do
                return
            request.do_handshake()
        request.settimeout(self._idle_seconds)  # a peer that falls silent within a PDU
        super().finish_request(request, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 (socketserver's signature)
        """Log a connection that never became an association, as when a peer lacks the certificate that it needs."""
        error = sys.exception()
        traced = None if isinstance(error, OSError) else error  # what peers and networks do needs no traceback
        facts = {"address": client_address[0], "problem": str(error)}
        _log.warning("connection_failed", exc_info=traced, extra=facts)

    def service_actions(self) -> None:
        """Do nothing between connections: the base class collects garbage here, for the sockets it left open."""

    def shutdown(self) -> None:
        """Accept no more; open associations go on. (The base class expects that its AE started it.)"""
        socketserver.BaseServer.shutdown(self)
        self.server_close()


class _Handler(RequestHandler):  # type: ignore[misc]
    """Makes the association of a connection, and has it wait for events."""

    def _create_association(self) -> Association:
        association = super()._create_association()
        make_event_driven(association, self.server.serve)
        return association


def reject(association: Association) -> None:
    """Reject an association request for good, without a reason (PS3.8 table 9-21); returns when that was sent.

    To be called while the request is looked at (pynetdicom's EVT_REQUESTED), in the association's thread.
    """
    association.acse.send_reject(0x01, 0x01, 0x01)  # rejected permanent, by the service user, no reason given
    association.kill()


def stop_waiting_for_request(association: Association) -> None:
    """End the thread of an association whose connection closed before its request came."""
    association.dul.to_user_queue.put(None)

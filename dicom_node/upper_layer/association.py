"""An association that is opened to the node: pynetdicom's, which waits for events and ends at whatever goes wrong.

The objects here take the places of pynetdicom's before the association starts; what they do is unchanged.
"""

import queue
import socket
import time
from collections.abc import Callable
from typing import Any, Final

from pynetdicom.association import Association
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dimse_primitives import N_EVENT_REPORT
from pynetdicom.transport import AddressInformation, ThreadedAssociationServer

from dicom_node.upper_layer.reactor import Serve, UpperLayer
from dicom_node.upper_layer.sockets import BufferedSocket

_ASSOCIATION_SECONDS: Final = 0.25  # how late an association sees that it has been idle for too long
_NO_SUCH_EVENT_TYPE: Final = 0x0113  # statuses of PS3.7 annex C
_MISTYPED_ARGUMENT: Final = 0x0212
_LEAST_SECONDS: Final = 0.05  # for the request of a peer whose TLS handshake took all the time


class AcceptedAssociation(Association):  # type: ignore[misc]
    """An association whose connection is there and which has not started; `start` waits for its request."""

    def __init__(
        self,
        server: ThreadedAssociationServer,
        connection: socket.socket,
        address: AddressInformation,
        *,
        serve: Serve,
        request_until: float,
        on_request: Callable[[], None],
    ) -> None:
        """Binds what `server` offers and has bound to the accepted `connection` of the peer at `address`.

        `serve` makes what takes its messages, once it is established, in the thread of its upper layer. Its request
        must have come by `request_until`, in seconds of the monotonic clock; `on_request` is called then.
        """
        super().__init__(server.ae, "acceptor")
        self._server = server
        self.name = f"AcceptorThread of {address.address}"  # by its name pynetdicom finds a server's associations
        self.requestor.address_info = address
        self.acceptor.address_info = AddressInformation.from_tuple(server.server_address)
        self.acceptor.ae_title = server.ae_title
        self.acceptor.maximum_length = server.ae.maximum_pdu_size
        self.acceptor.implementation_class_uid = server.ae.implementation_class_uid
        self.acceptor.implementation_version_name = server.ae.implementation_version_name
        self.acceptor.supported_contexts = server.contexts
        for event in server.get_events():
            bound = server.get_handlers(event)
            for function, arguments in [bound] if isinstance(bound, tuple) else bound:
                if function is not None:
                    self.bind(event, function, arguments)
        self.dimse = _MessageQueue(self)
        self.dul = UpperLayer(self, connection, serve, News(self.dimse.msg_queue), on_request)
        self.acse_timeout = max(request_until - time.monotonic(), _LEAST_SECONDS)  # sets the new timers
        self.network_timeout = server.ae.network_timeout
        self.set_socket(BufferedSocket(self, connection))

    @property
    def has_asked(self) -> bool:
        """Whether its request has come; before that it is a connection and takes no association's place."""
        return self.dul.request is not None

    def run(self) -> None:
        """Serves the association until it is over; runs in the thread."""
        try:
            super().run()
        except Exception as error:  # noqa: BLE001 (a door: the connection must not outlive its thread)
            self.dul.fail(error)

    def _serve_request(self, message: Any, context_id: int) -> None:
        """Answer a request at once that lacks what every one must have, for which pynetdicom would leave it waiting."""
        if message.is_valid_request or message.MessageIDBeingRespondedTo is not None:
            super()._serve_request(message, context_id)
        elif message.MessageID is None:  # no answer could name it
            self.abort()
        else:
            self.dimse.send_msg(_refusal(message), context_id)


def _refusal(request: Any) -> Any:
    """The response to a request that lacks a mandatory parameter."""
    response = type(request)()
    response.MessageIDBeingRespondedTo = request.MessageID
    for keyword in ("AffectedSOPClassUID", "AffectedSOPInstanceUID"):
        for given in (keyword, keyword.replace("Affected", "Requested")):  # the response has the former in any case
            if getattr(request, given, None) is not None and hasattr(response, keyword):
                setattr(response, keyword, getattr(request, given))
    lacks_type = isinstance(request, N_EVENT_REPORT) and request.EventTypeID is None
    response.Status = _NO_SUCH_EVENT_TYPE if lacks_type else _MISTYPED_ARGUMENT
    return response


class _MessageQueue(DIMSEServiceProvider):  # type: ignore[misc]
    """Queue of complete messages, on which the association's thread sleeps instead of looking every millisecond."""

    def get_msg(self, block: bool = False) -> Any:
        """Returns the next message with its context ID, or (None, None) when none came within a quarter of a second."""
        if block:
            return super().get_msg(block=True)
        try:
            return self.msg_queue.get(timeout=_ASSOCIATION_SECONDS)
        except queue.Empty:
            return None, None


class News(queue.Queue[Any]):
    """Queue of what the upper layer tells an association: requests, releases, aborts.

    The association's thread waits on another queue, that of messages; an empty message there wakes it.
    """

    def __init__(self, messages: queue.Queue[Any]) -> None:
        super().__init__()
        self._messages = messages

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        """Puts `item` into the queue and wakes the association's thread."""
        super().put(item, block, timeout)
        self._messages.put((None, None))

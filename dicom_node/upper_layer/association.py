"""An association that is opened to the node: pynetdicom's, which waits for events and ends at whatever goes wrong.

The objects here take the places of pynetdicom's before the association starts; what they do is unchanged.
"""

import queue
import socket
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from pydicom.uid import UID
from pynetdicom.association import Association
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dimse_primitives import C_ECHO, N_ACTION, N_EVENT_REPORT
from pynetdicom.service_class import VerificationServiceClass
from pynetdicom.service_class_n import StorageCommitmentServiceClass
from pynetdicom.sop_class import uid_to_service_class
from pynetdicom.transport import AddressInformation, ThreadedAssociationServer

from dicom_node.upper_layer.reactor import Serve, UpperLayer
from dicom_node.upper_layer.sockets import BufferedSocket

_ASSOCIATION_SECONDS: Final = 0.25  # how late an association sees that it has been idle for too long
_NO_SUCH_EVENT_TYPE: Final = 0x0113  # statuses of PS3.7 annex C
_NO_SUCH_CLASS: Final = 0x0118
_CLASS_NOT_SUPPORTED: Final = 0x0122
_UNRECOGNISED_OPERATION: Final = 0x0211
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
        """Serves a request, or refuses it at once where pynetdicom would say nothing, or read more than it should.

        pynetdicom serves whatever class a message names in whatever context it comes, and inflates its data set.
        """
        if message.MessageIDBeingRespondedTo is not None:  # a response for which nobody waits
            return
        context = self._accepted_cx.get(context_id)
        status = _refusal_of(message, context.abstract_syntax) if context else None
        if status is None:
            super()._serve_request(message, context_id)
        elif message.MessageID is None:  # no answer could name it
            self.abort()
        else:
            self.dimse.send_msg(_refused(message, status), context_id)


_SERVED: Final[Mapping[Any, tuple[Any, ...]]] = {
    VerificationServiceClass: (C_ECHO,),
    StorageCommitmentServiceClass: (N_EVENT_REPORT, N_ACTION),
}
"""What pynetdicom serves of each service class; C-STORE requests never reach it (see `messages`)."""


def _refusal_of(request: Any, sop_class_uid: UID) -> int | None:
    """Returns the status with which a request in a context of a SOP class is refused (PS3.7 annex C); None for none."""
    of_service = type(request).__name__.startswith("N_")
    named = getattr(request, "AffectedSOPClassUID", None) or getattr(request, "RequestedSOPClassUID", None)
    if named is not None and named != sop_class_uid:
        return _NO_SUCH_CLASS if of_service else _CLASS_NOT_SUPPORTED
    if not isinstance(request, _SERVED.get(uid_to_service_class(sop_class_uid), ())):
        return _UNRECOGNISED_OPERATION
    if isinstance(request, N_EVENT_REPORT) and request.EventTypeID is None:
        return _NO_SUCH_EVENT_TYPE
    return None if request.is_valid_request else _MISTYPED_ARGUMENT


def _refused(request: Any, status: int) -> Any:
    """Returns the response to a request that is refused."""
    response = type(request)()
    response.MessageIDBeingRespondedTo = request.MessageID
    for keyword in ("AffectedSOPClassUID", "AffectedSOPInstanceUID"):
        given = getattr(request, keyword, None) or getattr(request, keyword.replace("Affected", "Requested"), None)
        if given is not None and hasattr(response, keyword):
            setattr(response, keyword, given)
    response.Status = status
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

"""C-STORE SCP: an instance is on disk and fsynced before its sender hears Success (PS3.4 annex B, PS3.7 section 9.1.1).

Concurrency. pynetdicom gives each association two threads: its own, and that of the upper layer (PS3.8), which serves
C-STORE requests one after the other and sees the connection end; so an association that is over (release, abort and
a dropped line alike) has nothing going on any more. `on_arrival` and `on_association_end` run in the latter thread;
several associations may call them at the same time. `start` and `stop` belong to one thread; `open_series` may be
called from any.
"""

import logging
import ssl
import threading
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any, Final, Self

from pynetdicom import evt
from pynetdicom.association import Association
from pynetdicom.pdu_primitives import A_RELEASE
from pynetdicom.presentation import build_context
from pynetdicom.service_class import StorageServiceClass
from pynetdicom.sop_class import Verification, uid_to_service_class

from dicom_node.admission import ConnectionAdmission
from dicom_node.errors import ListenerError
from dicom_node.origin import Origin
from dicom_node.scp.access import DEFAULT_LIMITS, EVERYBODY, Access, Limits
from dicom_node.scp.arrivals import Arrival, AssociationEnd, Service
from dicom_node.scp.contexts import is_private_class, register_storage_class, storage_classes, storage_context
from dicom_node.scp.reception import Announced, Reception, RefusedError, StoreStatus
from dicom_node.scp.sessions import Session, Sessions
from dicom_node.storage.part10 import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from dicom_node.store import Store
from dicom_node.uids import SeriesKey
from dicom_node.upper_layer.command import Command
from dicom_node.upper_layer.messages import Messages, PassOn, StorageContext
from dicom_node.upper_layer.server import Acceptor, Server, SharedContexts, stop_waiting_for_request

_log = logging.getLogger(__name__)

_POLL_SECONDS: Final = 0.05  # how late the accepting thread sees that it is to stop
_STOP_SECONDS: Final = 10.0  # an association that does not end by then is left to the end of the process


@dataclass
class _Connection:
    """What is known of one connection, from the moment it is accepted."""

    session: Session
    established: bool = False
    released: bool = False


@dataclass
class _StoreRequest:
    """One C-STORE request, as `dicom_node.upper_layer.messages.Storing` describes it.

    `end` makes status and Error Comment out of a reception whose data set is complete.
    """

    reception: Reception
    end: Callable[[Reception], tuple[int, str]]

    def write(self, content: memoryview) -> None:
        self.reception.write(content)

    def finish(self) -> tuple[int, str]:
        return self.end(self.reception)

    def discard(self) -> None:
        self.reception.discard()


class Listener:
    """A Storage and Verification SCP (PS3.4 annexes B and A).

    `with Listener(...) as listener:` runs it, and `listener.port` is the port that it got.
    """

    def __init__(
        self,
        store: Store,
        *,
        ae_title: str,
        host: str,
        port: int,
        on_arrival: Callable[[Arrival], None],
        on_association_end: Callable[[AssociationEnd], None] | None = None,
        access: Access = EVERYBODY,
        limits: Limits = DEFAULT_LIMITS,
        tls: ssl.SSLContext | None = None,
        share_port: bool = False,
        services: Sequence[Service] = (),
    ) -> None:
        """Prepares a listener on `host`:`port` (0: any free port), which puts what it receives into `store`.

        `on_arrival` is called after the instance is durable and before Success is sent; when it raises, the sender is
        told to try again later (0xA700) and the instance stays in the store. `on_association_end` is called once for
        each established association, however it ended. With `tls` every peer must speak TLS. `share_port` lets several
        processes listen on one port (SO_REUSEPORT). `services` are offered besides storage and verification.

        Raises:
            ListenerError: when the AE title is not valid (PS3.5 section 6.2), or an entry of `access.networks` is no
                network.
        """
        self._store = store
        self.sessions = Sessions(store, on_arrival=on_arrival, on_end=on_association_end, shared=share_port)
        self._access = access
        self._limits = limits
        self._address = (host, port)
        self._tls = tls
        self._share_port = share_port
        self._services = services
        self._server: Server | None = None
        self._lock = threading.Lock()
        self._connections: weakref.WeakKeyDictionary[Any, _Connection] = weakref.WeakKeyDictionary()
        try:
            access.check()
            self._ae = Acceptor(ae_title)
            self._ae.require_calling_aet = list(access.calling_aes)
        except (ValueError, TypeError) as error:
            raise ListenerError(f"The listener's settings are wrong: {error}.") from error
        self._ae.require_called_aet = access.called_ae_must_match
        self._ae.maximum_associations = limits.associations
        self._ae.implementation_class_uid = IMPLEMENTATION_CLASS_UID
        self._ae.implementation_version_name = IMPLEMENTATION_VERSION_NAME
        self._ae.maximum_pdu_size = limits.pdu_bytes
        self._ae.network_timeout = limits.idle_seconds
        self._ae.acse_timeout = limits.request_seconds

    @property
    def port(self) -> int:
        """The port that peers connect to; the one that was asked for before `start`."""
        return int(self._server.server_address[1]) if self._server else self._address[1]

    def start(self) -> None:
        """Accepts associations from now on, in threads of its own.

        Raises:
            ListenerError: when the port cannot be bound, as when another program listens there.
        """
        for uid in storage_classes():
            register_storage_class(uid)
        contexts = [build_context(Verification), *(storage_context(uid) for uid in storage_classes())]
        handlers: list[tuple[Any, Callable[[evt.Event], Any]]] = [
            (evt.EVT_CONN_OPEN, self._connection_opened),
            (evt.EVT_REQUESTED, self._association_requested),
            (evt.EVT_ESTABLISHED, self._association_established),
            (evt.EVT_ACSE_RECV, self._control_received),
            (evt.EVT_CONN_CLOSE, self._connection_closed),
        ]
        for service in self._services:
            contexts += service.contexts()
            handlers += service.handlers()
        host, port = self._address
        try:
            self._server = Server(
                self._ae,
                self._address,
                SharedContexts(contexts),
                handlers,
                tls=self._tls,
                share_port=self._share_port,
                serve=self._serve,
                admission=ConnectionAdmission(
                    self._access.allows,
                    connections=self._limits.connections,
                    per_address=self._limits.connections_per_address,
                ),
            )
        except OSError as error:
            raise ListenerError(
                f"Port {port} on {host} cannot be listened on ({error.strerror}); "
                "stop the program that uses it or set another host and port."
            ) from error
        threading.Thread(
            target=self._server.serve_forever, args=(_POLL_SECONDS,), name=f"listener:{self.port}", daemon=True
        ).start()

    def stop(self) -> None:
        """Accepts no more, aborts what is open, waits until every association has been reported as ended.

        Waits at most 10 s for each; does nothing when the listener does not run.
        """
        if self._server is None:
            return
        self._server.shutdown()
        for association in self._server.active_associations:
            association.abort()
            association.join(_STOP_SECONDS)
        self._server = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def open_series(self) -> set[SeriesKey]:
        """Returns the series for which an association is open that has brought an instance of them.

        With a shared port this includes the associations of the other listener processes on the same store.
        """
        return self.sessions.open_series()

    # an association's life, as pynetdicom tells it

    def _connection_opened(self, event: evt.Event) -> None:
        association = weakref.ref(event.assoc)
        session = self.sessions.begin(lambda: (known := association()) is not None and known.is_alive())
        with self._lock:
            self._connections[event.assoc] = _Connection(session)

    def _association_requested(self, event: evt.Event) -> None:
        """Offers the private SOP classes that a peer asks for."""
        association = event.assoc
        if self._access.private_classes:
            proposed = {context.abstract_syntax for context in association.requestor.requested_contexts}
            private = [uid for uid in proposed if is_private_class(uid)]
            for uid in private:
                register_storage_class(uid)
            contexts = [*association.acceptor.supported_contexts, *(storage_context(uid) for uid in private)]
            association.acceptor.supported_contexts = contexts

    def _association_established(self, event: evt.Event) -> None:
        self._connections[event.assoc].established = True

    def _control_received(self, event: evt.Event) -> None:
        if isinstance(event.primitive, A_RELEASE):
            self._connections[event.assoc].released = True

    def _connection_closed(self, event: evt.Event) -> None:
        connection = self._connections[event.assoc]
        if not connection.established:
            stop_waiting_for_request(event.assoc)
            return
        try:
            connection.session.end(aborted=not connection.released)
        except Exception:  # noqa: BLE001 (a door: pynetdicom's thread goes on)
            _log.exception("association_end_not_taken", extra={"association": connection.session.association_id})

    # an instance

    def _serve(self, association: Association, pass_on: PassOn) -> Messages:
        """Makes what takes the messages of an association; called once, in the thread of its upper layer."""
        self._connections[association].established = True  # its own thread may not have come to say so
        accepted = {context.context_id: context for context in association.accepted_contexts}
        contexts = {
            number: StorageContext(context.abstract_syntax, context.transfer_syntax[0])
            for number, context in accepted.items()
            if uid_to_service_class(context.abstract_syntax) is StorageServiceClass
        }
        return Messages(contexts, partial(self._begin, association), pass_on)

    def _begin(self, association: Association, request: Command, context: StorageContext) -> _StoreRequest:
        announced = Announced(
            request.sop_class_uid,
            request.sop_uid,
            context.transfer_syntax,
            _origin(association),
            negotiated_class_uid=context.sop_class_uid,
        )
        reception = Reception(announced, self._store, self._limits.free_bytes)
        return _StoreRequest(reception, partial(self._finish, association))

    def _finish(self, association: Association, reception: Reception) -> tuple[int, str]:
        """Ends a C-STORE; whatever goes wrong becomes a status (PS3.4 table B.2-1) and an Error Comment (a door)."""
        session = self._connections[association].session
        try:
            header, receipt = reception.finish()
            session.arrived(header, receipt, _origin(association))
        except RefusedError as refusal:
            return refusal.status, refusal.comment()
        except Exception:  # noqa: BLE001 (a door)
            _log.exception("instance_not_taken", extra={"association": session.association_id})
            return StoreStatus.OUT_OF_RESOURCES, ""
        return StoreStatus.SUCCESS, ""


def _origin(association: Association) -> Origin:
    peer = association.requestor
    return Origin(peer.ae_title, peer.primitive.called_ae_title, peer.address)

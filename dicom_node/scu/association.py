"""Opens associations with peers, and says in one sentence why one did not come about (PS3.8 section 9.3).

Concurrency. Each association has two threads of pynetdicom's (see `dicom_node.upper_layer`), but belongs to the thread
that opened it: only that one may send. Any number may be open at a time.
"""

import contextlib
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from pydicom.uid import UID
from pynetdicom import evt
from pynetdicom.association import Association
from pynetdicom.pdu_primitives import SCP_SCU_RoleSelectionNegotiation
from pynetdicom.presentation import PresentationContext, build_context
from pynetdicom.sop_class import Verification

from dicom_node.errors import PeerError, PeerRefusedError
from dicom_node.scu.obstacles import Heard, no_answer, no_connection
from dicom_node.storage.part10 import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from dicom_node.upper_layer.requestor import Requestor, tune_connection

# Rejections by (source, diagnostic), PS3.8 table 9-21: what the peer says, and what to check.
_REJECTIONS: Final = {
    (1, 3): "it does not know our AE title {calling_ae}: enter {calling_ae} in its list of AE titles",
    (1, 7): "it is not called {peer.ae_title}: check the peer's AE title",
    (1, 1): "it gives no reason: check its list of AE titles and addresses",
    (1, 2): "it does not support the DICOM application context: check that the port is a DICOM port",
    (2, 2): "it does not support this protocol version: check that the port is a DICOM port",
    (3, 1): "it is congested",
    (3, 2): "it has reached its limit of associations",
}
_RECEIVED_PDU_BYTES: Final = 2**17  # of images that a peer sends to us: a slice of 512 x 512 is five of them
_TRANSIENT: Final = 2  # result of an A-ASSOCIATE-RJ, PS3.8 table 9-21


@dataclass(frozen=True)
class Peer:
    """A DICOM application entity elsewhere.

    With `tls` (see `dicom_node.tls.client_context`) the connection is encrypted and the peer's certificate checked.
    """

    ae_title: str
    host: str
    port: int
    tls: ssl.SSLContext | None = None

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host  # IPv6, as in URLs (RFC 3986 section 3.2.2)
        return f"{self.ae_title}@{host}:{self.port}"


@dataclass(frozen=True)
class Timeouts:
    """How long to wait for a peer, in seconds, before it counts as silent."""

    connect: float = 10.0  # for the TCP connection
    association: float = 30.0  # for the answer to A-ASSOCIATE-RQ and A-RELEASE-RQ
    response: float = 300.0  # for the response to one message, and for a peer that takes no more bytes


DEFAULT_TIMEOUTS: Final = Timeouts()


@dataclass(frozen=True)
class EchoReport:
    """What a C-ECHO told of a peer."""

    peer: Peer
    seconds: float  # from the connection's start to the end of the association
    implementation: str  # the name or UID that the peer gives its software
    pdu_bytes: int  # the largest P-DATA it takes; 0: any


@dataclass(frozen=True)
class ContextAnswer:
    """What a peer said to one presentation context (PS3.8 table 9-18)."""

    sop_class: str
    transfer_syntax: str  # the accepted one, or the first one offered
    accepted: bool
    reason: str


@contextlib.contextmanager
def associated(
    peer: Peer,
    contexts: Sequence[PresentationContext],
    *,
    calling_ae: str,
    timeouts: Timeouts = DEFAULT_TIMEOUTS,
    roles: Sequence[SCP_SCU_RoleSelectionNegotiation] = (),
    on_store: Callable[[evt.Event], int] | None = None,
) -> Iterator[Association]:
    """Opens an association with `peer`, and releases it at the end of the `with` block.

    `contexts` has 1 to 128 presentation contexts, of which the peer accepted at least one; `roles` are negotiations as
    pynetdicom's build_role makes them (PS3.7 annex D.3.3.4). `on_store` takes what the peer sends by C-STORE on this
    association, which is C-GET, and returns a status. The association may end within the block: its
    `is_established` tells.

    Raises:
        PeerError: when the peer does not answer, is busy, or its host name is unknown.
        PeerRefusedError: when the peer refuses the association or every context. Both say who, why and what to check.
    """
    attempt = _Attempt(peer, calling_ae, contexts, timeouts, roles, on_store)
    association = attempt.associate()
    try:
        if not association.is_established:
            raise attempt.failure(association)
        yield association
    finally:
        if association.is_established:
            association.release()


def probe(
    peer: Peer,
    contexts: Sequence[PresentationContext],
    *,
    calling_ae: str,
    timeouts: Timeouts = DEFAULT_TIMEOUTS,
) -> list[ContextAnswer]:
    """Asks what `peer` would take of `contexts`, without sending an object; one answer for each, in order.

    Raises:
        PeerError: when `associated` raises it.
        PeerRefusedError: when `associated` raises it; but a peer that takes only C-ECHO is an answer.
    """
    offer = [*contexts, build_context(Verification)]
    with associated(peer, offer, calling_ae=calling_ae, timeouts=timeouts) as association:
        answers = sorted(
            [*association.accepted_contexts, *association.rejected_contexts], key=lambda answer: answer.context_id
        )
    return [
        ContextAnswer(answer.abstract_syntax.name, answer.transfer_syntax[0].name, answer.result == 0, answer.status)
        for answer in answers[: len(contexts)]
    ]


def echo(peer: Peer, *, calling_ae: str, timeouts: Timeouts = DEFAULT_TIMEOUTS) -> EchoReport:
    """Asks `peer` by C-ECHO whether it is there (PS3.4 annex A).

    Raises:
        PeerError: when `associated` raises it, or the C-ECHO gets no answer.
        PeerRefusedError: when `associated` raises it, or the C-ECHO gets a failure status.
    """
    started = time.monotonic()
    with associated(peer, [build_context(Verification)], calling_ae=calling_ae, timeouts=timeouts) as association:
        status = association.send_c_echo()
        if "Status" not in status:
            raise PeerError(f"{peer} accepted the association but did not answer the C-ECHO; try again later.")
        if status.Status != 0x0000:
            raise PeerRefusedError(f"{peer} answered the C-ECHO with status 0x{status.Status:04X}.")
        acceptor = association.acceptor
        name = acceptor.implementation_version_name or str(acceptor.implementation_class_uid)
    return EchoReport(peer, time.monotonic() - started, name, acceptor.maximum_length)


@dataclass
class _Attempt:
    """One request for an association, and how far it came."""

    peer: Peer
    calling_ae: str
    contexts: Sequence[PresentationContext]
    timeouts: Timeouts
    roles: Sequence[SCP_SCU_RoleSelectionNegotiation]
    on_store: Callable[[evt.Event], int] | None
    connected: float = 0.0  # when, in seconds of the monotonic clock; 0: not
    accepted: bool = False

    def __post_init__(self) -> None:
        self._requestor = Requestor(self.calling_ae)

    def associate(self) -> Association:
        """Requests the association; returns it established or not (see `failure`).

        Raises:
            PeerError: when the host name is unknown.
        """
        ae = self._requestor
        ae.implementation_class_uid = IMPLEMENTATION_CLASS_UID
        ae.implementation_version_name = IMPLEMENTATION_VERSION_NAME
        ae.connection_timeout = self.timeouts.connect
        ae.acse_timeout = self.timeouts.association
        ae.dimse_timeout = self.timeouts.response
        ae.network_timeout = self.timeouts.response
        handlers: list[tuple[evt.InterventionEvent | evt.NotificationEvent, Callable[..., object]]] = [
            (evt.EVT_CONN_OPEN, self._connected),
            (evt.EVT_ACCEPTED, self._accepted),
        ]
        if self.on_store:
            ae.maximum_pdu_size = _RECEIVED_PDU_BYTES
            handlers.append((evt.EVT_C_STORE, self.on_store))
        peer = self.peer
        try:
            return ae.associate(
                peer.host,
                peer.port,
                contexts=list(self.contexts),
                ae_title=peer.ae_title,
                ext_neg=list(self.roles),
                tls_args=(peer.tls, peer.host) if peer.tls else None,
                evt_handlers=handlers,
            )
        except socket.gaierror as error:
            raise PeerError(f"{peer} cannot be reached: the host name {peer.host} is unknown; check it.") from error

    def _connected(self, event: evt.Event) -> None:
        tune_connection(event.assoc, self.timeouts.response)
        self.connected = time.monotonic()

    def _accepted(self, _event: evt.Event) -> None:
        self.accepted = True

    def failure(self, association: Association) -> PeerError | PeerRefusedError:
        """Returns the error that says why `association` was not established, and what to check."""
        peer, calling_ae = self.peer, self.calling_ae
        if association.is_rejected:
            answer = association.acceptor.primitive
            reason = _REJECTIONS.get((answer.result_source, answer.diagnostic), f"it says {answer.reason_str!r}")
            reason = reason.format(peer=peer, calling_ae=calling_ae)
            kind = PeerError if answer.result == _TRANSIENT else PeerRefusedError
            return kind(f"{peer} rejected the association of {calling_ae}: {reason}.")
        if self.accepted:
            classes = ", ".join(sorted({UID(context.abstract_syntax).name for context in self.contexts}))
            return PeerRefusedError(f"{peer} accepted the association of {calling_ae} but nothing of it: {classes}.")
        self._requestor.close()
        host, port, tls = peer.host, peer.port, peer.tls
        if self.connected:
            heard = Heard(*self._requestor.heard(), time.monotonic() - self.connected)
            did = no_answer(heard, self.timeouts.association, host=host, port=port, tls=tls is not None)
            return PeerError(f"{peer} took the connection of {calling_ae}, but {did}.")
        return PeerError(f"{peer} cannot be reached: {no_connection(host, port, tls, self.timeouts.connect)}.")

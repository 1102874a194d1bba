"""Storage commitment, push model (PS3.4 annex J), in both roles: asks a peer for it, and gives it to those who ask.

The asker sends an N-ACTION with a transaction UID and the instances it means; the answer is an N-EVENT-REPORT, on the
same association or, as most peers do it, on a new one to the asker's listener. So a `Commitment` is a service of the
listener. As provider it answers on a new association when it knows the asker's address, else on the one that the
question came by.

Concurrency. The listener calls a `Commitment` in the threads of its associations; `on_report` and `peer_of` run there
too, several at a time. Each answer goes out from a thread of its own, because the question's association must first get
its N-ACTION response.
"""

import enum
import logging
import threading
import weakref
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Final

from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pydicom.sequence import Sequence as ItemSequence
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import evt
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext, build_context, build_role
from pynetdicom.sop_class import StorageCommitmentPushModel, StorageCommitmentPushModelInstance

from dicom_node.admission import Place, Places
from dicom_node.errors import DicomNodeError, PeerError, PeerRefusedError
from dicom_node.images.header_limits import Walk
from dicom_node.images.pydicom_errors import PYDICOM_ERRORS
from dicom_node.scu.association import DEFAULT_TIMEOUTS, Peer, Timeouts, associated
from dicom_node.store import Store
from dicom_node.uids import is_uid

_log = logging.getLogger(__name__)

_TRANSFER_SYNTAXES: Final = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian)  # none inflates
_MOST_ELEMENTS: Final = 150_000  # elements and items of a request, of which an instance has three

_MOST_AT_ONCE: Final = 12  # requests that are read or wait for their report; each may name 50,000 instances
_MOST_PER_ADDRESS: Final = 4
_WAIT_SECONDS: Final = 10.0  # for a place, after which a peer hears "resource limitation" and may ask again

_REQUEST: Final = 1  # the only action type, PS3.4 table J.3-1
_SUCCESS: Final = 0x0000
_PROCESSING_FAILURE: Final = 0x0110
_NO_SUCH_EVENT_TYPE: Final = 0x0113
_INVALID_ARGUMENT: Final = 0x0115
_RESOURCE_LIMITATION: Final = 0x0213
_RECOVERABLE: Final = (_PROCESSING_FAILURE, _RESOURCE_LIMITATION)  # PS3.7 annex C


class _ReportType(enum.IntEnum):
    """Event types of the N-EVENT-REPORT (PS3.4 table J.3-2)."""

    ALL_COMMITTED = 1
    SOME_FAILED = 2


class FailureReason(enum.IntEnum):
    """Why an instance is not committed: those values of PS3.3 section C.14.1.1 that this node gives."""

    NO_SUCH_INSTANCE = 0x0112
    CLASS_INSTANCE_CONFLICT = 0x0119


@dataclass(frozen=True)
class Reference:
    """An instance that commitment is asked for, by its two UIDs."""

    sop_class_uid: str
    sop_uid: str


@dataclass(frozen=True)
class CommitmentReport:
    """What a peer answered to one transaction.

    `committed` holds the SOP Instance UIDs that it commits itself to keep; `failed` gives the failure reason of each of
    the others: a FailureReason or another code of PS3.3 section C.14.1.1.
    """

    transaction_uid: str
    committed: frozenset[str]
    failed: Mapping[str, int]


def request_commitment(
    peer: Peer,
    references: Iterable[Reference],
    *,
    transaction_uid: str,
    calling_ae: str,
    wait_seconds: float = 0.0,
    timeouts: Timeouts = DEFAULT_TIMEOUTS,
) -> CommitmentReport | None:
    """Asks `peer` to commit itself to keep `references`; returns its report if that comes at once.

    The association stays open for up to `wait_seconds` for the report. None means that the report will come to the
    listener, under `transaction_uid`.

    Raises:
        PeerError: when the peer does not answer, fails or is short of resources.
        PeerRefusedError: when the peer does not do commitment, or refuses this request.
    """
    inbox: list[CommitmentReport] = []
    arrived = threading.Event()

    def take(event: evt.Event) -> tuple[int, None]:
        inbox.append(_read_report(event.event_information))
        arrived.set()
        return _SUCCESS, None

    question = Dataset()
    question.TransactionUID = transaction_uid
    question.ReferencedSOPSequence = ItemSequence(
        _item(reference.sop_class_uid, reference.sop_uid) for reference in references
    )
    context = build_context(StorageCommitmentPushModel)
    with associated(peer, [context], calling_ae=calling_ae, timeouts=timeouts) as association:
        association.bind(evt.EVT_N_EVENT_REPORT, take)
        response, _ = association.send_n_action(
            question, _REQUEST, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
        )
        _check(response, f"{peer} was asked for storage commitment {transaction_uid}")
        arrived.wait(wait_seconds)
    return inbox[0] if inbox else None


@dataclass(frozen=True)
class _Question:
    """What a peer asks: a transaction, and the SOP classes of the instances that it means by their UIDs.

    `place` is held until the report is out.
    """

    transaction_uid: str
    wanted: Mapping[str, str]
    place: Place


class StorageCommitment:
    """The listener's part in storage commitment: takes reports, and answers requests from what the store holds.

    Give it to the Listener as one of its `services`.
    """

    def __init__(
        self,
        store: Store,
        *,
        ae_title: str,
        on_report: Callable[[CommitmentReport], None] | None = None,
        peer_of: Callable[[str], Peer | None] = lambda _ae_title: None,
        timeouts: Timeouts = DEFAULT_TIMEOUTS,
    ) -> None:
        """Answers from `store`, as `ae_title`.

        `on_report` takes the reports about what this node asked of others; when it raises, the peer is told "processing
        failure" (0x0110) and may report again. `peer_of` finds an asker by its AE title; for None the answer goes out
        on the association of the question. `timeouts` are those of the new association.
        """
        self._store = store
        self._ae_title = ae_title
        self._on_report = on_report
        self._peer_of = peer_of
        self._timeouts = timeouts
        self._questions: weakref.WeakKeyDictionary[Association, _Question] = weakref.WeakKeyDictionary()
        self._places = Places(in_all=_MOST_AT_ONCE, per_address=_MOST_PER_ADDRESS, wait_seconds=_WAIT_SECONDS)
        self._reading = threading.Lock()  # one at a time: objects made of a data set take many times its bytes

    def contexts(self) -> list[PresentationContext]:
        """Returns the presentation context to offer, in both roles: a peer that reports to this node comes as SCP."""
        context = build_context(StorageCommitmentPushModel, list(_TRANSFER_SYNTAXES))
        context.scu_role = context.scp_role = True
        return [context]

    def handlers(self) -> list[tuple[Any, Callable[[evt.Event], Any]]]:
        """Returns the events of pynetdicom with the functions that it is to call."""
        return [
            (evt.EVT_N_EVENT_REPORT, self._report_received),
            (evt.EVT_N_ACTION, self._question_received),
            (evt.EVT_PDU_SENT, self._answer_sent),
            (evt.EVT_CONN_CLOSE, self._connection_closed),
        ]

    def _report_received(self, event: evt.Event) -> tuple[int, None]:
        """Takes a report; whatever goes wrong becomes a status, after which the peer may report again (a door)."""
        if event.event_type not in list(_ReportType):
            return _NO_SUCH_EVENT_TYPE, None
        place = self._place(event)  # held until the report is noted
        if place is None:
            return _RESOURCE_LIMITATION, None
        try:
            with self._reading:
                report = _read_report(_information(event, event.request.EventInformation))
        except PYDICOM_ERRORS:  # an attribute is missing or damaged
            return _INVALID_ARGUMENT, None
        try:
            if self._on_report:
                self._on_report(report)
        except Exception:  # noqa: BLE001 (a door)
            _log.exception("commitment_report_not_taken", extra={"peer": event.assoc.requestor.ae_title})
            return _PROCESSING_FAILURE, None
        return _SUCCESS, None

    def _question_received(self, event: evt.Event) -> tuple[int, None]:
        place = self._place(event)
        if place is None:
            return _RESOURCE_LIMITATION, None
        try:
            with self._reading:
                question = _read_question(_information(event, event.request.ActionInformation), place)
        except PYDICOM_ERRORS:
            return _INVALID_ARGUMENT, None
        self._questions[event.assoc] = question
        return _SUCCESS, None

    def _place(self, event: evt.Event) -> Place | None:
        """Returns a place for a request; None, with a line of the log, where its peer has too many at work."""
        peer = event.assoc.requestor
        place = self._places.take(peer.address)
        if place is None:
            facts = {"peer": peer.ae_title, "address": peer.address, "seconds": _WAIT_SECONDS}
            _log.warning("commitment_put_off", extra=facts)
        return place

    def _connection_closed(self, event: evt.Event) -> None:
        """Forgets a question whose N-ACTION response did not go out any more."""
        self._questions.pop(event.assoc, None)

    def _answer_sent(self, event: evt.Event) -> None:
        """Starts the report of a question whose N-ACTION response is on its way; other PDUs start none."""
        question = self._questions.pop(event.assoc, None)
        if question is not None:
            threading.Thread(target=self._report, args=(event.assoc, question), name="commitment", daemon=True).start()

    def _report(self, association: Association, question: _Question) -> None:
        asker = association.requestor.ae_title
        report = self._answer(question)
        try:
            peer = self._peer_of(asker)
            if peer is None:
                _send_report(association, report, f"{asker}, on its association,")
                return
            role = build_role(StorageCommitmentPushModel, scp_role=True)
            context = build_context(StorageCommitmentPushModel)
            with associated(
                peer, [context], calling_ae=self._ae_title, timeouts=self._timeouts, roles=[role]
            ) as reporting:
                _send_report(reporting, report, str(peer))
        except (DicomNodeError, RuntimeError, ValueError) as error:
            facts = {"transaction_uid": question.transaction_uid, "problem": str(error)}
            _log.warning("commitment_report_not_sent", extra=facts)

    def _answer(self, question: _Question) -> Dataset:
        """Makes the report on a question (PS3.4 section J.3.3).

        An instance is committed if the store holds it under the SOP class that was asked for.
        """
        held = self._store.classes_of(question.wanted)
        committed, failed = [], []
        for sop_uid, sop_class_uid in question.wanted.items():
            item = _item(sop_class_uid, sop_uid)
            if held.get(sop_uid) == sop_class_uid:
                committed.append(item)
                continue
            known = sop_uid in held
            item.FailureReason = FailureReason.CLASS_INSTANCE_CONFLICT if known else FailureReason.NO_SUCH_INSTANCE
            failed.append(item)
        report = Dataset()
        report.TransactionUID = question.transaction_uid
        if committed:
            report.ReferencedSOPSequence = ItemSequence(committed)
        if failed:
            report.FailedSOPSequence = ItemSequence(failed)
        return report


def _send_report(association: Association, report: Dataset, whom: str) -> None:
    kind = _ReportType.SOME_FAILED if "FailedSOPSequence" in report else _ReportType.ALL_COMMITTED
    response, _ = association.send_n_event_report(
        report, kind, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
    )
    _check(response, f"{whom} was told about storage commitment {report.TransactionUID}")


def _check(response: Dataset, what: str) -> None:
    if "Status" not in response:
        raise PeerError(f"{what} but did not answer.")
    if response.Status != _SUCCESS:
        kind = PeerError if response.Status in _RECOVERABLE else PeerRefusedError
        raise kind(f"{what} but answered 0x{response.Status:04X}.")


def _item(sop_class_uid: str, sop_uid: str) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = sop_class_uid
    item.ReferencedSOPInstanceUID = sop_uid
    return item


def _information(event: evt.Event, encoded: BytesIO | None) -> Dataset:
    """Returns the data set of a request, which is walked through before objects are made of it.

    Raises:
        PYDICOM_ERRORS: when it is damaged, or holds more than any request.
    """
    content, syntax = encoded.getvalue() if encoded else b"", event.context.transfer_syntax
    implicit, little = syntax.is_implicit_VR, syntax.is_little_endian
    Walk(BytesIO(content), len(content), implicit=implicit, little=little, most_elements=_MOST_ELEMENTS).run()
    return read_dataset(BytesIO(content), implicit, little)


def _read_question(information: Dataset, place: Place) -> _Question:
    wanted = {
        str(item.ReferencedSOPInstanceUID): str(item.ReferencedSOPClassUID)
        for item in information.ReferencedSOPSequence
    }
    if not wanted:
        raise ValueError("no instance is named")
    return _Question(_transaction_uid(information), wanted, place)


def _transaction_uid(information: Dataset) -> str:
    """Returns the UID of a transaction, which goes into the log. Raises `ValueError` where it is none."""
    uid = str(information.TransactionUID)
    if not is_uid(uid):
        raise ValueError("the transaction has no UID")
    return uid


def _read_report(information: Dataset) -> CommitmentReport:
    committed = (item.ReferencedSOPInstanceUID for item in information.get("ReferencedSOPSequence") or [])
    failed = {
        str(item.ReferencedSOPInstanceUID): int(item.get("FailureReason", _PROCESSING_FAILURE))
        for item in information.get("FailedSOPSequence") or []
    }
    return CommitmentReport(_transaction_uid(information), frozenset(map(str, committed)), failed)

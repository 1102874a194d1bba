"""Storage commitment: asks a destination that took results to promise to keep them (PS3.4 annex J).

A delivery worker asks (N-ACTION), under a transaction UID that is in the ledger before. The answer (N-EVENT-REPORT)
comes on the same association or, with most archives, on a new one to the node's listener; both end in `reported`. A
destination that has once called back is not waited for again.

What a destination does not commit itself to is sent again. A question without an answer is asked again, each time after
twice the wait, up to VOXTELL_MAX_COMMITMENT_REQUESTS times.
"""

import time
from dataclasses import dataclass

from pydicom.uid import generate_uid

from dicom_node.commitment import CommitmentReport, request_commitment
from dicom_node.errors import DicomNodeError, PeerError
from dicom_node.store import Store
from worker.destinations.dicom import peer_of
from worker.errors import WorkerError
from worker.ledger import Delivery, Ledger
from worker.logs import get_logger
from worker.maintenance.retries import backoff
from worker.results.for_destination import ResultsLostError, references_of
from worker.settings import Settings

log = get_logger(__name__)

SAME_ASSOCIATION_SECONDS = 2.0  # how long an association is kept open for an answer that comes on it


@dataclass(frozen=True)
class _Silence:
    """How often in a row a destination could not be asked, and until when (time.monotonic) it is left alone."""

    times: int
    until: float


class CommitmentRequests:
    """Asks destinations for storage commitment, and takes their answers.

    `ask` and `ask_first` are for one thread of a delivery worker; `reported` may be called in any thread and process,
    and needs no question to have been asked in this one. What is remembered of destinations is lost with the process.
    """

    def __init__(self, settings: Settings, ledger: Ledger, store: Store) -> None:
        self._settings, self._ledger, self._store = settings, ledger, store
        self._unheard: dict[str, str] = {}  # by destination, the last question whose association ended without answer
        self._calls_back: set[str] = set()  # destinations that answered such a question, so on one of their own
        self._silent: dict[str, _Silence] = {}  # by destination, where the last question did not reach it

    def ask_first(self, job_id: str, name: str) -> None:
        """Asks a destination about results that it has just taken; puts the question off while it is left alone."""
        silence = self._silent.get(name)
        if silence and (left := silence.until - time.monotonic()) > 0:
            self._ledger.commitments.hold(name, left)
        else:
            self.ask(job_id, name)

    def ask(self, job_id: str, name: str) -> None:
        """Asks a destination to commit itself to what it has taken of a job, if the question is due.

        Counts the question in the ledger first. A destination that cannot be reached is left alone for a while.
        """
        uid = str(generate_uid(prefix=None))
        delivery = self._ledger.commitments.claim(job_id, name, uid, self._settings.commitment_wait_seconds)
        if delivery is None:
            return
        try:
            report = request_commitment(
                peer_of(self._settings.destination(name), self._settings),
                references_of(delivery, self._ledger, self._store, self._settings.destination(name)),
                transaction_uid=uid,
                calling_ae=self._settings.ae_title,
                wait_seconds=self._wait_seconds(name),
            )
        except (DicomNodeError, WorkerError) as error:
            self._ledger.commitments.not_asked(delivery, str(error))
            if isinstance(error, PeerError):
                self._hold(name)
            log.warning("commitment_not_asked", job=job_id, destination=name, reason=str(error))
            return
        self._silent.pop(name, None)
        log.info("commitment_asked", job=job_id, destination=name, question=delivery.attempts)
        if report is None:
            self._unheard[name] = uid
        else:
            self.reported(report)

    def _hold(self, name: str) -> None:
        """Leaves a destination alone for a while, longer each time it cannot be reached."""
        times = self._silent[name].times + 1 if name in self._silent else 1
        wait = backoff(self._settings, times)
        self._silent[name] = _Silence(times, time.monotonic() + wait)
        self._ledger.commitments.hold(name, wait)

    def _wait_seconds(self, name: str) -> float:
        """Returns how many seconds to keep the association open for the answer; 0 for a peer known to call back."""
        if self._ledger.commitments.promised_by(self._unheard.pop(name, "")):
            self._calls_back.add(name)
        return 0.0 if name in self._calls_back else SAME_ASSOCIATION_SECONDS

    def reported(self, report: CommitmentReport) -> None:
        """Takes an answer: DELIVERED -> COMMITTED if it commits to every object, else -> PENDING or FAILED.

        An answer to another question than the delivery's last one is logged and changes nothing.
        """
        delivery = self._ledger.commitments.asked_with(report.transaction_uid)
        if delivery is None:
            log.warning("commitment_report_unexpected", transaction_uid=report.transaction_uid)
            return
        facts = {"job": delivery.job_id, "destination": delivery.destination}
        refused = dict.fromkeys(self._asked_for(delivery) - report.committed) | dict(report.failed)
        if not refused:
            if self._ledger.commitments.committed(delivery):
                log.info("commitment_given", **facts)
            return
        uid, code = next(iter(refused.items()))
        why = "no word about it" if code is None else f"0x{code:04X}"
        reason = f"took the objects but does not commit itself to {len(refused)} of them, the first is {uid} ({why})"
        wait = backoff(self._settings, delivery.claims)
        if self._ledger.commitments.not_committed(delivery, reason, wait, self._settings.max_deliveries):
            log.warning("commitment_refused", reason=reason, **facts)

    def _asked_for(self, delivery: Delivery) -> frozenset[str]:
        """Returns the SOP Instance UIDs that were asked for; empty where the results are gone.

        Then the answer alone counts.
        """
        try:
            destination = self._settings.destination(delivery.destination)
            return frozenset(one.sop_uid for one in references_of(delivery, self._ledger, self._store, destination))
        except ResultsLostError:
            return frozenset()

"""The intake: notes in the ledger what arrives, decides when a series is complete, asks the protocols, enqueues jobs.

Threads: `arrived` and `association_ended` run on the listener's association threads, `tick` and `sweep` on the one
intake thread. They share the ledger, and a small table under a lock that says when each series was last noted.
Processes: several listeners may receive; only the leader ticks and sweeps (`worker.maintenance.leader_lock`). It learns
from the store which series are open in the others.

When the protocols are asked about a series:
- at once when it is provably complete (`worker.selection.completeness`): it becomes FULL;
- else after `quiet_seconds` without an image and without an open association that brought it images: it becomes
  SETTLED. A FULL series becomes SETTLED under the same condition.

What a crash leaves behind:
- Jobs are written before the series is marked. Their id derives from the work, so a crash in between only repeats the
  question and adds no second job.
- The ledger hears of an association's images only now and then, so the last ones may be unnoted when the listener dies.
  The ledger knows how many images a FULL series had; with more of them the protocols are asked again.

A late image opens the series again and leads to a new job, which supersedes the old one. If the study is set aside for
removal just then, the question waits until the next round of `worker.maintenance.retention` has put it back.
"""

import threading
import time
from collections.abc import Callable, Set
from contextlib import suppress
from functools import partial

from dicom_node.errors import StoreError
from dicom_node.removal import StoreRemoval
from dicom_node.scp.arrivals import Arrival, AssociationEnd
from dicom_node.store import Outcome, Store
from dicom_node.uids import SeriesKey
from worker.errors import BrokerError
from worker.ledger import Ledger, Series, SeriesState
from worker.logs import get_logger
from worker.maintenance.leader_lock import Leadership
from worker.protocols import open_protocol_folder
from worker.queue.broker import Broker
from worker.reports.inbox import ReportInbox
from worker.selection.child import LookError
from worker.selection.completeness import CompletenessWatch
from worker.selection.looks import Looks
from worker.selection.select import Selection
from worker.settings import Settings

log = get_logger(__name__)

ENQUEUED_PER_SWEEP = 1000  # segmentations; a queue that lost a large backlog is filled as the workers empty it
NOTES_PER_QUIET_TIME = 4  # how often the ledger hears of a series that keeps arriving


class Intake:
    """Takes what the listener receives and decides what becomes of it. One per listener process."""

    def __init__(self, settings: Settings, store: Store, ledger: Ledger, broker: Broker) -> None:
        self._settings, self._store, self._ledger, self._broker = settings, store, ledger, broker
        self._protocols = open_protocol_folder(settings, self._ask_again)
        self._looks = Looks(settings, ledger)
        self._selection = Selection(settings, store, ledger, ReportInbox.of(settings, ledger), self._looks)
        self._completeness = CompletenessWatch(settings, store, self._looks)
        self._removal = StoreRemoval(store, ledger.clock.now)
        self._noted: dict[tuple[str, SeriesKey], float] = {}
        self._lock = threading.Lock()

    # -- on the association threads -------------------------------------------------------------------------

    def arrived(self, arrival: Arrival) -> None:
        """Notes a stored instance in the ledger before its C-STORE is answered. Called on association threads.

        The first image of a series in an association is noted at once, also one that was in the store already: that is
        how an image that was stored just before a crash comes again. Later images only renew the quiet time, and are
        noted four times in it at most, but each that replaced another one. The series becomes RECEIVING, whatever it
        was before.

        Raises:
            LedgerError: when the database does not answer.
            StoreError: when the image has been removed in the meantime; the sender has to send it again.
        """
        if arrival.outcome is Outcome.CONFLICT:
            log.warning("instance_conflict", sop_uid=arrival.sop_uid)
        now = time.monotonic()
        with self._lock:
            noted = self._noted.get((arrival.association_id, arrival.key), float("-inf"))
        if arrival.outcome is Outcome.REPLACED:  # other content, other work: whoever has just asked must ask again
            log.warning("instance_replaced", sop_uid=arrival.sop_uid)
        elif now - noted < self._settings.quiet_seconds / NOTES_PER_QUIET_TIME:
            return
        self._ledger.series.image_arrived(arrival.key, arrival.origin)
        self._check_is_there(arrival)
        with self._lock:
            self._noted[arrival.association_id, arrival.key] = now

    def _check_is_there(self, arrival: Arrival) -> None:
        """Refuses an image that was removed between its storage and the note of its arrival.

        Once the arrival is noted, retention leaves the image alone; before that it may just have removed it.
        """
        if arrival.path.exists():
            return
        with self._removal.alone():
            if not arrival.path.exists() and not self._removal.is_aside(arrival.key.study_uid):
                raise StoreError(f"{arrival.path} was removed before its arrival was noted; send it again")

    def association_ended(self, end: AssociationEnd) -> None:
        """Forgets the association; the quiet time of its series starts now. Called on association threads."""
        with self._lock:
            for series in end.series:
                self._noted.pop((end.association_id, series), None)
        for series in end.series:
            self._ledger.series.quiet_from_now(series)

    # -- on the intake thread -------------------------------------------------------------------------------

    def run(self, stop: threading.Event, open_series: Callable[[], Set[SeriesKey]]) -> None:
        """Ticks and sweeps until `stop` is set, while this process leads.

        `open_series` gives the series for which an association is open now, in any listener of this home.
        """

        def tick() -> None:
            self.tick(open_series())

        self._guarded(self._looks.start)
        next_sweep = 0.0
        with Leadership(self._settings.home) as leadership:
            while not stop.is_set():
                if leadership.held():
                    self._guarded(tick)
                    if time.monotonic() >= next_sweep:
                        next_sweep = time.monotonic() + self._settings.sweep_seconds
                        self._guarded(self.sweep)
                stop.wait(self._settings.tick_seconds)

    def _guarded(self, step: Callable[..., None], *arguments: object) -> None:
        """Runs one step of the intake thread; logs any error, so that the next tick tries again."""
        try:
            step(*arguments)
        except Exception:
            log.exception("intake_step_failed", step=step.__name__)

    def tick(self, open_series: Set[SeriesKey]) -> None:
        """Asks the protocols about each series that is provably complete, or has been quiet for `quiet_seconds`.

        A series that an open association brings is not quiet. One series whose question fails holds up no other.
        """
        self._protocols.current()  # an edit is judged when it is made, not when the next series is complete
        quiet_since = time.time() - self._settings.quiet_seconds
        receiving = self._ledger.series.unsettled()
        self._completeness.keep(receiving)
        for series in receiving:  # one series that cannot be settled holds up no other
            self._guarded(self._look, series, open_series, quiet_since)

    def _look(self, series: Series, open_series: Set[SeriesKey], quiet_since: float) -> None:
        """Decides on one series, unless it waits for its study or report, or its study is set aside for removal."""
        if self._selection.waits(series):
            return
        with self._removal.alone():  # no study is set aside between the question and its answer
            if not self._removal.is_aside(series.study_uid):  # else what came since is a part: all of it comes back
                with suppress(LookError):  # counted and logged where it was taken
                    self._decide(series, open_series, quiet_since)

    def _decide(self, series: Series, open_series: Set[SeriesKey], quiet_since: float) -> None:
        """Settles a quiet series, and asks the protocols about one that is quiet or newly proved complete."""
        key = series.series_key
        quiet = key not in open_series and series.last_at <= quiet_since
        study_open = any(one.study_uid == series.study_uid for one in open_series)
        if quiet and series.state is SeriesState.FULL and self._store.count(key) == series.full_with:
            self._ledger.series.settle(series)
        elif quiet:
            self._ask(series, "quiet", self._ledger.series.settle, study_open=study_open)
        elif series.state is SeriesState.RECEIVING and (
            proof := self._completeness.proof(series, is_open=key in open_series)
        ):
            settle = partial(self._ledger.series.mark_full, images=proof.images)
            self._ask(series, proof.why, settle, study_open=study_open)

    def sweep(self) -> None:
        """Frees the claims of dead workers, and puts on the queue again what waits in the ledger and is not there.

        It also repairs deadlines after the clock was set back, and gives up questions for storage commitment that have
        had no answer often enough. Changes the tables of series, jobs and deliveries.
        """
        self._ledger.stores.still_at_work()
        mended = self._ledger.clock.repair(
            lease_seconds=self._settings.delivery_lease_seconds,
            longest_wait_seconds=self._settings.max_backoff_seconds,
            commitment_wait_seconds=self._settings.commitment_wait_seconds,
        )
        if mended:
            log.warning("clock_set_back", rows=mended)
        for job in self._ledger.jobs.free_lost_leases(self._settings.max_attempts):
            log.error("job_failed", job=job.id, reason=job.reason)
        for delivery in self._ledger.deliveries.free_lost_leases(self._settings.max_deliveries):
            log.error("delivery_failed", job=delivery.job_id, destination=delivery.destination, reason=delivery.reason)
        for delivery in self._ledger.commitments.give_up(self._settings.max_commitment_requests):
            log.error(
                "commitment_given_up", job=delivery.job_id, destination=delivery.destination, reason=delivery.reason
            )
        try:
            self._broker.top_up(
                self._ledger.jobs.due(limit=ENQUEUED_PER_SWEEP),
                self._ledger.deliveries.due(),
                self._ledger.jobs.priorities(),
                to_commit=self._ledger.commitments.due(),
            )
        except BrokerError as error:
            log.warning("queue_unreachable", problem=str(error))

    def _ask_again(self, since: float) -> None:
        """Opens the series that came while a protocol was off, so that it is asked about them; no other job changes."""
        came = [one.series_key for one in self._ledger.series.asked_about_since(since)]
        opened = [key for key in came if self._store.count(key) and self._ledger.series.open_again(key)]
        log.info("protocol_back", series=len(opened))

    def _ask(self, series: Series, why: str, settle: Callable[[Series], bool], *, study_open: bool) -> None:
        """Asks every protocol, marks the series by `settle` unless a protocol waits, and enqueues the new jobs."""
        selected = self._selection.select(series, self._protocols.current(), study_open=study_open)
        settled = selected.ask_again_at is None and settle(series)
        problems = [volume.problem for volume in selected.volumes if volume.problem]
        log.info(
            "series_asked",
            series=series.series_uid,
            why=why,
            jobs=selected.jobs,
            settled=settled,
            problems=problems or None,
        )
        if not selected.jobs:
            return
        try:
            self._broker.segment(selected.jobs, self._ledger.jobs.priorities(selected.jobs))
        except BrokerError as error:  # the next sweep enqueues them
            log.warning("queue_unreachable", problem=str(error))

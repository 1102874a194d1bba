"""Results on their way to a PACS: one claim, one association, every status looked at.

What was refused for good fails the delivery with the reason; what may pass is tried again with growing waits. Objects
and UIDs stay the same however often they are sent, so that a PACS never sees one result as two.

One process at a time is at a destination, be it to send or to ask: a PACS that hangs takes one of them and never all. A
message that comes meanwhile is dropped; whoever is there enqueues the next that waits when it is done.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import structlog
from celery import shared_task
from pydicom.uid import generate_uid

from dicom_node.errors import DicomNodeError, PeerError
from dicom_node.scu.c_store import SendOutcome, send
from dicom_node.scu.stow import send_to_web
from dicom_node.scu.transcode import Syntax, transcoded
from dicom_node.store import Store
from worker.destinations import peer_of, web_peer_of
from worker.errors import BrokerError, WorkerError
from worker.ledger import Delivery, DeliveryState, Ledger
from worker.maintenance.leases import kept
from worker.maintenance.locks import destination_lock
from worker.maintenance.retries import backoff
from worker.maintenance.storage_commitment import Commitments
from worker.queue.broker import COMMIT_TASK, DELIVER_TASK, Broker, celery_app
from worker.results.for_destination import objects_of
from worker.settings import Settings, load

log = structlog.get_logger(__name__)


@shared_task(name=DELIVER_TASK)
def run(job_id: str, destination: str) -> None:
    """One attempt to send a job's results to one destination. A message that comes twice does nothing."""
    worker = DeliveryWorker.of_this_process()
    with worker.turn(job_id, destination) as mine:
        lease = worker.settings.delivery_lease_seconds
        delivery = worker.ledger.deliveries.claim(job_id, destination, lease) if mine else None
        if delivery is not None:
            facts = {"job": job_id, "destination": destination, "attempt": delivery.attempts}
            with structlog.contextvars.bound_contextvars(**facts):
                worker.attempt(delivery)


@shared_task(name=COMMIT_TASK)
def ask(job_id: str, destination: str) -> None:
    """One question for storage commitment. A message that comes twice does nothing; one that is lost comes again."""
    worker = DeliveryWorker.of_this_process()
    with worker.turn(job_id, destination) as mine:
        if mine:
            worker.commitments.ask(job_id, destination)


class DeliveryWorker:
    """What the delivery process keeps between jobs."""

    _mine: "DeliveryWorker | None" = None

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.ledger = Ledger(settings.ledger_url)
        self.store = Store(settings.home)
        self.commitments = Commitments(settings, self.ledger, self.store)
        self.broker = Broker(celery_app(settings))

    @classmethod
    def of_this_process(cls) -> "DeliveryWorker":
        """The one of a worker process; made at the first delivery, after the fork."""
        if cls._mine is None:
            cls._mine = cls(load())
        return cls._mine

    @contextmanager
    def turn(self, job_id: str, destination: str) -> Iterator[bool]:
        """Whether this process has the destination to itself; if so, the next other job's that waits is enqueued then.

        That one's message may have come meanwhile. It is looked up when the turn is over: none is dropped after that.
        """
        with destination_lock(self.settings.home, destination) as mine:
            yield mine
        if not mine:
            return
        try:
            if deliveries := self.ledger.deliveries.next_due(destination, job_id):
                self.broker.deliver(deliveries, self.ledger.jobs.priorities([waiting for waiting, _ in deliveries]))
            else:
                self.broker.commit(self.ledger.commitments.next_due(destination, job_id))
        except BrokerError as error:  # the next sweep enqueues it
            log.warning("queue_unreachable", problem=str(error))

    def attempt(self, delivery: Delivery) -> None:
        """A door: every outcome, also the unexpected, becomes a line of the ledger."""
        try:
            lease = self.settings.delivery_lease_seconds
            with kept(lambda: self.ledger.deliveries.renew(delivery, lease), lease):
                outcomes = self._send(delivery)
        except PeerError as error:  # there was no association: the others that wait for it need not try it too
            self._not_sent(delivery, str(error), final=False)
            self.ledger.deliveries.hold(delivery.destination, backoff(self.settings, delivery.attempts))
        except (DicomNodeError, WorkerError) as error:
            self._not_sent(delivery, str(error), final=error.retry != "later")
        except Exception as error:
            log.exception("unexpected_error")
            self._not_sent(delivery, f"unexpected {type(error).__name__}: {error}", final=False)
        else:
            self._judge(delivery, outcomes)

    def _send(self, delivery: Delivery) -> list[SendOutcome]:
        destination = self.settings.destination(delivery.destination)
        objects = objects_of(delivery, self.ledger, self.store, destination)
        paths = [path for path in objects if path.name not in delivery.taken]
        if not paths:  # what it refused goes elsewhere by now
            return []
        with self._in_syntax(paths, destination.transfer_syntax) as copies:
            if web := web_peer_of(destination, self.settings):
                return send_to_web(copies, web)
            return send(copies, peer_of(destination, self.settings), calling_ae=self.settings.ae_title)

    @contextmanager
    def _in_syntax(self, paths: Sequence[Path], syntax: Syntax) -> Iterator[Sequence[Path]]:
        """The objects in a transfer syntax; the store writes "explicit" ones, which need neither copies nor room."""
        if syntax == "explicit":
            yield paths
            return
        with self.store.scratch() as folder:
            yield [transcoded(path, syntax, folder) for path in paths]

    def _judge(self, delivery: Delivery, outcomes: list[SendOutcome]) -> None:
        failed = [outcome for outcome in outcomes if outcome.result == "failed"]
        for outcome in outcomes:
            if outcome.result == "warning":
                log.warning("object_sent_with_warning", sop_uid=outcome.sop_uid, message=outcome.message)
        if failed:
            taken = [outcome.path.name for outcome in outcomes if outcome.result != "failed"]
            there = len(delivery.taken) + len(taken)
            reason = failed[0].message + (f" {there} of {there + len(failed)} objects are there." if there else "")
            self._not_sent(delivery, reason, final=all(outcome.retry == "final" for outcome in failed), taken=taken)
            if any(outcome.silent for outcome in failed):  # the shortest wait: one object may be what it chokes on
                self.ledger.deliveries.hold(delivery.destination, backoff(self.settings, 1))
            return
        asks = self.settings.destination(delivery.destination).commitment
        uid = str(generate_uid(prefix=None)) if asks else None
        state = self.ledger.deliveries.end(delivery, DeliveryState.DELIVERED, transaction_uid=uid)
        log.info("results_delivered", objects=len(outcomes), job_state=str(state))
        if asks:
            self.commitments.ask_first(delivery.job_id, delivery.destination)

    def _not_sent(self, delivery: Delivery, reason: str, *, final: bool, taken: Sequence[str] = ()) -> None:
        if final or delivery.attempts >= self.settings.max_deliveries:
            self.ledger.deliveries.end(delivery, DeliveryState.FAILED, reason, taken=taken)
            log.error("delivery_failed", reason=reason)
        else:
            self.ledger.deliveries.postpone(delivery, reason, backoff(self.settings, delivery.attempts), taken=taken)
            log.warning("delivery_postponed", reason=reason)

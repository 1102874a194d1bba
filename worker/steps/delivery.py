"""The delivery worker: Celery tasks that send one job's results to one destination and ask for storage commitment.

An attempt claims the delivery in the ledger, sends all objects at once in the destination's own way
(`worker.destinations`) and reads every status. What a destination refuses for good fails the delivery with the reason;
what may pass is tried again after growing waits. Objects keep their UIDs however often they are sent, so that a PACS
never sees one result as two.

Processes: Celery forks several children, and each runs one task at a time. Only one of them at a time talks to a
destination, to send or to ask (`worker.maintenance.destination_lock`): a PACS that hangs holds up one child, never all
of them. A message for a destination that is busy is dropped; the process that holds its lock enqueues the next one when
it leaves.

A child that is killed leaves a delivery in SENDING. The lease runs out, the listener's sweep makes it PENDING again,
and the next attempt sends the objects once more, under the same UIDs.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import structlog
from celery import shared_task
from pydicom.uid import generate_uid

from dicom_node.errors import DicomNodeError, PeerError
from dicom_node.scu.c_store import SendOutcome
from dicom_node.scu.transcode import Syntax, transcoded
from dicom_node.store import Store
from worker.errors import BrokerError, WorkerError, reason_of
from worker.ledger import Delivery, DeliveryState, Ledger
from worker.ledger.states import IMAGES_REPLACED
from worker.logs import get_logger
from worker.maintenance.destination_lock import destination_lock
from worker.maintenance.leases import kept
from worker.maintenance.retries import backoff
from worker.maintenance.storage_commitment import CommitmentRequests
from worker.queue.broker import Broker, celery_app
from worker.queue.messages import COMMIT_TASK, DELIVER_TASK
from worker.results.for_destination import objects_of
from worker.selection.contents import is_former
from worker.settings import Settings, load

log = get_logger(__name__)

_GIVEN_BACK: Final = "given back: the worker was stopped"


class FormerContentError(WorkerError):
    """Images of a job came again with other content before its results were sent."""


@shared_task(name=DELIVER_TASK)
def run(job_id: str, destination: str) -> None:
    """Makes one attempt to send a job's results to one destination.

    Does nothing while another process is at that destination, or if the delivery cannot be claimed: a message that
    comes twice has no effect.
    """
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
    """Asks one destination for storage commitment of a job's results (PS3.4 annex J).

    Does nothing while another process is at that destination, or if the question is not due. A message that is lost is
    sent again by the sweep.
    """
    worker = DeliveryWorker.of_this_process()
    with worker.turn(job_id, destination) as mine:
        if mine:
            worker.commitments.ask(job_id, destination)


class DeliveryWorker:
    """Holds what one delivery process keeps between jobs: its connections, and what it knows of silent destinations."""

    _mine: "DeliveryWorker | None" = None

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.store = Store(settings.home)
        self.ledger = Ledger(settings.ledger_url, store_id=self.store.id)
        self.commitments = CommitmentRequests(settings, self.ledger, self.store)
        self.broker = Broker(celery_app(settings))

    @classmethod
    def of_this_process(cls) -> "DeliveryWorker":
        """Returns this process's worker, made at the first task: no connection may be shared across a fork."""
        if cls._mine is None:
            cls._mine = cls(load())
        return cls._mine

    @contextmanager
    def turn(self, job_id: str, destination: str) -> Iterator[bool]:
        """Holds the destination's lock; yields False at once when another process holds it.

        On leaving, a process that held it enqueues the first delivery (or else the first question) of another job that
        waits for this destination. That job's own message may have been dropped while the lock was held, and it is
        looked up only after the release, so that none is dropped later without being seen here.
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
        """Sends a claimed delivery. Every outcome, also an unexpected error, is noted in the ledger.

        When no association came about, the other deliveries that wait for the destination are put off as well: they
        would fail in the same way.
        """
        try:
            lease = self.settings.delivery_lease_seconds
            with kept(lambda: self.ledger.deliveries.renew(delivery, lease), lease):
                outcomes = self._send(delivery)
        except FormerContentError as error:
            if self.ledger.jobs.withdraw(delivery.job_id):
                log.warning("job_taken_back", reason=str(error))
            self.ledger.deliveries.postpone(delivery, str(error), 0.0)
        except PeerError as error:  # there was no association: the others that wait for it need not try it too
            self._not_sent(delivery, str(error), final=False)
            self.ledger.deliveries.hold(delivery.destination, backoff(self.settings, delivery.attempts))
        except (DicomNodeError, WorkerError) as error:
            self._not_sent(delivery, str(error), final=error.retry != "later")
        except Exception as error:
            log.exception("unexpected_error")
            self._not_sent(delivery, reason_of(error), final=False)
        else:
            self._judge(delivery, outcomes)

    def _send(self, delivery: Delivery) -> list[SendOutcome]:
        """Sends the objects that the destination has not taken in an earlier attempt; one outcome per object.

        Raises:
            FormerContentError: when the images have other content now than the job was made for.
            PeerError: when there is no association.
            PeerRefusedError: when the destination refuses the association or the whole request.
            WorkerError: when nothing can be sent, such as results that are lost.
        """
        if is_former(self.ledger.jobs.get(delivery.job_id).spec, self.store):
            raise FormerContentError(IMAGES_REPLACED)
        destination = self.settings.destination(delivery.destination)
        objects = objects_of(delivery, self.ledger, self.store, destination)
        paths = [path for path in objects if path.name not in delivery.taken]
        if not paths:  # a fallback gets what it refused
            return []
        with self._in_syntax(paths, destination.transfer_syntax) as copies:
            return destination.send(copies, self.settings)

    @contextmanager
    def _in_syntax(self, paths: Sequence[Path], syntax: Syntax) -> Iterator[Sequence[Path]]:
        """Yields the objects in the destination's transfer syntax; copies are removed at the end of the block.

        The store writes Explicit VR Little Endian, so "explicit" needs no copies.
        """
        if syntax == "explicit":
            yield paths
            return
        with self.store.scratch() as folder:
            yield [transcoded(path, syntax, folder) for path in paths]

    def _judge(self, delivery: Delivery, outcomes: list[SendOutcome]) -> None:
        """Notes what the statuses mean: DELIVERED when no object failed, else PENDING or FAILED with the first reason.

        A destination is asked for storage commitment directly after it has taken everything.
        """
        failed = [outcome for outcome in outcomes if outcome.result == "failed"]
        taken = [outcome.path.name for outcome in outcomes if outcome.result != "failed"]
        for outcome in outcomes:
            if outcome.result == "warning":
                log.warning("object_sent_with_warning", sop_uid=outcome.sop_uid, message=outcome.message)
        if withheld := [outcome for outcome in failed if outcome.withheld]:
            self.ledger.deliveries.give_back(delivery, _GIVEN_BACK, taken=taken)
            log.warning("delivery_given_back", objects=len(withheld), reason=_GIVEN_BACK)
            return
        if failed:
            there = len(delivery.taken) + len(taken)
            reason = failed[0].message + (f" {there} of {there + len(failed)} objects are there." if there else "")
            self._not_sent(delivery, reason, final=all(outcome.retry == "final" for outcome in failed), taken=taken)
            if any(outcome.silent for outcome in failed):  # the shortest wait: perhaps it chokes on this object alone
                self.ledger.deliveries.hold(delivery.destination, backoff(self.settings, 1))
            return
        asks = self.settings.destination(delivery.destination).promises
        uid = str(generate_uid(prefix=None)) if asks else None
        state = self.ledger.deliveries.end(delivery, DeliveryState.DELIVERED, transaction_uid=uid)
        log.info("results_delivered", objects=len(outcomes), job_state=str(state))
        if asks:
            self.commitments.ask_first(delivery.job_id, delivery.destination)

    def _not_sent(self, delivery: Delivery, reason: str, *, final: bool, taken: Sequence[str] = ()) -> None:
        """Notes an attempt that did not deliver everything; `taken` are the file names that arrived all the same.

        The delivery is FAILED when the refusal is final or the attempts are used up; else it waits for its backoff.
        """
        if final or delivery.attempts >= self.settings.max_deliveries:
            self.ledger.deliveries.end(delivery, DeliveryState.FAILED, reason, taken=taken)
            log.error("delivery_failed", reason=reason)
        else:
            self.ledger.deliveries.postpone(delivery, reason, backoff(self.settings, delivery.attempts), taken=taken)
            log.warning("delivery_postponed", reason=reason)

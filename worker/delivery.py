"""Results on their way to a PACS: one claim, one association, every status looked at.

What was refused for good fails the delivery with the reason; what may pass is tried again with growing waits. Objects
and UIDs stay the same however often they are sent, so that a PACS never sees one result as two.
"""

import structlog
from celery import shared_task

from dicom_node.errors import DicomNodeError
from dicom_node.sender import SendOutcome, send
from dicom_node.store import Store
from worker.broker import DELIVER_TASK
from worker.errors import WorkerError
from worker.ledger import Delivery, DeliveryState, Ledger
from worker.peers import peer_of
from worker.retries import backoff
from worker.settings import Settings, load

log = structlog.get_logger(__name__)


class ResultsLostError(WorkerError):
    """Results of a job are not on disk any more."""


@shared_task(name=DELIVER_TASK)
def run(job_id: str, destination: str) -> None:
    """One attempt to send a job's results to one destination. A message that comes twice does nothing."""
    sender = Sender.of_this_process()
    delivery = sender.ledger.claim_delivery(job_id, destination, sender.settings.delivery_lease_seconds)
    if delivery is not None:
        with structlog.contextvars.bound_contextvars(job=job_id, destination=destination, attempt=delivery.attempts):
            sender.attempt(delivery)


class Sender:
    """What the delivery process keeps between jobs."""

    _mine: "Sender | None" = None

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.ledger = Ledger(settings.ledger_url)
        self.store = Store(settings.home)

    @classmethod
    def of_this_process(cls) -> "Sender":
        """The one sender of a worker process; made at the first delivery, after the fork."""
        if cls._mine is None:
            cls._mine = cls(load())
        return cls._mine

    def attempt(self, delivery: Delivery) -> None:
        """A door: every outcome, also the unexpected, becomes a line of the ledger."""
        try:
            outcomes = self._send(delivery)
        except (DicomNodeError, WorkerError) as error:
            self._not_sent(delivery, str(error), final=error.retry != "later")
        except Exception as error:
            log.exception("unexpected error")
            self._not_sent(delivery, f"unexpected {type(error).__name__}: {error}", final=False)
        else:
            self._judge(delivery, outcomes)

    def _send(self, delivery: Delivery) -> list[SendOutcome]:
        """Sends every object that the job made, or none: a folder that lost one must not count as delivered."""
        destination = self.settings.destination(delivery.destination)
        peer = peer_of(destination, self.settings)
        stored = {path.name: path for path in self.store.result_paths(delivery.job_id)}
        made = [name for name in self.ledger.job(delivery.job_id).result["files"] if name.endswith(".dcm")]
        lost = [name for name in made if name not in stored]
        if lost:
            raise ResultsLostError(
                f"{', '.join(lost)} of job {delivery.job_id} is not in {self.store.home / 'results'} any more; "
                "bring the folder back and retry the job"
            )
        return send([stored[name] for name in made], peer, calling_ae=self.settings.ae_title)

    def _judge(self, delivery: Delivery, outcomes: list[SendOutcome]) -> None:
        failed = [outcome for outcome in outcomes if outcome.result == "failed"]
        for outcome in outcomes:
            if outcome.result == "warning":
                log.warning("sent with a warning", sop_uid=outcome.sop_uid, message=outcome.message)
        if failed:
            self._not_sent(delivery, failed[0].message, final=all(outcome.retry == "final" for outcome in failed))
            return
        state = self.ledger.end_delivery(delivery, DeliveryState.DELIVERED)
        log.info("delivered", objects=len(outcomes), job_state=str(state))

    def _not_sent(self, delivery: Delivery, reason: str, *, final: bool) -> None:
        if final or delivery.attempts >= self.settings.max_deliveries:
            self.ledger.end_delivery(delivery, DeliveryState.FAILED, reason)
            log.error("delivery failed", reason=reason)
        else:
            self.ledger.postpone_delivery(delivery, reason, backoff(self.settings, delivery.attempts))
            log.warning("not delivered, will try again", reason=reason)

"""The queue: Redis carries job ids through Celery, nothing else. If it is lost, `top_up` fills it from the ledger.

A message may come twice and a job runs once, because the worker claims it in the ledger first. So messages are
acknowledged late, and one that outlived its worker is simply dropped by the next claim.

Two tasks, enqueued by name so that the listener never imports what runs them:
    worker.segmentation.run(job_id)              queue `segment`
    worker.delivery.run(job_id, destination)     queue `deliver`
"""

from collections.abc import Sequence

from celery import Celery
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from worker.errors import BrokerError
from worker.queue_server import embedded_url
from worker.settings import Settings

SEGMENT_QUEUE, DELIVER_QUEUE = "segment", "deliver"
SEGMENT_TASK, DELIVER_TASK = "worker.segmentation.run", "worker.delivery.run"

TIME_LIMIT_GRACE_SECONDS = 30  # between asking a task to end and killing its process
VISIBILITY_FACTOR = 2  # Redis delivers an unacknowledged message again after this many hard time limits
RECONNECT_SECONDS = 2  # how long an enqueue waits for a queue that is down; the ledger remembers anyway


def celery_app(settings: Settings) -> Celery:
    """The Celery application of this node; every process makes its own."""
    app = Celery("voxtell", broker=settings.redis_url or embedded_url(settings.home), set_as_current=True)
    hard_limit = settings.job_time_limit_seconds + TIME_LIMIT_GRACE_SECONDS
    app.conf.update(
        task_ignore_result=True,
        accept_content=["json"],
        task_acks_late=True,
        task_default_queue=SEGMENT_QUEUE,
        task_soft_time_limit=settings.job_time_limit_seconds,
        task_time_limit=hard_limit,
        worker_prefetch_multiplier=1,
        worker_hijack_root_logger=False,
        worker_send_task_events=False,
        broker_connection_retry_on_startup=True,
        broker_transport_options={
            "visibility_timeout": VISIBILITY_FACTOR * hard_limit,
            "unacked_restore_interval": 10,
            "socket_connect_timeout": RECONNECT_SECONDS,
            "connect_retries_timeout": RECONNECT_SECONDS,
            "interval_start": 0.1,
        },
    )
    return app


class Broker:
    """Puts job ids on the queues.

    Raises:
        BrokerError: the queue does not answer; the job stays in the ledger and is enqueued later.
    """

    def __init__(self, app: Celery) -> None:
        self._app = app

    def segment(self, job_ids: Sequence[str]) -> None:
        """Enqueues segmentations."""
        self._send(SEGMENT_TASK, SEGMENT_QUEUE, [(job_id,) for job_id in job_ids])

    def deliver(self, pairs: Sequence[tuple[str, str]]) -> None:
        """Enqueues deliveries of (job id, destination)."""
        self._send(DELIVER_TASK, DELIVER_QUEUE, pairs)

    def top_up(self, to_segment: Sequence[str], to_deliver: Sequence[tuple[str, str]]) -> None:
        """Enqueues what the ledger knows as waiting if the queues hold less than that: messages were lost."""
        if to_segment and self._waiting(SEGMENT_QUEUE) < len(to_segment):
            self.segment(to_segment)
        if to_deliver and self._waiting(DELIVER_QUEUE) < len(to_deliver):
            self.deliver(to_deliver)

    def _send(self, task: str, queue: str, arguments: Sequence[tuple[str, ...]]) -> None:
        try:
            for args in arguments:
                self._app.send_task(task, args=args, queue=queue, retry=False)
        except (OperationalError, RedisError, OSError) as error:
            raise self._down(error) from None

    def _waiting(self, queue: str) -> int:
        try:
            with self._app.connection_for_write() as connection:
                return int(connection.default_channel.client.llen(queue))
        except (OperationalError, RedisError, OSError) as error:
            raise self._down(error) from None

    def _down(self, error: Exception) -> BrokerError:
        url = self._app.connection_for_write().as_uri()
        return BrokerError(f"the queue at {url} does not answer ({error}); start it or check VOXTELL_REDIS_URL")

"""The queue: Redis carries job ids through Celery, nothing else. If it is lost, `top_up` fills it from the ledger.

A message may come twice and a job runs once, because the worker claims it in the ledger first. So messages are
acknowledged late, and one that outlived its worker is simply dropped by the next claim.

Three tasks, enqueued by name so that the listener never imports what runs them:
    worker.segmentation.run(job_id)              queue `segment`
    worker.delivery.run(job_id, destination)     queue `deliver`
    worker.delivery.ask(job_id, destination)     queue `deliver`

Each queue is one Redis list per priority, and a worker takes from the first list that holds anything (priority 0 is the
most urgent, as in `worker.jobs.Priority`). So an urgent job is next, however many routine ones were enqueued before it.
"""

from collections.abc import Mapping, Sequence

from celery import Celery
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from worker.errors import BrokerError
from worker.jobs import Priority
from worker.queue_server import embedded_url
from worker.settings import Settings

SEGMENT_QUEUE, DELIVER_QUEUE = "segment", "deliver"
SEGMENT_TASK, DELIVER_TASK = "worker.segmentation.run", "worker.delivery.run"
COMMIT_TASK = "worker.delivery.ask"

TIME_LIMIT_GRACE_SECONDS = 30  # between asking a task to end and killing its process
VISIBILITY_FACTOR = 2  # Redis delivers an unacknowledged message again after this many hard time limits
PRIORITY_SEPARATOR = "\x06\x16"  # kombu's default: list `segment` for priority 0, `segment<separator>1` for 1
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
        task_default_priority=Priority.ROUTINE.value,
        task_soft_time_limit=settings.job_time_limit_seconds,
        task_time_limit=hard_limit,
        worker_prefetch_multiplier=1,
        worker_hijack_root_logger=False,
        worker_send_task_events=False,
        broker_connection_retry_on_startup=True,
        broker_transport_options={
            "visibility_timeout": VISIBILITY_FACTOR * hard_limit,
            "unacked_restore_interval": 10,
            "priority_steps": [priority.value for priority in Priority],
            "sep": PRIORITY_SEPARATOR,
            "queue_order_strategy": "priority",
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

    def segment(self, job_ids: Sequence[str], priorities: Mapping[str, Priority] | None = None) -> None:
        """Enqueues segmentations; a job without a priority is routine."""
        self._send(SEGMENT_TASK, SEGMENT_QUEUE, [(job_id,) for job_id in job_ids], priorities or {})

    def deliver(self, pairs: Sequence[tuple[str, str]], priorities: Mapping[str, Priority] | None = None) -> None:
        """Enqueues deliveries of (job id, destination), by the priorities of the jobs."""
        self._send(DELIVER_TASK, DELIVER_QUEUE, pairs, priorities or {})

    def top_up(
        self,
        to_segment: Sequence[str],
        to_deliver: Sequence[tuple[str, str]],
        priorities: Mapping[str, Priority] | None = None,
        *,
        to_commit: Sequence[tuple[str, str]] = (),
    ) -> None:
        """Enqueues what the ledger knows as waiting if the queues hold less than that: messages were lost."""
        if to_segment and self._waiting(SEGMENT_QUEUE) < len(to_segment):
            self.segment(to_segment, priorities)
        wanted = len(to_deliver) + len(to_commit)
        if wanted and self._waiting(DELIVER_QUEUE) < wanted:
            self.deliver(to_deliver, priorities)
            self._send(COMMIT_TASK, DELIVER_QUEUE, to_commit, priorities or {})

    def _send(
        self, task: str, queue: str, arguments: Sequence[tuple[str, ...]], priorities: Mapping[str, Priority]
    ) -> None:
        try:
            for args in arguments:
                priority = priorities.get(args[0], Priority.ROUTINE)
                self._app.send_task(task, args=args, queue=queue, priority=priority.value, retry=False)
        except (OperationalError, RedisError, OSError) as error:
            raise self._down(error) from None

    def _waiting(self, queue: str) -> int:
        try:
            with self._app.connection_for_write() as connection:
                client = connection.default_channel.client
                return sum(int(client.llen(name)) for name in lists_of(queue))
        except (OperationalError, RedisError, OSError) as error:
            raise self._down(error) from None

    def _down(self, error: Exception) -> BrokerError:
        url = self._app.connection_for_write().as_uri()
        return BrokerError(f"the queue at {url} does not answer ({error}); start it or check VOXTELL_REDIS_URL")


def lists_of(queue: str) -> list[str]:
    """The Redis lists of a queue, the most urgent first."""
    return [f"{queue}{PRIORITY_SEPARATOR}{priority}" if priority else queue for priority in map(int, Priority)]

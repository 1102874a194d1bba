"""The broker: puts job ids on the queue, which is Redis through Celery. If the queue is lost, `top_up` fills it again.

A message may come twice, and its job still runs once, because the worker claims the job in the ledger first. So
messages are acknowledged only after the work, and one that outlived its worker is dropped by the next claim.

Three tasks, enqueued by name so that the listener never imports what runs them:
    worker.segmentation.run(job_id)              queue `segment`
    worker.delivery.run(job_id, destination)     queue `deliver`
    worker.delivery.ask(job_id, destination)     queue `deliver`

Each queue is one Redis list per priority, and a worker takes from the first list that holds anything (priority 0 is the
most urgent, as in `worker.job_spec.Priority`). So an urgent job is next, however many routine ones wait.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from celery import Celery
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from worker.errors import BrokerError
from worker.job_spec import Priority
from worker.queue.embedded_server import ANSWER_SECONDS, embedded_url
from worker.queue.messages import COMMIT_TASK, DELIVER_TASK, SEGMENT_TASK, QueueMessage, read
from worker.settings import Settings

SEGMENT_QUEUE, DELIVER_QUEUE = "segment", "deliver"

TIME_LIMIT_GRACE_SECONDS = 30  # between asking a task to end and killing its process
VISIBILITY_FACTOR = 2  # Redis delivers an unacknowledged message again after this many hard time limits
PRIORITY_SEPARATOR = "\x06\x16"  # kombu's default: list `segment` for priority 0, `segment<separator>1` for 1
RECONNECT_SECONDS = 2  # how long an enqueue waits for a queue that is down; the ledger remembers anyway
PAGE = 1000  # messages read at one time, about a kilobyte each


def celery_app(settings: Settings, *, takes: bool = False) -> Celery:
    """Makes the Celery application of a process; every process makes its own.

    `takes`: whether the process takes messages. Then it waits for the queue without limit: a message whose
    acknowledgement was cut off would count for ever among those that a worker may hold, until it takes no more.
    """
    url = settings.redis_url.get_secret_value() if settings.redis_url else embedded_url(settings.home)
    app = Celery("voxtell", broker=url, set_as_current=True)
    hard_limit = settings.job_time_limit_seconds + TIME_LIMIT_GRACE_SECONDS
    app.conf.update(
        task_ignore_result=True,
        accept_content=["json"],
        task_acks_late=True,
        task_default_queue=SEGMENT_QUEUE,
        task_default_priority=Priority.ROUTINE.value,
        # For segmentations alone: a delivery ends by the timeouts of its association, however long it may take.
        task_annotations={
            SEGMENT_TASK: {"soft_time_limit": settings.job_time_limit_seconds, "time_limit": hard_limit},
        },
        worker_prefetch_multiplier=1,
        worker_hijack_root_logger=False,
        worker_send_task_events=False,
        worker_enable_remote_control=False,  # or whoever reaches the queue may stop workers and read what they do
        broker_connection_retry_on_startup=True,
        broker_channel_error_retry=True,  # where a queue refuses a command, a worker would end, or hang while it ends
        broker_transport_options={
            "visibility_timeout": VISIBILITY_FACTOR * hard_limit,
            "unacked_restore_interval": 10,
            "priority_steps": [priority.value for priority in Priority],
            "sep": PRIORITY_SEPARATOR,
            "queue_order_strategy": "priority",
            "socket_connect_timeout": RECONNECT_SECONDS,
            "connect_retries_timeout": RECONNECT_SECONDS,
            "socket_timeout": None if takes else ANSWER_SECONDS,
            "socket_keepalive": True,
            "interval_start": 0.1,
        },
    )
    return app


class Broker:
    """Puts job ids on the queues. Its methods may be called again with the same ids: a job still runs once.

    Raises:
        BrokerError: when the queue does not answer within seconds, in every method. Callers log it and go on: the job
            is in the ledger, and the sweep enqueues it later.
    """

    def __init__(self, app: Celery) -> None:
        self._app = app

    def segment(self, job_ids: Sequence[str], priorities: Mapping[str, Priority] | None = None) -> None:
        """Enqueues segmentations; a job without a priority is routine."""
        self._send(SEGMENT_QUEUE, [(SEGMENT_TASK, job_id) for job_id in job_ids], priorities or {})

    def deliver(self, pairs: Sequence[tuple[str, str]], priorities: Mapping[str, Priority] | None = None) -> None:
        """Enqueues deliveries of (job id, destination), by the priorities of the jobs."""
        self._send(DELIVER_QUEUE, [(DELIVER_TASK, *pair) for pair in pairs], priorities or {})

    def commit(self, pairs: Sequence[tuple[str, str]], priorities: Mapping[str, Priority] | None = None) -> None:
        """Enqueues questions for storage commitment, by (job id, destination)."""
        self._send(DELIVER_QUEUE, [(COMMIT_TASK, *pair) for pair in pairs], priorities or {})

    def top_up(
        self,
        to_segment: Sequence[str],
        to_deliver: Sequence[tuple[str, str]],
        priorities: Mapping[str, Priority] | None = None,
        *,
        to_commit: Sequence[tuple[str, str]] = (),
    ) -> None:
        """Enqueues what is due by the ledger and is not on the queue: it was lost, or its time has come only now.

        Of the deliveries and questions for one destination the first is enough: one process at a time talks to a
        destination, and enqueues the next when it leaves. Called by the sweep of the leading listener.
        """
        self._fill(SEGMENT_QUEUE, [(SEGMENT_TASK, job_id) for job_id in to_segment], priorities or {})
        first = [(DELIVER_TASK, *pair) for pair in _first_for_each(to_deliver)]
        first += [(COMMIT_TASK, *pair) for pair in _first_for_each(to_commit)]
        self._fill(DELIVER_QUEUE, first, priorities or {})

    def _fill(self, queue: str, messages: Sequence[QueueMessage], priorities: Mapping[str, Priority]) -> None:
        """Sends those of the messages that the list of their priority does not hold."""
        wanted = defaultdict(list)
        for message in messages:
            wanted[_priority(message, priorities)].append(message)
        for priority, due in wanted.items():
            waiting = self._waiting(list_of(queue, priority))
            self._send(queue, [message for message in due if message not in waiting], priorities)

    def _send(self, queue: str, messages: Sequence[QueueMessage], priorities: Mapping[str, Priority]) -> None:
        """Sends messages, each to the list of its job's priority; does not retry."""
        try:
            for message in messages:
                task, *args = message
                priority = _priority(message, priorities)
                self._app.send_task(task, args=args, queue=queue, priority=priority.value, retry=False)
        except (OperationalError, RedisError, OSError) as error:
            raise self._down(error) from None

    def _waiting(self, name: str) -> set[QueueMessage]:
        """Reads the messages that a list holds, page by page.

        New messages come in at its head while it is read, so one may be seen twice and none is overlooked.
        """
        found: set[QueueMessage] = set()
        start = 0
        try:
            with self._app.connection_for_write() as connection:
                client = connection.default_channel.client
                while page := client.lrange(name, start, start + PAGE - 1):
                    found.update(message for raw in page if (message := read(raw)) is not None)
                    start += PAGE
        except (OperationalError, RedisError, OSError) as error:
            raise self._down(error) from None
        return found

    def _down(self, error: Exception) -> BrokerError:
        """Returns the error to raise; its message names the queue's URL without the password."""
        url = self._app.connection_for_write().as_uri()
        return BrokerError(f"the queue at {url} does not answer ({error}); start it or check VOXTELL_REDIS_URL")


def lists_of(queue: str) -> list[str]:
    """Returns the Redis lists of a queue, the most urgent first."""
    return [list_of(queue, priority) for priority in Priority]


def list_of(queue: str, priority: Priority) -> str:
    """Returns the Redis list of a queue for one priority."""
    return f"{queue}{PRIORITY_SEPARATOR}{priority.value}" if priority else queue


def _priority(message: QueueMessage, priorities: Mapping[str, Priority]) -> Priority:
    """Returns the priority of a message's job, routine where none is given."""
    return priorities.get(message[1], Priority.ROUTINE)


def _first_for_each(pairs: Iterable[tuple[str, str]]) -> Iterable[tuple[str, str]]:
    """Returns the first pair (job id, destination) of each destination."""
    first: dict[str, tuple[str, str]] = {}
    for job_id, destination in pairs:
        first.setdefault(destination, (job_id, destination))
    return first.values()

"""kombu's Redis transport for a queue that may hold anything: what is no message of the node is dropped."""

from typing import Any

from kombu.transport import redis
from kombu.transport.virtual.base import Empty

from worker.logs import get_logger
from worker.queue.messages import task_of

log = get_logger(__name__)


class CheckedChannel(redis.Channel):  # type: ignore[misc]
    """Drops what is no JSON; it is off its list by then."""

    def _brpop_read(self, **options: Any) -> Any:
        try:
            return super()._brpop_read(**options)
        except (ValueError, RecursionError) as error:
            log.error("queue_message_dropped", problem=type(error).__name__)
            raise Empty from None


class CheckedTransport(redis.Transport):  # type: ignore[misc]
    """Hands on the node's own messages only."""

    Channel = CheckedChannel

    def _deliver(self, message: Any, queue: str) -> None:
        if task_of(message) is None:
            log.error("queue_message_dropped", problem="no message of this node")
            return
        super()._deliver(message, queue)

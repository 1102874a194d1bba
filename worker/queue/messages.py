"""The node's messages on the queue: how they are written by Celery, and which of them are ours.

A queue may hold anything: what another program wrote, or what was cut off. `read` gives nothing for that, so that it
can be dropped. Celery itself ends its worker at a message that has not the form it expects.
"""

import base64
import json
from typing import Any

SEGMENT_TASK, DELIVER_TASK = "worker.segmentation.run", "worker.delivery.run"
COMMIT_TASK = "worker.delivery.ask"

ARGUMENTS = {SEGMENT_TASK: 1, DELIVER_TASK: 2, COMMIT_TASK: 2}
"""How many arguments each task has; all are strings."""

QueueMessage = tuple[str, ...]
"""A task's name and its arguments."""


def read(raw: bytes | str) -> QueueMessage | None:
    """Reads a message as it lies in a Redis list; None when it is none of the node's."""
    try:
        return task_of(json.loads(raw))
    except (ValueError, RecursionError):
        return None


def task_of(envelope: Any) -> QueueMessage | None:
    """Reads the task of a message in kombu's envelope (Celery's protocol 2); None when it is none of the node's.

    What Celery reads of a message has the type that it expects, and no field asks for another time or time limit.
    """
    try:
        headers, properties = envelope["headers"], envelope["properties"]
        delivery = properties["delivery_info"]
        task, said = headers["task"], json.loads(base64.b64decode(envelope["body"], validate=True))
        arguments, options, _ = said
        sound = (
            len(arguments) == ARGUMENTS[task]
            and all(isinstance(one, str) for one in arguments)
            and options == {}
            and (envelope["content-type"], envelope["content-encoding"]) == ("application/json", "utf-8")
            and properties["body_encoding"] == "base64"
            and all(isinstance(one, str) for one in (headers["id"], properties["delivery_tag"]))
            and all(isinstance(delivery[name], str) for name in ("exchange", "routing_key"))
            and not any(headers.get(name) for name in ("eta", "expires", "retries", "chord", "group", "compression"))
            and not any(headers.get("timelimit") or ())
        )
    except (KeyError, IndexError, TypeError, ValueError, RecursionError, AttributeError):
        return None
    return (task, *arguments) if sound else None

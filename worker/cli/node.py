"""`up`, `listen`, `segment-worker`, `deliver-worker`: the node, all in one or one role each."""

from worker.settings import load


def up() -> None:
    """All in one: embedded queue, listener, segmentation worker, delivery worker."""
    from worker import roles

    roles.up(load())


def listen() -> None:
    """The listener: receives, stores, decides, enqueues."""
    from worker import roles

    roles.listen(load())


def segment_worker() -> None:
    """The segmentation worker; needs the engine."""
    from worker import roles

    roles.segment_worker(load())


def deliver_worker() -> None:
    """The delivery worker: sends results to the PACS."""
    from worker import roles

    roles.deliver_worker(load())

"""`up`, `listen`, `receive-reports`, `segment-worker`, `deliver-worker`: the whole node, or one role.

A role runs in this process, until SIGTERM or SIGINT; see `worker.roles`.
"""

from worker.settings import load


def up() -> None:
    """Starts the whole node: queue, listeners, segmentation worker and delivery worker."""
    from worker import roles

    roles.up(load())


def listen() -> None:
    """Starts the listener: receives images, chooses series, queues jobs."""
    from worker import roles

    roles.listen(load())


def receive_reports() -> None:
    """Receives reports over HL7 and HTTP; `listen` starts it where the settings name a port."""
    from worker import roles

    roles.receive_reports(load())


def segment_worker() -> None:
    """Starts a segmentation worker; needs the engine."""
    from worker import roles

    roles.segment_worker(load())


def deliver_worker() -> None:
    """Starts a delivery worker: sends results to the PACS."""
    from worker import roles

    roles.deliver_worker(load())

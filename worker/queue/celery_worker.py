"""Runs a Celery worker: a parent process that takes messages, and child processes that run one task at a time.

Added to Celery: the processes end with their parent even when that is killed (on Linux), they end in time when told to,
and a queue that refuses commands for a while does not end them. The signals that Docker and systemd send reach the
parent (SIGTERM: finish the tasks at hand, and give back what cannot be finished in `stop_seconds`).
"""

import os
import signal
import threading
import time
import warnings
from socket import gethostname
from types import FrameType
from typing import ClassVar

from celery import Celery
from celery.bootsteps import StartStopStep
from celery.exceptions import CPendingDeprecationWarning
from celery.platforms import SecurityWarning
from celery.signals import worker_process_init
from celery.utils.nodenames import nodename
from celery.worker import state
from celery.worker.consumer import Consumer
from kombu import Connection

from worker.child_processes import end_with_parent
from worker.queue.checked_transport import CheckedTransport
from worker.stopping import stop_within

REFUSED_SECONDS = 2.0  # until a queue that refused is asked again


def work(app: Celery, role: str, queue: str, *, processes: int, log_level: str, stop_seconds: float) -> int:
    """Takes messages from `queue` until SIGTERM or SIGINT; returns the exit code of Celery's worker.

    `processes`: child processes, forked by Celery. `role` names the worker in its own messages. `stop_seconds`: how
    long tasks at hand may go on after the signal (`worker.stopping`); then the process ends. Call it from the main
    thread, once in a process.
    """
    warnings.filterwarnings("ignore", category=SecurityWarning)  # root and pickle: only JSON is accepted here
    OwnSignals.stop_seconds = LastMinute.stop_seconds = stop_seconds
    app.steps["worker"].update((OwnSignals, LastMinute))
    worker_process_init.connect(_end_with_worker)
    worker = app.Worker(
        hostname=nodename(f"{role}-{os.getpid()}", gethostname()),
        pool="prefork",
        concurrency=processes,
        queues=queue,
        consumer_cls=PatientConsumer,
        loglevel=log_level.upper(),
        quiet=True,
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
    )
    worker.start()
    return int(worker.exitcode or os.EX_OK)


class PatientConsumer(Consumer):  # type: ignore[misc]
    """Asks a queue again that refused a command (its disk is full, it became a replica) as one that is not there.

    It takes the node's own messages only: others are dropped with a line of the log.
    """

    def connection_for_read(self, heartbeat: int | None = None) -> Connection:
        """Connects by the transport that checks messages."""
        connection = self.app.connection_for_read(heartbeat=heartbeat)
        connection.transport_cls = CheckedTransport
        return self.ensure_connected(connection)

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """Does what Celery does, then waits: Celery's own consumer would ask again at once, without end."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CPendingDeprecationWarning)  # of a default that is the one wanted here
            super().on_connection_error_after_connected(exc)
        time.sleep(REFUSED_SECONDS)


class OwnSignals(StartStopStep):  # type: ignore[misc]
    """Takes SIGTERM and SIGINT from Celery, whose handlers print lines that are none of the log's.

    Both have the worker finish the tasks at hand, as Celery's handler for the first signal does.
    """

    requires: ClassVar = {"celery.worker.components:Pool"}
    stop_seconds: ClassVar[float]

    def start(self, _worker: object) -> None:
        """Replaces the handlers; Celery's are in place by now."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop_soon)

    def _stop_soon(self, _number: int, _frame: FrameType | None) -> None:
        """Has the worker's loop end, and tells the children until when they may work."""
        stop_within(self.stop_seconds)
        state.should_stop = os.EX_OK


class LastMinute(StartStopStep):  # type: ignore[misc]
    """Exits the process when it has not ended `stop_seconds` after it was told to stop.

    Celery waits without limit for children that it cannot reach. Work that is cut off so is claimed anew when its lease
    has run out.
    """

    requires: ClassVar = {"celery.worker.components:Pool"}  # so this is told to stop before the pool is
    stop_seconds: ClassVar[float]

    def start(self, _worker: object) -> None:
        """Does nothing: only the end matters."""

    def stop(self, _worker: object) -> None:
        """Starts the timer, in a thread that ends with the process."""
        last = threading.Timer(self.stop_seconds, os._exit, [os.EX_SOFTWARE])
        last.daemon = True
        last.start()

    terminate = stop


def _end_with_worker(**_: object) -> None:
    """Has a child of the pool killed when its parent dies: alone it would only hold a GPU or a destination's lock."""
    end_with_parent(signal.SIGKILL)

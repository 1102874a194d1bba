"""The processes of a Celery worker: they end with their parent, in time, and outlast a queue that refuses its work."""

import ctypes
import os
import signal
import sys
import threading
import time
import warnings
from socket import gethostname
from typing import ClassVar

from celery import Celery
from celery.bootsteps import StartStopStep
from celery.exceptions import CPendingDeprecationWarning
from celery.platforms import SecurityWarning
from celery.signals import worker_process_init
from celery.utils.nodenames import nodename
from celery.worker.consumer import Consumer

PR_SET_PDEATHSIG = 1  # prctl(2)
STOP_SECONDS = 20.0  # how long a process may take to end when it is told to
REFUSED_SECONDS = 2.0  # until a queue that refused is asked again


def work(app: Celery, role: str, queue: str, *, processes: int, log_level: str) -> int:
    """Takes from `queue` until told to stop, in a pool of child processes; returns the exit code of Celery's worker."""
    warnings.filterwarnings("ignore", category=SecurityWarning)  # root and pickle: only JSON is accepted here
    app.steps["worker"].add(LastMinute)
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
    """Asks a queue again that refused a command (its disk is full, it became a replica) as one that is not there."""

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """Celery's own asks again at once."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CPendingDeprecationWarning)  # of a default that is the one wanted here
            super().on_connection_error_after_connected(exc)
        time.sleep(REFUSED_SECONDS)


class LastMinute(StartStopStep):  # type: ignore[misc]
    """Ends a worker that does not come to its end: Celery waits without limit for processes that it cannot reach.

    What is cut off is claimed anew when its lease has run out.
    """

    requires: ClassVar = {"celery.worker.components:Pool"}  # so this is told to stop before the pool is

    def start(self, _worker: object) -> None:
        """There is nothing to do before the end."""

    def stop(self, _worker: object) -> None:
        """Begins to count."""
        last = threading.Timer(STOP_SECONDS, os._exit, [os.EX_SOFTWARE])
        last.daemon = True
        last.start()

    terminate = stop


def end_with_parent(by: signal.Signals = signal.SIGTERM) -> None:
    """Asks Linux to end this process when its parent dies, be it killed: its port must be free for its successor."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, by)


def _end_with_worker(**_: object) -> None:
    """Without its parent a process of the pool only holds a GPU or a destination; if it is stopped, for ever."""
    end_with_parent(signal.SIGKILL)

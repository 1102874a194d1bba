"""Starts a role as `voxtell-dicom ROLE` does, in 2 GB of memory, with a model that is no network.

python -m tests.fuzz.launch up|listen|receive-reports|segment-worker|deliver-worker

The limit is on the address space of each process (RLIMIT_AS): every system has it, it needs no root as a control group
does, and what asks for more hears of it where it asks, instead of being ended some time later. What all processes use
together is measured beside it. An error that no code foresaw, of which the log has one line, is printed with its
traceback.
"""

import resource
import subprocess
import sys
import traceback
from typing import Final

from dicom_node.upper_layer import reactor, server
from worker import child_processes
from worker.__main__ import main
from worker.queue import celery_worker

MEMORY_BYTES: Final = 2 * 1024**3


def launch(role: str) -> None:
    """Starts the role within the limit; the roles that it starts begin in the same way."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    if role in ("up", "listen"):
        child_processes.start_role = _start_role
    if role == "segment-worker":
        from tests.support.twins import ThresholdSegmenter
        from worker.engines import loading

        loading.load_engine = lambda _settings: ThresholdSegmenter()
    for module in (reactor, server):
        module.unforeseen = _with_traceback
    main()


def _start_role(role: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "tests.fuzz.launch", role], preexec_fn=celery_worker.end_with_parent)


def _with_traceback(error: BaseException) -> str:
    traceback.print_exception(error)
    return f"unforeseen {type(error).__name__}"


if __name__ == "__main__":
    launch(sys.argv[1])

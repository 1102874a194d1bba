"""Child processes of the node that are started again when they die, and that end with their parent."""

import contextlib
import ctypes
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Final

from worker.errors import WorkerError
from worker.logs import get_logger

log = get_logger(__name__)

# A role that ends within this time of the start has settings that cannot work. On a busy machine a role may need a
# third of this time before it finds that out.
SETTLING_SECONDS: Final = 45.0
RESTART_SECONDS: Final = 2.0  # a role that dies is started again after this long
ENDING_SECONDS: Final = 5.0  # that a role may need beyond the time for its work, to end its own processes
_PR_SET_PDEATHSIG: Final = 1  # prctl(2)
_M_ARENA_MAX: Final = -8  # mallopt(3)
_LIBC: Final = ctypes.CDLL(None)  # loaded here: after a fork another thread's lock of the loader would be held for ever


class RoleError(WorkerError):
    """A role of the node ended at once."""

    retry = "usage"


class ChildProcesses:
    """Roles of the node as child processes of this one. A role that dies is started again at the next look."""

    def __init__(self, roles: Sequence[str], stop_seconds: float) -> None:
        """Starts the roles; told to end, they may go on with their work for `stop_seconds`."""
        self._stop_seconds = stop_seconds
        self._running = [(role, start_role(role)) for role in roles]
        self._settled_at = time.monotonic() + SETTLING_SECONDS

    def look(self) -> None:
        """Starts again what has ended.

        Raises:
            RoleError: when a role ended at once.
        """
        for place, (role, child) in enumerate(self._running):
            if child.poll() is None:
                continue
            if child.returncode > 0 and time.monotonic() < self._settled_at:  # a signal is no wrong setting
                raise RoleError(f"{role} ended at once (exit code {child.returncode}): see its message above")
            log.error("role_ended", child=role, exit_code=child.returncode)
            try:
                self._running[place] = (role, start_role(role))
            except OSError as error:  # no room for one more process: there may be at the next look
                log.error("role_not_started", child=role, problem=str(error))

    def end(self) -> None:
        """Asks the roles to end, in their order, so that nothing new comes in; kills what is left after their time."""
        for _, child in self._running:
            child.terminate()
        deadline = time.monotonic() + self._stop_seconds + ENDING_SECONDS
        for _, child in self._running:
            try:
                child.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


def start_role(role: str) -> subprocess.Popen[bytes]:
    """Starts a role as a child that Linux ends when this process dies."""
    return subprocess.Popen([sys.executable, "-m", "worker", role], preexec_fn=end_with_parent)


def end_with_parent(by: signal.Signals = signal.SIGTERM) -> None:
    """Asks Linux to send this process a signal when its parent dies, also when that is killed; does nothing elsewhere.

    Otherwise a process that is left over would keep its port from its successor. Called in the child, after the fork.
    """
    if sys.platform == "linux":
        _LIBC.prctl(_PR_SET_PDEATHSIG, by)


def limit_arenas(most: int) -> None:
    """Has glibc serve this process's memory from at most so many arenas; does nothing with another C library.

    By default there are eight for each core, a thread takes any of them, and each keeps in parts what it once lent:
    a process with a thread for each connection grows for an hour until all of them have been as large as they get.
    """
    with contextlib.suppress(AttributeError):
        _LIBC.mallopt(_M_ARENA_MAX, most)

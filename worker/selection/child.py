"""A child process that reads foreign headers, with a limit on its memory and on its time.

What a header may hold is limited (`dicom_node.images.header_limits`); what still goes wrong in reading a thousand of
them ends this child and no listener. There is one for each process that asks, started once and replaced when it has
died.

    asks    (function, arguments), pickled, over a socket pair
    answers (True, what the function returned) or (False, what it raised)

The child ends when its parent does: the socket tells it, and a timer ends a question that goes on.
"""

import atexit
import contextlib
import os
import pickle
import resource
import signal
import socket
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable
from functools import cache
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final, ParamSpec, TypeVar

from worker.child_processes import limit_arenas
from worker.errors import WorkerError

Asked = ParamSpec("Asked")
Answer = TypeVar("Answer")

_GRACE_SECONDS: Final = 5.0  # after its time is over, for a child that its parent did not end
_LIKELY_VICTIM: Final = "1000"  # proc(5), oom_score_adj: where a container is full, the child goes and not the listener


# Not by -m: what `__main__` defines has another name in the parent.
_SERVE: Final = f"import sys; from {__name__} import main; main(sys.argv[1:])"


class LookError(WorkerError):
    """The headers of a series could not be read within the limits."""

    retry = "later"


class Child:
    """The process; any thread may ask, one at a time."""

    def __init__(self, memory_bytes: int, seconds: float) -> None:
        """Prepares a child that may take `memory_bytes` more than at its start, and `seconds` for an answer."""
        self._memory_bytes, self._seconds = memory_bytes, seconds
        self._running: tuple[subprocess.Popen[bytes], Connection] | None = None
        self._lock = threading.Lock()

    def start(self) -> None:
        """Starts the process, unless it runs: its first answer then takes no longer than the others."""
        with self._lock:
            self._process()

    def ask(self, function: Callable[Asked, Answer], *arguments: Asked.args, **named: Asked.kwargs) -> Answer:
        """Has the child call a function of a module, and returns what it returned; raises what it raised.

        Raises:
            LookError: when it took too long or too much memory, or the process died. The next question gets another.
        """
        with self._lock:
            process, connection = self._process()
            try:
                connection.send((function, arguments, named))
                if not connection.poll(self._seconds):
                    self._end()
                    raise LookError(f"reading its headers took more than {self._seconds:g} s")
                returned, answer = connection.recv()
            except (EOFError, OSError, pickle.UnpicklingError):
                self._end()
                raise LookError(f"the process that read its headers died (exit code {process.returncode})") from None
            if returned:
                return answer  # type: ignore[no-any-return]
            if isinstance(answer, LookError):  # what it has taken it may not give back
                self._end()
            raise answer

    def close(self) -> None:
        """Ends the process; the next question starts another."""
        with self._lock:
            self._end()

    def _process(self) -> tuple[subprocess.Popen[bytes], Connection]:
        if self._running and self._running[0].poll() is not None:
            self._end()
        if not self._running:
            ours, theirs = socket.socketpair()
            with theirs:
                limits = (str(self._memory_bytes), str(self._seconds + _GRACE_SECONDS))
                command = [sys.executable, "-c", _SERVE, str(theirs.fileno()), *limits]
                process = subprocess.Popen(command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)
            self._running = process, Connection(ours.detach())
        return self._running

    def _end(self) -> None:
        if self._running:
            process, connection = self._running
            self._running = None
            connection.close()
            process.kill()
            process.wait()


@cache
def child(memory_bytes: int, seconds: float) -> Child:
    """Returns the child of this process with these limits; it ends before this process does."""
    made = Child(memory_bytes, seconds)
    atexit.register(made.close)  # by its socket alone it would end later: one that starts looks at that last
    return made


def main(arguments: list[str]) -> None:
    """Runs the child process; `arguments` are the number of its socket, bytes and seconds."""
    serve(Connection(int(arguments[0])), int(arguments[1]), float(arguments[2]))


def serve(connection: Connection, memory_bytes: int, seconds: float) -> None:
    """Answers until the parent is gone; whatever goes wrong is an answer (a door)."""
    import worker.selection.answers  # noqa: F401 (loaded before the limit counts, and before the first question)

    warnings.filterwarnings("ignore", module=r"pydicom\.")  # as in the other processes: it may quote a patient's name
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal: the parent ends this process
    _limit(memory_bytes)
    while True:
        try:
            function, arguments, named = connection.recv()
        except (EOFError, OSError):
            return
        signal.setitimer(signal.ITIMER_REAL, seconds)
        answer: tuple[bool, Any]
        try:
            answer = True, function(*arguments, **named)
        except MemoryError:
            answer = False, LookError(f"reading its headers took more than {memory_bytes} bytes of memory")
        except Exception as error:  # noqa: BLE001 (a door: it is raised again in the parent)
            answer = False, error
        signal.setitimer(signal.ITIMER_REAL, 0)
        try:
            connection.send(answer)
        except OSError:
            return


def _limit(memory_bytes: int) -> None:
    limit_arenas(1)  # each would reserve 64 MB of the limit
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_LIKELY_VICTIM)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * os.sysconf("SC_PAGE_SIZE") + memory_bytes
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))

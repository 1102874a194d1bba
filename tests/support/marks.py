"""The four kinds of tests, and a guard that holds each test to what its mark permits.

unit       neither listens on a socket nor starts a process; what has no mark is `unit`
peers      listens on sockets and starts other people's programs: Orthanc, DCMTK, PostgreSQL, Valkey, dciodvfy
processes  starts processes of the node
torture    starts everything, and kills it
"""

import contextlib
import multiprocessing.util
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

UNIT, PEERS, PROCESSES, TORTURE = KINDS = ("unit", "peers", "processes", "torture")

_LISTENS = "socket.bind"
_STARTS = frozenset({"subprocess.Popen", "os.posix_spawn", "os.exec", "os.system"})
_FORKS = frozenset({"os.fork", "os.forkpty"})
_NODE = frozenset({Path(sys.executable).name, "python", "python3", "voxtell-dicom"})


class NotPermittedError(AssertionError):
    """A test did what its mark does not permit."""


def kind_of(marks: Iterable[str]) -> str:
    """The kind that a test's marks name.

    Raises:
        ValueError: they name several.
    """
    kinds = sorted(set(marks) & set(KINDS), key=KINDS.index)
    if len(kinds) > 1:
        raise ValueError(f"it is marked {' and '.join(kinds)}; a test has one of {', '.join(KINDS)}")
    return kinds[0] if kinds else UNIT


class Guard:
    """Hears what the running test does (PEP 578) and refuses what its kind may not do.

    A refusal that something swallows, as a thread may, is kept for `check`.
    """

    def __init__(self) -> None:
        self._kind: str | None = None
        self._refused: list[str] = []
        sys.addaudithook(self._hear)
        _say_what_multiprocessing_starts()

    @contextlib.contextmanager
    def watching(self, kind: str) -> Iterator[None]:
        """A test of this kind runs within the block."""
        before, self._kind = self._kind, kind
        try:
            yield
        finally:
            self._kind = before

    @contextlib.contextmanager
    def lifted(self) -> Iterator[None]:
        """Nothing is refused within the block."""
        before, self._kind = self._kind, None
        try:
            yield
        finally:
            self._kind = before

    def check(self) -> None:
        """Raises NotPermittedError for what was refused since the last check."""
        refused, self._refused = self._refused, []
        if refused:
            raise NotPermittedError("; ".join(refused))

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self._kind not in (UNIT, PEERS):
            return
        starts = event in _STARTS and (self._kind == UNIT or _is_node(arguments[0]))
        if starts or event in _FORKS or (event == _LISTENS and self._kind == UNIT):
            needed = PEERS if event == _LISTENS or (starts and not _is_node(arguments[0])) else PROCESSES
            refusal = f"{event} {arguments[1] if len(arguments) > 1 else ''} in a {self._kind} test; mark it {needed}"
            self._refused.append(refusal)
            raise NotPermittedError(refusal)


def _is_node(program: Any) -> bool:
    return Path(os.fsdecode(program)).name in _NODE


def _say_what_multiprocessing_starts() -> None:
    """Python tells its hooks of every way to start a process but this one."""
    start = multiprocessing.util.spawnv_passfds

    def told(path: Any, *more: Any) -> int:
        sys.audit("os.posix_spawn", path, more)
        return start(path, *more)

    multiprocessing.util.spawnv_passfds = told


GUARD = Guard()

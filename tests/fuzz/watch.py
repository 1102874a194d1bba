"""Watches a node under attack: an allowed peer's C-ECHO every second, the node's processes, their memory, its log."""

import contextlib
import itertools
import re
import statistics
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psutil

from dicom_node.scu.association import Peer
from tests.support.peers import program

EVERY_SECONDS: Final = 1.0
GIVE_UP_SECONDS: Final = 60.0  # an echo without an answer is not waited for longer
READS_HEADERS: Final = "headers"
"""The role of the child of the listener that may die: it reads headers in the listener's place, within limits."""
MOST_BYTES: Final = 2 * 1024**3
"""What all processes may use together."""
WARM_SECONDS: Final = 60.0
"""After this long every part of the node has been in use, and its memory should not grow any more."""
GROWTH: Final = 0.1
"""By which share it may differ at the end: what a process frees stays with it in parts."""
GROWTH_BYTES: Final = 32 * 1024**2

EXPECTED: Final = frozenset({"job_failed"})
"""Errors that damaged images should end in."""

_ERROR: Final = re.compile(r"^\S+ \[error\s*\] (\w+)", re.MULTILINE)
_LINE: Final = re.compile(r"\d{4}-\d\d-\d\dT\S+Z \[|  |$")
"""How a line of the log begins: none is a peer's or a library's."""
_TRACEBACK: Final = re.compile(r"Traceback \(most recent call last\)")
_STEP: Final = re.compile(r'File "[^"]*?((?:\w+/)?\w+\.py)", line (\d+)')
_RAISED: Final = re.compile(r"^\s*((?:\w+\.)*\w*(?:Error|Exception|Warning|Interrupt|Exit))\b", re.MULTILINE)


@dataclass(frozen=True)
class Process:
    """A process of the node: its role, and what tells it from others that had its number."""

    role: str
    pid: int
    started: float


@dataclass(frozen=True)
class Look:
    """What was seen at one moment. `echo_seconds` is None where the echo failed."""

    at: float
    echo_seconds: float | None
    memory: Mapping[Process, int]  # resident bytes, of what processes share each its part

    @property
    def bytes(self) -> int:
        """What all processes use."""
        return sum(self.memory.values())


@dataclass
class Verdict:
    """What was counted, and what is wrong."""

    counts: dict[str, str] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)


class Watcher:
    """Looks every second, in a thread of its own, from `start` until `stop`."""

    def __init__(self, peer: Peer, pid: int, home: Path) -> None:
        """Watch the node at `peer`, whose first process is `pid`."""
        self._peer, self._pid, self._home = peer, pid, home
        self.looks: list[Look] = []
        self._began = time.monotonic()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watcher")

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while True:
            over = self._over.is_set()
            began = time.monotonic()
            self.looks.append(Look(began - self._began, self._echo(), self._processes()))
            if over:  # the last look is one after the end
                return
            self._over.wait(max(0.0, EVERY_SECONDS - (time.monotonic() - began)))

    def _echo(self) -> float | None:
        """Seconds that a C-ECHO took, the start of DCMTK's program among them."""
        began = time.monotonic()
        command = [program("echoscu"), "-aet", "ALLOWED", "-aec", self._peer.ae_title]
        try:
            done = subprocess.run(
                [*command, self._peer.host, str(self._peer.port)],
                capture_output=True,
                timeout=GIVE_UP_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return None
        return time.monotonic() - began if done.returncode == 0 else None

    def _processes(self) -> dict[Process, int]:
        found = {}
        with contextlib.suppress(psutil.NoSuchProcess):
            first = psutil.Process(self._pid)
            for process in (first, *first.children(recursive=True)):
                with contextlib.suppress(psutil.NoSuchProcess):
                    if process.status() != psutil.STATUS_ZOMBIE:
                        made = Process(_role(process.cmdline()), process.pid, process.create_time())
                        found[made] = process.memory_full_info().pss
        return found


def _role(command: Sequence[str]) -> str:
    words = " ".join(command)
    return READS_HEADERS if "worker.selection.child" in words else Path(command[-1]).name if command else "?"


def judge(looks: Sequence[Look], log: str, *, echo_seconds: float) -> Verdict:
    """Says what is wrong with what was seen, `looks` from the first to the last, and with the node's log."""
    verdict = Verdict()
    _echoes(looks, echo_seconds, verdict)
    _processes(looks, verdict)
    _memory(looks, verdict)
    kinds = tracebacks(log)
    verdict.faults += [f"{count} tracebacks of {kind}" for kind, count in kinds.items()]
    errors = Counter(_ERROR.findall(log))
    foreign = [line for line in log.splitlines() if not (_LINE.match(line) and line.isprintable())]
    verdict.faults += [f"{len(foreign)} lines are not the node's, such as {foreign[0]!r}"] if foreign else []
    verdict.faults += [f"{count} lines of {event}" for event, count in errors.items() if event not in EXPECTED]
    verdict.counts |= {"tracebacks": str(kinds.total()), "lines of the log": str(log.count("\n"))}
    verdict.counts |= {f"  {event}": str(count) for event, count in errors.items()}
    return verdict


def _echoes(looks: Sequence[Look], most_seconds: float, verdict: Verdict) -> None:
    answered = [look.echo_seconds for look in looks if look.echo_seconds is not None]
    late = [look for look in looks if look.echo_seconds is None or look.echo_seconds > most_seconds]
    for look in late:
        took = "was not answered" if look.echo_seconds is None else f"took {look.echo_seconds:.1f} s"
        verdict.faults.append(f"the C-ECHO at {look.at:.0f} s {took}")
    verdict.counts["C-ECHO answered"] = f"{len(answered)} of {len(looks)}"
    if answered:
        verdict.counts["  longest, median"] = f"{max(answered):.2f} s, {statistics.median(answered):.2f} s"


def _processes(looks: Sequence[Look], verdict: Verdict) -> None:
    """Every process that was there once is there at the end, but for the one that may die."""
    for before, after in itertools.pairwise(looks):
        for process in before.memory.keys() - after.memory.keys():
            if process.role != READS_HEADERS:
                verdict.faults.append(f"{process.role} ({process.pid}) was gone at {after.at:.0f} s")
    seen = {process for look in looks for process in look.memory}
    verdict.counts["processes"] = str(len(looks[-1].memory))
    verdict.counts["  that read headers, one after the other"] = str(sum(one.role == READS_HEADERS for one in seen))


def _memory(looks: Sequence[Look], verdict: Verdict) -> None:
    """Never more than the limit, and flat once all parts have been in use."""
    most = max(look.bytes for look in looks)
    verdict.counts["memory, most"] = _mib(most)
    if most > MOST_BYTES:
        verdict.faults.append(f"its processes used {_mib(most)} together, and may use {_mib(MOST_BYTES)}")
    warm = [look for look in looks if WARM_SECONDS <= look.at < 1.5 * WARM_SECONDS]
    last = [look for look in looks if look.at > looks[-1].at - WARM_SECONDS / 2]
    if looks[-1].at < 2 * WARM_SECONDS or not warm:
        verdict.counts["memory, flat"] = f"not judged: {looks[-1].at:.0f} s are too short"
        return
    before, after = (statistics.median(look.bytes for look in part) for part in (warm, last))
    verdict.counts["memory, after a minute and at the end"] = f"{_mib(before)}, {_mib(after)}"
    for process in sorted(warm[0].memory.keys() & last[-1].memory.keys(), key=lambda one: (one.role, one.pid)):
        ours = (statistics.median(look.memory.get(process, 0) for look in part) for part in (warm, last))
        verdict.counts[f"  {process.role} ({process.pid})"] = ", ".join(map(_mib, ours))
    if after > before * (1 + GROWTH) + GROWTH_BYTES:
        verdict.faults.append(f"its memory grew from {_mib(before)} after a minute to {_mib(after)}")


def _mib(count: float) -> str:
    return f"{count / 2**20:.0f} MiB"


def tracebacks(log: str) -> Counter[str]:
    """How often each kind of error came with a traceback: its class, and the last line of code that it passed."""
    found: Counter[str] = Counter()
    for part in _TRACEBACK.split(log)[1:]:
        raised = _RAISED.search(part)
        steps = _STEP.findall(part[: raised.start()] if raised else part)
        where = f" at {steps[-1][0]}:{steps[-1][1]}" if steps else ""
        found[f"{raised[1] if raised else 'an error'}{where}"] += 1
    return found

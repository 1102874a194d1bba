"""What befalls the node as a whole, one event after the other, while studies come in."""

import contextlib
import queue
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Final

import psutil
import redis

from tests.torture import clock_steps
from tests.torture.attackers import Attackers
from tests.torture.house import START_SECONDS, House, http_port
from tests.torture.plan import Event
from tests.torture.proxy import Mood

STALL_SECONDS: Final = 6.0  # longer than the lease of a segmentation
MET_SECONDS: Final = 30.0  # a PACS in a mood waits at most so long for somebody to meet it
HOUR: Final = 3600


class NotThereError(Exception):
    """No process has that role at the moment."""


class Events:
    """Brings them about, in a thread of its own."""

    def __init__(self, house: House, lasts_seconds: float) -> None:
        self.counts: Counter[str] = Counter()
        self.problems: list[str] = []
        self.attackers = Attackers(house)
        self._house, self._lasts_seconds = house, lasts_seconds
        self._ways = (house.proxy, house.web_proxy)
        self._furthest = 0  # by how many seconds the clock has been ahead
        self._waiting: queue.Queue[Event | None] = queue.Queue()
        self._idle = threading.Semaphore()
        self._thread = threading.Thread(target=self._run, name="events")
        self._thread.start()
        moods: dict[Event, Mood] = {
            "PACS down": "down",
            "PACS slow": "slow",
            "PACS aborting": "aborting",
            "PACS mute": "mute",
        }
        self._acts: dict[Event, Callable[[], None]] = {
            "queue flushed": self._flush,
            "queue killed": house.queue.kill,
            "database restarted": self._restart_database,
            "PACS refusing": partial(self._for_a_while, self._refusing),
            "disk full": partial(self._for_a_while, self._disk_full),
            "clock an hour ahead": partial(self._step_clock, HOUR),
            "clock an hour back": partial(self._step_clock, -HOUR),
            "listener killed": partial(self._kill, "listen"),
            "segmentation worker killed": partial(self._kill, "segment-worker"),
            "segmentation stalled": self._stall,
            "delivery worker killed": partial(self._kill, "deliver-worker"),
            "supervisor killed": partial(self._kill, "up"),
            "node killed": self._kill_all,
            "attacked": partial(self._for_a_while, self.attackers.at_work),
            **{event: partial(self._for_a_while, partial(self._pacs, mood)) for event, mood in moods.items()},
        }

    def begin(self, event: Event) -> None:
        """Begins it; returns at once when the event before it is over, and waits for that."""
        self._idle.acquire()
        self._waiting.put(event)

    def end(self) -> None:
        """Waits until all are over; the clock is brought to where it was furthest: so no fact is in its future."""
        self._waiting.put(None)
        self._thread.join()
        self._step_clock(self._furthest - int(self._house.clock.read_text()))

    def _run(self) -> None:
        while (event := self._waiting.get()) is not None:
            try:
                self._bring_about(event)
                self.counts[event] += 1
            except Exception as problem:  # noqa: BLE001 (a door: the harness says so in the end)
                self.problems.append(f"{event} could not be brought about: {problem!r}")
            finally:
                self._idle.release()

    def _bring_about(self, event: Event) -> None:
        """What is to be hit may not be there, because the event before has hit it too: then as soon as it is."""
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                self._acts[event]()
                return
            except (NotThereError, psutil.NoSuchProcess, redis.RedisError):
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.5)

    def _for_a_while(self, state: Callable[[], AbstractContextManager[None]]) -> None:
        with state():
            time.sleep(self._lasts_seconds)

    def _flush(self) -> None:
        with self._house.queue.client() as client:
            client.flushall()

    def _restart_database(self) -> None:
        assert self._house.postgres is not None
        self._house.postgres.restart()

    @contextmanager
    def _pacs(self, mood: Mood) -> Iterator[None]:
        before = self._connections()
        for way in self._ways:
            way.mood = mood
        try:
            yield
            if mood != "down":
                self._until_somebody_calls(before)
        finally:
            for way in self._ways:
                way.mood = "well"

    @contextmanager
    def _refusing(self) -> Iterator[None]:
        before, right = self._connections(), [way.target for way in self._ways]
        for way, wrong in zip(
            self._ways, (self._house.stranger.peer.port, http_port(self._house.stranger)), strict=True
        ):
            way.target = wrong
        try:
            yield
            self._until_somebody_calls(before)
        finally:
            for way, port in zip(self._ways, right, strict=True):
                way.target = port

    def _connections(self) -> int:
        return sum(way.connections for way in self._ways)

    def _until_somebody_calls(self, before: int) -> None:
        deadline = time.monotonic() + MET_SECONDS
        while self._connections() == before and time.monotonic() < deadline:
            time.sleep(0.1)
        time.sleep(0.5)  # let it meet what was prepared for it

    @contextmanager
    def _disk_full(self) -> Iterator[None]:
        filler = self._house.home / "filler"
        try:
            # Without a buffer: what is left in one is written when the file is closed, and fails there once more.
            with filler.open("wb", buffering=0) as file:
                for size in (65536, 64):
                    with contextlib.suppress(OSError):
                        while True:
                            file.write(b"\0" * size)
            yield
        finally:
            filler.unlink(missing_ok=True)

    def _step_clock(self, seconds: int) -> None:
        """The clock of all processes of the node; another step later may bring it back."""
        offset = int(self._house.clock.read_text()) + seconds
        self._furthest = max(self._furthest, offset)
        temporary = self._house.clock.with_suffix(".new")
        temporary.write_text(str(offset))
        temporary.replace(self._house.clock)
        time.sleep(2 * clock_steps.LOOK_SECONDS)

    def _kill(self, role: str) -> None:
        """Its first process; a worker's children are left without it."""
        found = self._house.of_role(role)
        if not found:
            raise NotThereError(role)
        found[0].kill()

    def _stall(self) -> None:
        stalled = self._house.of_role("segment-worker")
        for process in stalled:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGSTOP)
        time.sleep(STALL_SECONDS)
        for process in stalled:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGCONT)

    def _kill_all(self) -> None:
        for process in self._house.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()

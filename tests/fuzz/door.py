"""What every door under attack has: inputs that are made from a seed, a way to send them, and what counts as well."""

import contextlib
import random
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from tests.support.ports import LOOPBACK

SOUND_EVERY: Final = 20
"""One input in so many is as it should be, and must be taken: so a door that was shut by the others is noticed."""
STRANGER_EVERY: Final = 25
"""One in so many of a port comes from an address that may not connect, and must get nothing."""
ALLOWED: Final = "127.0.0.0/16"
QUIET_SECONDS: Final = 1.0  # without an answer, until our side of a connection is closed
HANG_SECONDS: Final = 30.0  # until the other side is closed after that


class FindingError(Exception):
    """The node did what it must not."""


@dataclass(frozen=True)
class Case:
    """One input. `stranger`: it comes from an address that may not connect."""

    door: str
    number: int
    content: bytes
    sound: bool
    stranger: bool

    @property
    def name(self) -> str:
        """What `--case` takes."""
        return f"{self.door}:{self.number}"

    @property
    def source(self) -> str:
        """The address that it comes from. Many: the log tells of each peer once a minute."""
        return f"127.{'9.0' if self.stranger else f'0.{2 + self.number // 250 % 200}'}.{1 + self.number % 250}"


class Door(Protocol):
    """A way into the node, or a command that reads foreign files."""

    name: str
    is_port: bool

    def make(self, chance: random.Random, number: int, *, sound: bool) -> bytes:
        """The input of that number, as it should be or with something wrong."""

    def send(self, case: Case) -> str:
        """What the node made of it, in a word or two. Raises FindingError, or OSError where a port is closed."""


def case_of(door: Door, seed: int, number: int) -> Case:
    """The input of a door with that number, which depends on nothing but seed, door and number."""
    sound = number % SOUND_EVERY == 0
    stranger = door.is_port and number % STRANGER_EVERY == STRANGER_EVERY - 1
    content = door.make(random.Random(f"{seed} {door.name} {number}"), number, sound=sound)
    return Case(door.name, number, content, sound, stranger)


def exchange(case: Case, port: int, *, is_answered: Callable[[bytes], bool], first: int | None = None) -> bytes:
    """Sends an input to a port, and returns what comes back until the connection is closed.

    Of an input whose `first` bytes are a question the rest is sent when that is answered. Our side is closed when
    `is_answered`; for an input that is not sound also after a short silence.

    Raises:
        FindingError: the node keeps the connection after that.
    """
    received = bytearray()
    patience = HANG_SECONDS if case.sound else QUIET_SECONDS
    with socket.create_connection((LOOPBACK, port), HANG_SECONDS, source_address=(case.source, 0)) as line:
        for part in (case.content,) if first is None else (case.content[:first], case.content[first:]):
            with contextlib.suppress(ConnectionError):
                _send(line, part)
            line.settimeout(patience)
            with contextlib.suppress(TimeoutError, ConnectionError):
                while not is_answered(bytes(received)) and (more := line.recv(65536)):
                    received += more
                    if part and len(part) == first:
                        break
        with contextlib.suppress(OSError):
            line.shutdown(socket.SHUT_WR)
        line.settimeout(HANG_SECONDS)
        try:
            while more := line.recv(65536):
                received += more
        except TimeoutError:
            raise FindingError(f"the connection is still open {HANG_SECONDS:g} s after its peer closed it") from None
        except ConnectionError:
            pass
    return bytes(received)


def _send(line: socket.socket, content: bytes) -> None:
    """Sends without waiting for ever for a peer that does not read.

    Raises:
        FindingError: it does not read. ConnectionError: it has closed the connection.
    """
    line.settimeout(0.0)
    deadline = time.monotonic() + HANG_SECONDS
    view = memoryview(content)
    while view:
        try:
            view = view[line.send(view) :]
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise FindingError(f"it was not read for {HANG_SECONDS:g} s") from None
            time.sleep(0.005)

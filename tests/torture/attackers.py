"""Attackers beside honest senders: silent connections, bombs, broken associations, half requests, bad frames.

The inputs are those of `tests.fuzz`. Whether honest senders are kept waiting is measured by one at each door, which
asks again and again while the attack goes on, and by the modalities themselves.
"""

import contextlib
import itertools
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from dicom_node.errors import DicomNodeError
from dicom_node.scu.association import Timeouts, echo
from tests.fuzz.associations import Associations
from tests.fuzz.door import SOUND_EVERY, Door, FindingError, case_of
from tests.fuzz.http_doors import Stow, http_request
from tests.fuzz.instances import Instances
from tests.fuzz.mllp import Mllp
from tests.support.ports import LOOPBACK, nobody_listens
from tests.support.reports import ORU
from tests.torture.house import START_SECONDS, TOKEN, House

MOST_SECONDS: Final = 10.0
"""How long an honest sender may wait for its answer, whatever attackers do."""
MOST_HELD: Final = 150  # connections to each port, more than it has places
ATTACKS: Final = (
    "silent connections",
    "half headers",
    "broken associations",
    "bombs and damaged images",
    "bad STOW-RS requests",
    "bad frames",
)
GIVE_UP_SECONDS: Final = 60.0
PAUSE_SECONDS: Final = 0.05  # between two inputs of an attacker: the machine has to do its work, too


@dataclass(frozen=True)
class Wait:
    """How long an honest sender waited for its answer, from `began` in seconds of the monotonic clock."""

    sender: str
    began: float
    seconds: float


def too_long(waits: Sequence[Wait], attacks: Sequence[tuple[float, float]]) -> list[str]:
    """Says of each wait that began during an attack, of which begin and end are given, and was too long."""
    return [
        f"{wait.sender} waited {wait.seconds:.0f} s during an attack"
        for wait in waits
        if wait.seconds > MOST_SECONDS and any(begin <= wait.began <= end for begin, end in attacks)
    ]


class Attackers:
    """Who attacks a house, and the honest senders beside them."""

    def __init__(self, house: House) -> None:
        self.inputs: Counter[str] = Counter()
        self.waits: list[Wait] = []
        self.attacks: list[tuple[float, float]] = []
        self._house = house
        self._numbers = itertools.count(1)
        folder = house.log.parent / "attackers"
        stow, hl7 = Stow(house.stow_port, folder), Mllp(house.hl7_port)
        dicom = Associations(house.node.port), Instances(house.node.port, folder)
        self._doors: dict[str, Door] = dict(zip(ATTACKS[2:], (*dicom, stow, hl7), strict=True))

    @contextlib.contextmanager
    def at_work(self) -> Iterator[None]:
        """Attacks all doors until the block ends, and every honest sender has its answer.

        Begins when the node listens: the event before may have ended it.
        """
        deadline = time.monotonic() + START_SECONDS
        while any(map(nobody_listens, self._ports)) and time.monotonic() < deadline:
            time.sleep(PAUSE_SECONDS)
        over = threading.Event()
        acts: list[Callable[[threading.Event], None]] = [self._silent, self._half_headers]
        acts += [partial(self._bad_inputs, name, door) for name, door in self._doors.items()]
        acts += [partial(self._honest, name, *question) for name, question in self._questions().items()]
        threads = [threading.Thread(target=act, args=(over,)) for act in acts]
        began = time.monotonic()
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            over.set()
            for thread in threads:
                thread.join()
            self.attacks.append((began, time.monotonic()))

    # -- attackers

    def _bad_inputs(self, name: str, door: Door, over: threading.Event) -> None:
        while not over.wait(PAUSE_SECONDS):
            number = next(self._numbers)
            if number % SOUND_EVERY:
                with contextlib.suppress(OSError, FindingError):  # what the node makes of it is judged by `make fuzz`
                    door.send(case_of(door, 0, number))
                    self.inputs[name] += 1

    def _silent(self, over: threading.Event) -> None:
        """Holds connections that ask nothing, to every port."""
        self._hold(ATTACKS[0], self._ports, b"", over)

    def _half_headers(self, over: threading.Event) -> None:
        """Holds requests that never come to the end of their header."""
        half = http_request("/studies", b"", kind="multipart/related", token=TOKEN)[:-3]
        self._hold(ATTACKS[1], (self._house.stow_port, self._house.reports_port), half, over)

    def _hold(self, name: str, ports: Sequence[int], said: bytes, over: threading.Event) -> None:
        with contextlib.ExitStack() as held:
            for number, port in ((number, port) for number in range(MOST_HELD) for port in ports):
                if over.is_set():
                    break
                with contextlib.suppress(OSError):
                    source = (f"127.0.0.{100 + number % 3}", 0)
                    line = held.enter_context(socket.create_connection((LOOPBACK, port), 5, source_address=source))
                    line.sendall(said)
                    self.inputs[name] += 1
            over.wait()

    # -- honest senders

    @property
    def _ports(self) -> tuple[int, ...]:
        house = self._house
        return house.node.port, house.stow_port, house.reports_port, house.hl7_port

    def _questions(self) -> dict[str, tuple[int, Callable[[], None]]]:
        """The port of each door and what an honest sender asks there, which raises an error without an answer."""
        limits = Timeouts(GIVE_UP_SECONDS, GIVE_UP_SECONDS, GIVE_UP_SECONDS)
        framed, fhir = b"\x0b" + ORU.encode() + b"\x1c\r", b'{"resourceType": "DiagnosticReport"}'
        dicom, stow, http, hl7 = self._ports
        return {
            "C-ECHO": (dicom, lambda: echo(self._house.node, calling_ae="HONEST", timeouts=limits) and None),
            "STOW-RS": (stow, partial(_asks, stow, _post("/studies", b""), b"HTTP/1.1 4")),
            "HTTP": (http, partial(_asks, http, _post("/reports", fhir), b"HTTP/1.1 4")),
            "MLLP": (hl7, partial(_asks, hl7, framed, b"MSA|AA")),
        }

    def _honest(self, name: str, port: int, ask: Callable[[], None], over: threading.Event) -> None:
        """Asks until `over`, and asks again what was not answered; that nobody listens is not the attackers' doing."""
        while not over.wait(PAUSE_SECONDS):
            began, answered = time.monotonic(), False
            while not answered and time.monotonic() - began < GIVE_UP_SECONDS:
                try:
                    ask()
                    answered = True
                except (OSError, DicomNodeError):
                    if nobody_listens(port):
                        began = time.monotonic()
                        if over.wait(PAUSE_SECONDS):
                            return
            self.waits.append(Wait(name, began, time.monotonic() - began))


def _asks(port: int, question: bytes, answer: bytes) -> None:
    said = b""
    with socket.create_connection((LOOPBACK, port), GIVE_UP_SECONDS) as line:
        line.sendall(question)
        while answer not in said:
            if not (more := line.recv(65536)):
                raise ConnectionError("closed without an answer")
            said += more


def _post(path: str, content: bytes) -> bytes:
    return http_request(path, content, kind="text/plain", token=TOKEN)

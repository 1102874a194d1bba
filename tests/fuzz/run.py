"""One run: a node in 2 GB of memory, attackers at all of its doors beside each other, and a watcher."""

import contextlib
import itertools
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from dicom_node.store import Store
from tests.fuzz import watch
from tests.fuzz.associations import Associations
from tests.fuzz.door import ALLOWED, SOUND_EVERY, Case, Door, FindingError, case_of
from tests.fuzz.files import Models, Nifti
from tests.fuzz.http_doors import TOKEN, Reports, Stow
from tests.fuzz.instances import SLICES, STUDY_DESCRIPTION, Instances, sop_uid_of
from tests.fuzz.mllp import Mllp
from tests.support.node import Node, node
from tests.support.ports import free_port, nobody_listens
from tests.support.waiting import wait_until

PROTOCOL: Final = f"""
name: fuzz
match: {{Modality: CT, StudyDescription: {STUDY_DESCRIPTION}}}
prompts: [above 300]
report: {{use: true}}
outputs: [seg, rtstruct, sr]
"""
KEPT: Final = 40  # the last inputs of a door, which are kept with what the watcher finds
STOP_AFTER: Final = 20  # findings


@dataclass
class Report:
    """What came of a run."""

    seed: int
    folder: Path
    outcomes: dict[str, Counter[str]] = field(default_factory=dict)
    findings: list[str] = field(default_factory=list)
    counts: dict[str, str] = field(default_factory=dict)

    def table(self) -> str:
        """The counts, one a line, and the findings below."""
        facts: list[tuple[str, object]] = []
        for door, outcomes in sorted(self.outcomes.items()):
            facts.append((door, outcomes.total()))
            facts += [(f"  {said}", count) for said, count in outcomes.most_common()]
        facts += self.counts.items()
        width = max(len(name) for name, _ in facts)
        lines = [f"{name:<{width}}  {count:>8}" for name, count in facts]
        return "\n".join([*lines, *map("FINDING {}".format, self.findings)])


class Attack:
    """The attacker of one door, who takes its numbers one after the other in a thread."""

    def __init__(self, door: Door, report: Report) -> None:
        self.door, self._report = door, report
        self.last: deque[Case] = deque(maxlen=KEPT)
        self.taken: list[int] = []  # numbers of sound inputs
        report.outcomes[door.name] = Counter()

    def run(self, over: threading.Event) -> None:
        """Attacks until `over`."""
        for number in itertools.count():
            if over.is_set() or len(self._report.findings) >= STOP_AFTER:
                return
            self.once(number)

    def once(self, number: int) -> None:
        """Sends one input and notes what became of it."""
        case = case_of(self.door, self._report.seed, number)
        self.last.append(case)
        said = "FINDING"
        try:
            said = self.door.send(case)
            self.taken += [number] if case.sound else []
        except FindingError as finding:
            self._found(str(finding), case)
        except OSError as error:
            self._found(f"the port does not answer: {error}", case)
        self._report.outcomes[self.door.name][said] += 1

    def _found(self, what: str, case: Case) -> None:
        keep(case, self._report.folder / "findings")
        self._report.findings.append(f"{what} (--seed {self._report.seed} --case {case.name})")


def keep(case: Case, folder: Path) -> None:
    """Keeps an input in a file that is named after its case."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{case.door}-{case.number}.bin").write_bytes(case.content)


def fuzz(
    folder: Path, *, seconds: float, seed: int, echo_seconds: float, only: tuple[str, int] | None = None
) -> Report:
    """Attacks a node of its own under `folder` for so long, or with one input `only`, a door's name and a number.

    A C-ECHO of an allowed peer must be answered in `echo_seconds`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    report = Report(seed, folder)
    ports = {name: free_port() for name in ("stow_port", "reports_http_port", "hl7_port")}
    with _node(folder, ports) as running, _doors(folder, running, ports) as doors:
        watcher = watch.Watcher(running.peer, running.pid, running.home)
        wait_until(lambda: not any(map(nobody_listens, ports.values())))
        attacks = [Attack(door, report) for door in doors if only is None or door.name == only[0]]
        watcher.start()
        if only is not None:
            attacks[0].once(only[1])
        else:
            _attack(attacks, seconds)
        for attack in attacks:  # no door is shut in the end
            attack.once(SOUND_EVERY * 10**6)
        watcher.stop()
        _check_stored(attacks, Store(running.home), report)
    log = running.log.read_text("utf-8", "replace")
    verdict = watch.judge(watcher.looks, log, echo_seconds=echo_seconds)
    report.counts |= verdict.counts
    report.findings += verdict.faults
    if verdict.faults:
        for attack in attacks:
            for case in attack.last:
                keep(case, folder / "last")
    return report


def _attack(attacks: Sequence[Attack], seconds: float) -> None:
    over = threading.Event()
    threads = [threading.Thread(target=attack.run, args=(over,), name=attack.door.name) for attack in attacks]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and any(thread.is_alive() for thread in threads):
        over.wait(0.2)
    over.set()
    for thread in threads:
        thread.join()


@contextlib.contextmanager
def _node(folder: Path, ports: Mapping[str, int]) -> Iterator[Node]:
    (token := folder / "token").write_text(TOKEN)
    with node(
        folder / "home",
        pacs=None,
        protocol=PROTOCOL,
        program="tests.fuzz.launch",
        **ports,
        stow_token_file=token,
        reports_token_file=token,
        allowed_addresses=f'["{ALLOWED}"]',
        min_free_bytes=0,
        look_memory_bytes=512 * 1024**2,
        device="cpu",
    ) as running:
        yield running


@contextlib.contextmanager
def _doors(folder: Path, running: Node, ports: Mapping[str, int]) -> Iterator[list[Door]]:
    """The doors of the node, and the commands that read files."""
    made: list[Door] = [
        Associations(running.peer.port),
        Instances(running.peer.port, folder / "series"),
        Stow(ports["stow_port"], folder / "series"),
        Mllp(ports["hl7_port"]),
        Reports(ports["reports_http_port"]),
    ]
    files = [Nifti(folder), Models(folder)]
    try:
        yield [*made, *files]
    finally:
        for one in files:
            one.close()


def _check_stored(attacks: Sequence[Attack], store: Store, report: Report) -> None:
    """What was acknowledged as it should be is in the store."""
    stored = {one.sop_uid for one in store.walk()}
    ways = {"C-STORE": 1, "STOW-RS": 2}
    sent = [
        sop_uid_of(number, index, way=ways[attack.door.name])
        for attack in attacks
        if attack.door.name in ways
        for number in attack.taken
        for index in range(SLICES)
    ]
    lost = [uid for uid in sent if uid not in stored]
    report.counts |= {"sound images acknowledged": str(len(sent)), "  of them lost": str(len(lost))}
    report.findings += [f"image {uid} was acknowledged and is not in the store" for uid in lost]

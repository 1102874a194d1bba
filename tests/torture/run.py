"""One run: a house, a plan, senders beside each other; then everything settles and is compared."""

import contextlib
import math
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from sqlalchemy.exc import SQLAlchemyError

from dicom_node.errors import DicomNodeError
from tests.torture import compare
from tests.torture.attackers import Wait, too_long
from tests.torture.events import Events
from tests.torture.house import TOKEN, House, house
from tests.torture.kills import STEPS
from tests.torture.plan import Turn
from tests.torture.sending import Study, association_of, new_study, send_all, send_by_web, send_once, send_report
from worker.errors import LedgerError
from worker.ledger import Job, JobState

Answer = TypeVar("Answer")

SENDERS: Final = 3
POISON_KILLS: Final = 9  # three attempts, also when the job supersedes one on fewer images that died of it too
LOOK_SECONDS: Final = 0.5
WEB_TRIES: Final = 20  # then by C-STORE: one that is killed for it whenever it comes by STOW-RS would have lost
STANDSTILL_SECONDS: Final = 120.0  # nothing changes any more: what is not done by then never will be


@dataclass(frozen=True)
class Report:
    """What came of a run."""

    verdict: compare.Verdict
    seconds: float

    def table(self) -> str:
        """The counts, one a line, and the faults below."""
        width = max(map(len, self.verdict.counts))
        lines = [f"{name:<{width}}  {count:>6}" for name, count in self.verdict.counts.items()]
        return "\n".join(
            [*lines, f"{'seconds':<{width}}  {self.seconds:>6.0f}", *map("FAULT {}".format, self.verdict.faults)]
        )


def torture(
    folder: Path,
    turns: Sequence[Turn],
    *,
    database: str,
    seed: int = 0,
    lasts_seconds: float = 4.0,
    minutes: float = math.inf,
    wide: bool = False,
) -> Report:
    """Runs the plan in a house of its own under `folder`.

    A PACS that is down is so for `lasts_seconds`. After `minutes` no further study of the plan is sent. For `wide` see
    `house`.
    """
    started = time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    with house(folder, database=database, wide=wide) as built:
        run = Run(built, seed, lasts_seconds)
        run.play(turns, until=started + 60 * minutes)
        run.settle()
        deaths = sum(len(kept.deaths) for kept in built.kept)
        built.end()
        verdict = compare.judge(compare.gather(run.studies, run.poison, run.ledger, built.store(), built.pacs))
        run.ledger.close()
    verdict.faults += run.problems()
    facts = {"studies": len(run.studies), "processes killed at a step": sum(built.tokens.struck().values())}
    facts |= {f"  {name}": count for name, count in built.tokens.struck().items() if count}
    facts |= {"events": sum(run.events.counts.values())}
    facts |= {f"  {name}": count for name, count in sorted(run.events.counts.items())}
    facts |= run.under_attack()
    facts |= {"supervisor started again": deaths, "jobs retried by hand": run.by_hand}
    verdict.counts = facts | verdict.counts
    return Report(verdict, time.monotonic() - started)


class Run:
    """The senders' side, and the operator who starts failed jobs again when the cause is mended."""

    def __init__(self, built: House, seed: int, lasts_seconds: float) -> None:
        self.house = built
        self.events = Events(built, lasts_seconds)
        self.ledger = _patiently(built.ledger)
        self.studies: list[Study] = []
        self.poison: set[str] = set()
        self.by_hand = 0
        self._seed = seed
        self._unhappy: list[str] = []

    def play(self, turns: Sequence[Turn], until: float) -> None:
        """Sends every study of the plan in its way; returns when all is acknowledged and the events are over."""
        with ThreadPoolExecutor(SENDERS) as senders:
            free = threading.Semaphore(SENDERS)
            for turn in turns:
                free.acquire()
                if time.monotonic() > until:
                    break
                study = self._prepare(turn)
                if turn.event:
                    self.events.begin(turn.event)
                senders.submit(self._send, turn, study).add_done_callback(lambda _done: free.release())
        self.events.end()

    def settle(self) -> None:
        """Until nothing is left to do, or nothing happens any more."""
        last, changed_at = None, time.monotonic()
        while time.monotonic() - changed_at < STANDSTILL_SECONDS:
            jobs = self._jobs()
            receiving = _patiently(self.ledger.series.unsettled)
            self._retry([job for job in jobs if job.state is JobState.FAILED])
            staying = self._staying()
            state = [(job.id, job.state, job.claims) for job in jobs], len(receiving), staying
            if state != last:
                last, changed_at = state, time.monotonic()
            if not receiving and not staying and all(map(compare.ended, jobs)) and self._complete(jobs):
                return
            time.sleep(LOOK_SECONDS)

    def problems(self) -> list[str]:
        """What the harness could not do: steps that nobody came to, events that did not happen.

        A worker that an event killed with a poison study has spared it one of its own kills.
        """
        left = [token for token in self.house.tokens.left() if not any(uid in token for uid in self.poison)]
        missed = [f"nobody came to {token}" for token in left]
        slow = too_long(self._waits(), self.events.attackers.attacks)
        return [*self._unhappy, *self.events.problems, *missed, *slow]

    def under_attack(self) -> dict[str, int]:
        """What attackers sent, and how long honest senders waited meanwhile."""
        attackers = self.events.attackers
        waits = [wait for wait in self._waits() if any(begin <= wait.began <= end for begin, end in attackers.attacks)]
        longest = max((wait.seconds for wait in waits), default=0.0)
        facts = {"inputs of attackers": attackers.inputs.total()}
        facts |= {f"  {name}": count for name, count in sorted(attackers.inputs.items())}
        return facts | {"honest senders' waits meanwhile": len(waits), "  longest, in ms": round(1000 * longest)}

    def _waits(self) -> list[Wait]:
        """Of modalities for each response, and of the honest senders beside the attackers."""
        sent = [Wait(f"study {study.uid}", *wait) for study in self.studies for wait in study.waits]
        return [*sent, *self.events.attackers.waits]

    def _prepare(self, turn: Turn) -> Study:
        folder = self.house.log.parent / "sent" / f"{turn.number:04d}"
        promised = turn.slices - 1 if turn.way == "behind" else turn.slices if turn.number % 2 else None
        study = new_study(folder, turn.number, self._seed, turn.slices, description=turn.route, promised=promised)
        study.leaves = turn.leaves
        self.studies.append(study)
        if turn.step:
            self.house.tokens.lay(turn.step, list(study.images)[turn.image] if turn.step.by_image else study.uid)
        if turn.poison:
            self.poison.add(study.uid)
            in_the_network = next(step for step in STEPS if step.name == "in the network")
            self.house.tokens.lay(in_the_network, study.uid, POISON_KILLS)
        return study

    def _send(self, turn: Turn, study: Study) -> None:
        try:
            self._in_its_way(turn, study)
            if turn.leaves:
                self.house.tokens.let_go(study.uid)
        except Exception as error:  # noqa: BLE001 (a door: the study goes on the list of faults)
            self._unhappy.append(f"{turn}: {error}")

    def _in_its_way(self, turn: Turn, study: Study) -> None:
        node, paths = self.house.node, study.paths
        if turn.way == "cut off":
            send_once(study, node, paths, cut_after=len(paths) // 2)
            send_once(study, node, paths)
        elif turn.way == "twice":
            other = threading.Thread(target=send_once, args=(study, node, paths))
            other.start()
            send_once(study, node, paths)
            other.join()
        elif turn.way == "late":
            send_all(study, node, paths[:-1])
            self._wait_for_result(study)
        elif turn.way == "split":
            send_all(study, node, paths[: len(paths) // 2])
        elif turn.way == "behind":
            self._send_behind(study)
        elif turn.way in ("STOW-RS", "STOW-RS cut off"):
            self._send_by_web(study, cut_off=turn.way == "STOW-RS cut off")
        send_all(study, node, paths, abort=turn.way == "aborted")
        if turn.way == "again":
            self._wait_for_result(study)
            if turn.leaves:  # already: what comes again may meet its own removal
                self.house.tokens.let_go(study.uid)
            send_once(study, node, paths)
        elif turn.way == "reported":
            self._wait_for_result(study)
            send_report(study, self.house.reports_port, TOKEN)

    def _send_behind(self, study: Study) -> None:
        """The last image follows when the protocols have been asked; the listeners die before its association ends."""
        with contextlib.suppress(DicomNodeError, RuntimeError), association_of(study, self.house.node) as send:
            for path in study.paths[:-1]:
                send(path)
            if len(study.acknowledged) == len(study.images) - 1:
                self._wait_for(lambda: any(job.study_uid == study.uid for job in self._jobs()))
            send(study.paths[-1])
            for listener in self.house.of_role("listen"):
                listener.kill()

    def _send_by_web(self, study: Study, *, cut_off: bool) -> None:
        if cut_off:
            send_by_web(study, self.house.stow_port, TOKEN, study.paths, cut_off=True)
        for _ in range(WEB_TRIES):
            if set(study.images) - study.acknowledged:
                send_by_web(study, self.house.stow_port, TOKEN, study.paths)
                time.sleep(LOOK_SECONDS)

    def _wait_for_result(self, study: Study) -> None:
        self._wait_for(lambda: any(job.study_uid == study.uid and compare.ended(job) for job in self._jobs()))

    def _wait_for(self, happened: Callable[[], bool]) -> None:
        deadline = time.monotonic() + STANDSTILL_SECONDS
        while not happened() and time.monotonic() < deadline:
            time.sleep(LOOK_SECONDS)

    def _jobs(self) -> list[Job]:
        return _patiently(lambda: self.ledger.jobs.find(limit=1_000_000))

    def _staying(self) -> list[str]:
        """Studies whose images are to be removed and still are there, or lie aside."""
        here = {path.name for path in self.house.home.glob("studies/*")}
        aside = {path.name.partition("-")[0] for path in self.house.home.glob("leaving/*")}
        return sorted(aside | {study.uid for study in self.studies if study.leaves and study.uid in here})

    def _complete(self, jobs: Sequence[Job]) -> bool:
        newest = {job.study_uid: set(job.spec.instances) for job in jobs if job.superseded_by is None}
        return all(newest.get(study.uid) == study.acknowledged for study in self.studies)

    def _retry(self, failed: Sequence[Job]) -> None:
        """What a person would do once the PACS takes our name, or the disk has room again.

        No person should meet an error that nobody foresaw, even where another attempt would mend it.
        """
        for job in failed:
            if compare.UNFORESEEN in job.reason and (problem := f"job {job.id}: {job.reason}") not in self._unhappy:
                self._unhappy.append(problem)
            wanted = job.superseded_by is None or job.result  # results that exist go where they belong
            if wanted and job.study_uid not in self.poison and compare.DIED not in job.reason:
                _patiently(lambda job=job: self.ledger.jobs.retry(job.id))
                self.by_hand += 1


def _patiently(ask: Callable[[], Answer]) -> Answer:
    """The ledger's answer, also while its database restarts or its disk is full."""
    deadline = time.monotonic() + STANDSTILL_SECONDS
    while True:
        try:
            return ask()
        except (SQLAlchemyError, LedgerError):
            if time.monotonic() > deadline:
                raise
            time.sleep(LOOK_SECONDS)

"""The quick form of `make torture`: every step at which a process is killed, once, and the gravest events."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.torture.attackers import ATTACKS
from tests.torture.kills import STEPS, Step
from tests.torture.plan import EVENTS, WAYS, Event, brief, seeded
from tests.torture.run import torture

pytestmark = pytest.mark.torture


@dataclass(frozen=True)
class Quick:
    """What one run holds."""

    steps: tuple[Step, ...]
    events: tuple[Event, ...]
    poison: bool


RUNS = {
    "sqlite": Quick(
        STEPS,
        ("queue killed", "disk full", "attacked", "supervisor killed", "clock an hour ahead", "clock an hour back"),
        True,
    ),
    "postgresql": Quick(
        (), ("database restarted", "attacked", "queue flushed", "PACS mute", "PACS down", "PACS refusing"), False
    ),
}


@pytest.mark.timeout(1800)  # about a minute where nothing else runs; a hang must still end
@pytest.mark.parametrize("database", RUNS)
def test_whatever_dies_nothing_acknowledged_is_lost_and_every_result_arrives_once(
    database: str, tmp_path: Path
) -> None:
    quick = RUNS[database]
    plan = brief(quick.steps, quick.events, poison=quick.poison)
    report = torture(tmp_path, plan, database=database, lasts_seconds=2.0)
    assert report.verdict.faults == [], report.table()
    counts = report.verdict.counts
    assert counts["processes killed at a step"] >= len(quick.steps) + quick.poison
    assert counts["events"] == len(quick.events)
    assert all(counts[f"  {attack}"] > 0 for attack in ATTACKS)
    assert counts["honest senders' waits meanwhile"] >= 4
    assert counts["images acknowledged"] >= 4 * len(quick.events)
    assert counts["results in the PACS"] >= 2 * len(quick.events)


def test_a_long_plan_leaves_nothing_out_and_is_the_same_for_the_same_seed() -> None:
    plan = seeded(7, 200)
    assert plan == seeded(7, 200) != seeded(8, 200)
    assert {turn.step for turn in plan} == {None, *STEPS}
    assert {turn.way for turn in plan} == set(WAYS)
    assert {turn.event for turn in plan} == {None, *EVENTS}
    assert sum(turn.poison for turn in plan) >= 1

"""What each state means: one line a state, and no list of states by hand outside worker/ledger/states.py."""

import ast
from pathlib import Path

import pytest

from worker.ledger import DeliveryState, JobState, SeriesState
from worker.ledger.states import those

WORKER = Path(__file__).parents[2] / "worker"
STATES = {"JobState", "DeliveryState", "SeriesState"}

MEANINGS = {
    "queued": {"is_unfinished", "is_unsent", "awaits_segmentation"},
    "segmenting": {"is_unfinished", "is_unsent", "awaits_segmentation"},
    "segmented": {"is_finished", "has_succeeded", "has_results"},
    "review": {"is_unfinished", "is_unsent"},
    "sending": {"is_unfinished", "follows_deliveries", "has_results"},
    "delivered": {"is_finished", "follows_deliveries", "is_delivered", "has_succeeded", "has_results"},
    "committed": {"is_finished", "is_delivered", "has_succeeded", "has_results"},
    "failed": {"is_finished", "may_be_retried"},
    "cancelled": {"is_finished", "may_be_retried"},
}
DELIVERY_MEANINGS = {
    "pending": {"is_open"},
    "sending": {"is_open"},
    "delivered": {"is_delivered"},
    "committed": {"is_delivered"},
    "failed": set(),
}
SERIES_MEANINGS = {
    "receiving": {"is_unsettled", "may_be_read"},
    "full": {"is_complete", "is_unsettled", "may_be_read"},
    "settled": {"is_complete", "may_be_read"},
    "unreadable": set(),
}


def meanings(state: object) -> set[str]:
    names = [name for name, value in vars(type(state)).items() if isinstance(value, property)]
    return {name for name in names if getattr(state, name)}


@pytest.mark.parametrize(
    ("states", "expected"),
    [(JobState, MEANINGS), (DeliveryState, DELIVERY_MEANINGS), (SeriesState, SERIES_MEANINGS)],
)
def test_every_state_says_what_it_means(states, expected):
    assert {state.value: meanings(state) for state in states} == expected


def test_the_states_of_a_condition_are_those_that_meet_it():
    assert those(JobState, lambda state: state.may_be_retried) == [JobState.FAILED, JobState.CANCELLED]


def lists_of_states(source: str) -> list[int]:
    """The lines with a list, tuple or set that names two states or more."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.List | ast.Tuple | ast.Set):
            kinds = [one.value.id for one in node.elts if isinstance(one, ast.Attribute) and _is_name(one.value)]
            if sum(kind in STATES for kind in kinds) > 1:
                found.append(node.lineno)
    return found


def _is_name(node: ast.expr) -> bool:
    return isinstance(node, ast.Name)


def test_no_module_lists_states_by_hand():
    """So that a new state is judged in one place."""
    modules = [path for path in sorted(WORKER.rglob("*.py")) if path != WORKER / "ledger" / "states.py"]
    assert len(modules) > 50
    assert {path.name: lines for path in modules if (lines := lists_of_states(path.read_text()))} == {}


def test_the_guard_finds_a_list_of_states():
    assert lists_of_states("x = 1\nif state in (JobState.QUEUED, JobState.REVIEW): pass") == [2]
    assert lists_of_states("state, reason = JobState.QUEUED, why") == []

"""Log events have stable names, and docs/reference/log-events.md lists each with its level and fields."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TABLE = ROOT / "docs" / "reference" / "log-events.md"
LOGGERS = {"log", "_log"}
LEVELS = {"debug", "info", "warning", "error", "exception", "critical"}


@dataclass(frozen=True)
class Call:
    """One line of code that logs."""

    where: str
    event: str | None  # None when it is no constant
    level: str
    fields: frozenset[str]


@cache
def calls() -> list[Call]:
    """Every call of a logger in the packages that log."""
    modules = sorted(path for package in ("worker", "dicom_node", "voxtell") for path in (ROOT / package).rglob("*.py"))
    return [call for path in modules for call in calls_in(path)]


def calls_in(path: Path) -> Iterator[Call]:
    text = path.read_text()
    if not re.search(r"\b_?log\.", text):
        return
    tree = ast.parse(text)
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    owner = {id(inner): function for function in functions for inner in ast.walk(function)}  # the innermost comes last
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        logger = node.func.value
        if isinstance(logger, ast.Name) and logger.id in LOGGERS and node.func.attr in LEVELS:
            event = node.args[0].value if node.args and isinstance(node.args[0], ast.Constant) else None
            level = "error" if node.func.attr == "exception" else node.func.attr
            where = f"{path.relative_to(ROOT)}:{node.lineno}"
            fields = frozenset(fields_of(node, owner.get(id(node))))
            yield Call(where, event if len(node.args) == 1 else None, level, fields)


def fields_of(call: ast.Call, function: ast.AST | None) -> Iterator[str]:
    """Keywords of structlog; keys of `extra` of the standard library; keys of a dictionary that is passed on."""
    for keyword in call.keywords:
        if keyword.arg in (None, "extra"):
            yield from keys(keyword.value, function)
        elif keyword.arg != "exc_info":
            yield keyword.arg


def keys(value: ast.expr, function: ast.AST | None) -> list[str]:
    if isinstance(value, ast.Name) and function is not None:
        (value,) = [
            node.value
            for node in ast.walk(function)
            if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == [value.id]
        ]
    assert isinstance(value, ast.Dict), ast.unparse(value)
    return [ast.literal_eval(key) for key in value.keys if key is not None]


def listed() -> dict[tuple[str, str], set[str]]:
    """Fields by event and level, as the table says."""
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \|.*\| ([^|]*) \|$", TABLE.read_text(), re.MULTILINE)
    assert len({event for event, _, _ in rows}) == len(rows), "an event is listed twice"
    return {(event, level): set(re.findall(r"`(\w+)`", fields)) for event, level, fields in rows}


def test_the_loggers_have_the_names_that_this_test_looks_for() -> None:
    for package in ("worker", "dicom_node", "voxtell"):
        for path in (ROOT / package).rglob("*.py"):
            for name in re.findall(r"^(\w+) = (?:get_logger|logging\.getLogger)\(", path.read_text(), re.M):
                assert name in LOGGERS, path


@pytest.mark.parametrize("call", calls(), ids=lambda call: f"{call.where} {call.event}")
def test_an_event_has_a_stable_name(call: Call) -> None:
    assert call.event is not None, "the event must be a constant, and what it is about must be fields"
    assert re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", call.event)


@pytest.mark.long
def test_every_event_is_listed_with_its_level_and_its_fields() -> None:
    found: dict[tuple[str, str], set[str]] = defaultdict(set)
    for call in calls():
        found[str(call.event), call.level] |= call.fields
    assert found == listed()
    assert len(found) > 60

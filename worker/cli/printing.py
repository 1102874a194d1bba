"""How commands print: a table or lines for people, JSON for programs."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from worker.result import Result

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]

_UNBOUNDED = 1_000_000  # characters: more than any row has


def print_json(facts: Any) -> None:
    """Prints one JSON document on standard output; values that JSON does not know as their text."""
    typer.echo(json.dumps(facts, indent=2, default=str, ensure_ascii=False))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Prints a table: on a terminal as wide as that, with long cells wrapped; in a file or pipe as wide as need be."""
    table = Table(box=None, pad_edge=False)
    for index, column in enumerate(columns):
        table.add_column(column, overflow="fold", no_wrap=index == 0)  # the first is what one copies: whole
    for row in rows:
        table.add_row(*(Text(str(cell)) for cell in row))
    console = Console()
    if not console.is_terminal:
        console.width = _UNBOUNDED
    console.print(table)


def plain(value: Any) -> str:
    """Returns a fact of JSON as people read it: yes, no, none, or items with commas between them."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {plain(one)}" for name, one in value.items()) or "none"
    if isinstance(value, list | tuple):
        return ", ".join(map(plain, value)) or "none"
    return str(value)


def result_lines(result: Result) -> Iterator[str]:
    """Yields a line for each structure, with its report's sentence below it, and one for each reason for review."""
    for found in result.found:
        yield f"{found.label}: {found.volume_ml:.1f} ml"
        if found.sentence:
            yield f"  {found.sentence}"
    yield from (f"{label}: looked for, not found" for label in result.not_found)
    yield from (f"{label}: not known to this model" for label in result.not_known)
    yield from (f"{label}: not judged, see below" for label in result.not_judged)
    yield from (f"to be reviewed: {sentence}" for sentence in result.review)


def when(seconds: float) -> str:
    """Formats seconds since 1970-01-01 UTC as local date and time: "2026-11-30 14:05:09"."""
    return datetime.fromtimestamp(seconds, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")

"""How commands print: a table or lines for people, JSON for programs."""

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

_UNBOUNDED = 1_000_000  # characters: more than any row has


def print_json(facts: Any) -> None:
    """One JSON document on standard output."""
    typer.echo(json.dumps(facts, indent=2, default=str, ensure_ascii=False))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table as wide as the terminal, where long cells wrap; as wide as it needs to be in a file or a pipe."""
    table = Table(box=None, pad_edge=False)
    for index, column in enumerate(columns):
        table.add_column(column, overflow="fold", no_wrap=index == 0)  # the first is what one copies: whole
    for row in rows:
        table.add_row(*(Text(str(cell)) for cell in row))
    console = Console()
    if not console.is_terminal:
        console.width = _UNBOUNDED
    console.print(table)


def when(seconds: float) -> str:
    """Local date and time of seconds since 1970-01-01 UTC."""
    return datetime.fromtimestamp(seconds, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")

#!/usr/bin/env python3
"""Writes docs/reference/command-line.md from the commands themselves; run it after changing one (a test compares)."""

from collections.abc import Iterator
from pathlib import Path

from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption
from typer.main import get_command

from worker.__main__ import app

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "command-line.md"

HEAD = """# Command line

<!-- made by scripts/command_line.py -->

`voxtell-dicom --help` lists the commands, `voxtell-dicom COMMAND --help` explains one. Settings come from the
environment: [settings](settings.md). Training has a program of its own, `python -m voxtell.training`:
[training](../how-to/training.md).

Exit codes: 0 done; 1 something failed, and standard error says what and why in one sentence; 2 wrong usage.
`voxtell-dicom --debug COMMAND` shows the traceback instead of the sentence.
"""


def page() -> str:
    """The whole page."""
    group = get_command(app)
    assert isinstance(group, TyperGroup)
    return HEAD + "".join(_section(name, command) for name, command in _commands("voxtell-dicom", group))


def _commands(path: str, group: TyperGroup) -> Iterator[tuple[str, TyperCommand | TyperGroup]]:
    """Every command below a group, with its full name; a group that does something by itself comes first."""
    for name, command in group.commands.items():
        full = f"{path} {name}"
        if isinstance(command, TyperGroup):
            if command.invoke_without_command:
                yield full, command
            yield from _commands(full, command)
        elif isinstance(command, TyperCommand):
            yield full, command


def _section(name: str, command: TyperCommand | TyperGroup) -> str:
    arguments = [one for one in command.params if isinstance(one, TyperArgument)]
    options = [one for one in command.params if isinstance(one, TyperOption) and not one.hidden]
    words = [_place(one) for one in arguments]
    words += [f"{one.opts[0]} {(one.name or '').upper()}" for one in options if one.required]
    words += ["[OPTIONS]"] if any(not one.required for one in options) else []
    head = f"\n## {name.removeprefix('voxtell-dicom ')}\n{_line(command.help)}\n```\n{' '.join([name, *words])}\n```\n"
    rows = [_row(_place(one), one.help) for one in arguments if one.help]
    rows += [_row(", ".join([*one.opts, *one.secondary_opts]), one.help) for one in options]
    return head + ("| | |\n|---|---|\n" + "".join(rows) if rows else "")


def _place(argument: TyperArgument) -> str:
    """An argument as it stands in the usage line: optional ones in brackets, repeated ones with points."""
    name = (argument.name or "").upper() + (" ..." if argument.nargs != 1 else "")
    return name if argument.required else f"[{name}]"


def _row(name: str, text: str | None) -> str:
    return f"| `{name}` | {_line(text).replace('|', chr(92) + '|')} |\n"


def _line(text: str | None) -> str:
    """Help text as one line."""
    return " ".join((text or "").split())


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")

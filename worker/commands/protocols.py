"""`protocols`: are they valid, and what do they say to a study?"""

from pathlib import Path
from typing import Annotated, Any

import typer

from worker.candidates import candidates_in
from worker.commands.printing import print_json
from worker.protocols import Protocol, read_folder, read_protocol, ship_protocols
from worker.settings import load

app = typer.Typer(help="What is segmented in which series.", no_args_is_help=True)

Folder = Annotated[Path | None, typer.Option("--protocols", help="Folder or file; default the node's protocols.")]


@app.command()
def check(protocols: Folder = None) -> None:
    """Validates every protocol; names file, line and field of the first that is not valid."""
    for protocol in _protocols(protocols):
        typer.echo(f"{protocol.name} {protocol.digest}: {len(protocol.prompts)} prompts")


@app.command()
def explain(
    study: Annotated[Path, typer.Argument(help="A folder of DICOM files.")],
    protocols: Folder = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Says for every series which protocol takes it, or which condition does not hold and what was there."""
    known = _protocols(protocols)
    answers: list[dict[str, Any]] = []
    for candidate in candidates_in(study):
        first = candidate.headers[0]
        series = {
            "series_uid": str(first.get("SeriesInstanceUID", "")),
            "description": str(first.get("SeriesDescription", "")),
            "images": len(candidate.headers),
        }
        for protocol in known:
            taken, findings = protocol.ask(candidate)
            conditions = [vars(finding) for finding in findings]
            answers.append(series | {"protocol": protocol.name, "taken": taken, "conditions": conditions})
    if as_json:
        print_json(answers)
        return
    for answer in answers:
        verb = "takes" if answer["taken"] else "does not take"
        typer.echo(f"{answer['protocol']} {verb} {answer['series_uid']} ({answer['description']}, {answer['images']})")
        for condition in answer["conditions"]:
            mark = "+" if condition["holds"] else "-"
            typer.echo(f"  {mark} {condition['condition']}: it is {condition['found']}")


def _protocols(path: Path | None) -> list[Protocol]:
    if path is not None and path.is_file():
        return [read_protocol(path)]
    folder = path or load().protocols_folder
    if path is None:
        ship_protocols(folder)
    return read_folder(folder)

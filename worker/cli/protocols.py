"""`protocols`: checks the protocol files, and says why a study is segmented or not.

`explain` has three sources: a folder of images or the list of a PACS, for which the protocols are asked now
(`worker.explain.dry_run`), and a study that was sent here, of which the ledger knows what happened
(`worker.explain.history`).
"""

import datetime
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from worker.cli.peers import peer_named
from worker.cli.printing import Json, print_json, when
from worker.errors import ProtocolError
from worker.explain.dry_run import Explained, of_folder, of_pacs
from worker.explain.history import SeriesHistory, StudyHistory, history_of
from worker.findings import Answer, Finding
from worker.private_home import load_privately
from worker.protocols import (
    Protocol,
    beyond_bundled,
    inactive,
    problems_in,
    protocol_files,
    read_as_at_a_start,
    read_folder,
    read_protocol,
    ship_protocols,
    unknown_destinations,
)
from worker.protocols.on_this_node import where_to
from worker.protocols.snomed import is_known
from worker.settings import Settings

app = typer.Typer(help="Checks protocols, and says why a study is segmented or not.", no_args_is_help=True)

Folder = Annotated[Path | None, typer.Option("--protocols", help="Folder or file; default the node's protocols.")]

_DATES = re.compile(r"\d{8}(-|-\d{8})?|-\d{8}", re.ASCII)

MARKS = {True: "+", False: "-", None: "?"}


@app.command()
def check(protocols: Folder = None, as_json: Json = False) -> None:
    """Checks every protocol: names file, line and field of what is not valid, and what this node lacks for it."""
    settings = load_privately()
    folder = _folder(protocols, settings)
    problems = [] if folder.is_file() else list(map(str, problems_in(folder)))
    if protocols is None:
        problems = read_as_at_a_start(settings).problems
    good = [read_protocol(folder)] if folder.is_file() else _valid(folder, problems)
    if as_json:
        print_json({"protocols": [_checked(one, settings) for one in good], "problems": problems})
    else:
        for protocol in good:
            typer.echo(f"{protocol.name} {protocol.digest}: {_contents(protocol)}")
            for note in _notes(protocol, settings):
                typer.echo(f"  {note}")
    for problem in problems:
        typer.echo(f"voxtell-dicom: {problem}", err=True)
    if problems or any(unknown_destinations(protocol, settings) for protocol in good):
        raise typer.Exit(1)


@app.command()
def explain(
    folder: Annotated[Path | None, typer.Argument(help="A folder of DICOM files.")] = None,
    study: Annotated[str | None, typer.Option(help="Study Instance UID of a study that was sent to this node.")] = None,
    from_pacs: Annotated[
        str | None, typer.Option(help="AE@HOST:PORT or a destination: the studies that it lists; retrieves nothing.")
    ] = None,
    date: Annotated[
        str, typer.Option(help="With --from-pacs: only studies of a day or range, 20260101-20260131.")
    ] = "",
    modality: Annotated[str, typer.Option(help="With --from-pacs: only studies with this modality.")] = "",
    patient_id: Annotated[str, typer.Option(help="With --from-pacs: only studies of this Patient ID.")] = "",
    accession: Annotated[str, typer.Option(help="With --from-pacs: only the studies of this accession number.")] = "",
    protocols: Folder = None,
    as_json: Json = False,
) -> None:
    """Says why a study is segmented or not: per series and per condition, what was asked and what was there."""
    if [folder is not None, study is not None, from_pacs is not None].count(True) != 1:
        raise typer.BadParameter("name one: a folder, --study UID or --from-pacs AE@HOST:PORT.")
    _check_date(date)
    settings = load_privately()
    known = _protocols(protocols, settings)
    if study is not None:
        _tell_study(study, known, settings, as_json)
    elif folder is not None:
        _tell(of_folder(folder, known, settings), as_json)
    else:
        keys = {"StudyDate": date, "ModalitiesInStudy": modality, "PatientID": patient_id, "AccessionNumber": accession}
        listed = of_pacs(peer_named(str(from_pacs), settings), keys, known, settings)
        _tell((answer for answers in listed for answer in answers), as_json)


def _check_date(text: str) -> None:
    """Refuses what is no day and no range of days as C-FIND takes it (PS3.4 C.2.2.2.5.1); "" is neither and passes."""
    try:
        good = not text or _DATES.fullmatch(text) is not None
        for day in filter(None, text.split("-") if good else ()):
            datetime.date.fromisoformat(day)
    except ValueError:  # the 31st of February
        good = False
    if not good:
        raise typer.BadParameter(
            f"--date {text!r} is no day and no range; write 20260101, 20260101-20260131, 20260101- or -20260131."
        )


# -- one line per fact


def _contents(protocol: Protocol) -> str:
    """Says what a protocol asks for, such as "3 prompts, 1 derived, in shadow mode"."""
    count = len(protocol.prompts)
    parts = [f"{count} prompt" + ("" if count == 1 else "s")]
    parts += [f"{len(protocol.derived)} derived"] if protocol.derived else []
    parts += ["findings of the report"] if protocol.report.use else []
    parts += ["in shadow mode"] if protocol.shadow else []
    return ", ".join(parts)


def _notes(protocol: Protocol, settings: Settings) -> Iterator[str]:
    """Yields what a valid protocol lacks on this node, and codes whose meaning nobody can check."""
    if why := inactive(protocol, settings):
        yield why
    if beyond := beyond_bundled(protocol, settings):
        yield beyond
    yield from unknown_destinations(protocol, settings)
    yield from where_to(protocol, settings)
    for prompt in protocol.prompts:
        if prompt.code is not None and not is_known(prompt.code):
            yield f"code {prompt.code} of '{prompt.label}' is not in DICOM's tables: nobody checks what it means"


def _checked(protocol: Protocol, settings: Settings) -> dict[str, Any]:
    """Returns what `check` says of one protocol, for JSON."""
    facts = {"name": protocol.name, "digest": protocol.digest, "contents": _contents(protocol)}
    return facts | {"active": not inactive(protocol, settings), "notes": list(_notes(protocol, settings))}


def _tell(answers: Iterable[Explained], as_json: bool) -> None:
    """Prints each answer as it comes, since a PACS may list many studies, and at the end the counts per protocol."""
    if as_json:
        print_json([vars(one) | {"conditions": [vars(finding) for finding in one.conditions]} for one in answers])
        return
    given: dict[str, list[Answer]] = {}
    for answer in answers:
        given.setdefault(answer.protocol, []).append(answer.taken)
        verb = {True: "takes", False: "does not take", None: "may take"}[answer.taken]
        images = "? images" if answer.images is None else f"{answer.images} images"
        typer.echo(f"{answer.protocol} {verb} {answer.description}, {images}, {answer.series_uid}")
        for finding in answer.conditions:
            typer.echo(_line(finding))
    for protocol, said in given.items():
        counts = f"{said.count(True)} taken, {said.count(False)} not"
        counts += f", {said.count(None)} not known before the images are here" if None in said else ""
        typer.echo(f"{protocol}: of {len(said)} series or volumes {counts}")
    if not given:
        typer.echo("nothing found")


def _line(finding: Finding) -> str:
    """Returns one condition with its mark and indentation: "  - Modality equals 'CT': it is MR"."""
    there = f": it is {finding.found}" if finding.found else ": not known" if finding.holds is None else ""
    return f"  {'  ' * finding.level}{MARKS[finding.holds]} {finding.condition}{there}"


def _tell_study(study_uid: str, protocols: Sequence[Protocol], settings: Settings, as_json: bool) -> None:
    """Prints the history of a study that was sent to this node."""
    from dicom_node.store import Store
    from worker.ledger import Ledger

    story = history_of(study_uid, Ledger(settings.ledger_url), Store(settings.home), settings, protocols)
    if as_json:
        print_json(story.facts())
        return
    _print_history(story)


def _print_history(story: StudyHistory) -> None:
    """Prints the summary, each series, and the hints."""
    typer.echo(f"{story.summary}.")
    for series in story.series:
        _print_series(series)
    for hint in story.hints:
        typer.echo(f"note: {hint}.")


def _print_series(story: SeriesHistory) -> None:
    """Prints one series: each protocol's decision with its conditions, then its jobs."""
    typer.echo(f"series {story.series.series_uid}, {story.images} images, {story.sentence}")
    for decision in story.decisions:
        verb = "took it" if decision.taken else "did not take it"
        typer.echo(f"  {decision.protocol} {verb} ({when(decision.at)})")
        for one in decision.volumes:
            if one.volume:
                typer.echo(f"    {one.volume}:")
            for finding in one.findings:
                typer.echo("  " + _line(finding))
        if not decision.volumes:
            typer.echo(f"    {decision.reason}")
    for name in story.not_asked:
        typer.echo(f"  {name} was not asked: it came after the series was complete, or could not be read then")
    for job in story.jobs:
        typer.echo(f"  {job.sentence}")


# -- where protocols lie


def _valid(folder: Path, problems: list[str]) -> list[Protocol]:
    """Returns the protocols of a folder of whose files no problem was found."""
    good = []
    for path in protocol_files(folder):
        try:
            protocol = read_protocol(path)
        except ProtocolError:
            continue
        if not any(problem.startswith(f"{path}:") for problem in problems):
            good.append(protocol)
    return good


def _folder(path: Path | None, settings: Settings) -> Path:
    """Returns the folder or file that was named, else the node's folder, made with the shipped protocols if need be."""
    if path is None:
        ship_protocols(settings.protocols_folder)
    return path or settings.protocols_folder


def _protocols(path: Path | None, settings: Settings) -> list[Protocol]:
    """Returns the protocols to ask: those that a node that starts now has, or of a file or folder that is all valid."""
    folder = _folder(path, settings)
    if path is not None:
        return [read_protocol(folder)] if folder.is_file() else read_folder(folder)
    now = read_as_at_a_start(settings)
    for problem in now.problems:
        typer.echo(f"voxtell-dicom: {problem}", err=True)
    return now.current()

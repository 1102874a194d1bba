"""`protocols`: checks the protocol files, and says why a study is segmented or not.

`explain` has three sources: a folder of images or the list of a PACS, for which the protocols are asked now
(`worker.explain.dry_run`), and a study that was sent here, of which the ledger knows what happened
(`worker.explain.history`).
"""

import datetime
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from worker.cli.explained import print_studies
from worker.cli.peers import peer_named
from worker.cli.printing import Json, print_json, print_table
from worker.errors import ProtocolError
from worker.explain.descriptions import of_rows, read_rows
from worker.explain.dry_run import explain_folder, of_pacs, studies
from worker.explain.explained import ExplainedStudy
from worker.explain.history import history_of
from worker.explain.score import HitsAndMisses, score, unknown
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

_UID = re.compile(r"[0-9.]{1,64}", re.ASCII)  # PS3.5 9.1; also what is cut short or badly made: it may have arrived
_DATES = re.compile(r"\d{8}(-|-\d{8})?|-\d{8}", re.ASCII)


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
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Show every condition with what was there, also of many studies.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Says why a study is segmented or not: a line for each protocol; of many studies a table."""
    if [folder is not None, study is not None, from_pacs is not None].count(True) != 1:
        raise typer.BadParameter("name one: a folder, --study UID or --from-pacs AE@HOST:PORT.")
    _check_date(date)
    settings = load_privately()
    known = _protocols(protocols, settings)
    if study is not None:
        told = _history(study, known, settings)
    elif folder is not None:
        told = studies(*explain_folder(folder, known, settings))
    else:
        keys = {"StudyDate": date, "ModalitiesInStudy": modality, "PatientID": patient_id, "AccessionNumber": accession}
        cut: list[str] = []
        listed = of_pacs(peer_named(str(from_pacs), settings), keys, known, settings, on_cut=cut.append)
        told = studies(answer for answers in listed for answer in answers)
        for sentence in cut:
            typer.echo(f"voxtell-dicom: {sentence}", err=True)
    if as_json:
        print_json([one.facts() for one in told])
    else:
        print_studies(told, verbose=verbose, past=study is not None)


@app.command("try")
def try_descriptions(
    descriptions: Annotated[Path, typer.Argument(help="CSV: a line of DICOM keywords, then a series a line.")],
    expect: Annotated[str, typer.Option(help="Column with the protocols that should take the series: scores.")] = "",
    protocols: Folder = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show every condition with what was there.")] = False,
    as_json: Json = False,
) -> None:
    """Says which protocols would take the series of a table, such as a worklist export; with --expect how often right.

    Rows with the same StudyInstanceUID are one study, of which the best is chosen. Columns that no DICOM keyword names
    are left out, but for Instances. Protocols are asked whether or not this node has their model.
    """
    known = _protocols(protocols, load_privately())
    rows = read_rows(descriptions)
    if expect and not all(expect in row.cells for row in rows):
        raise typer.BadParameter(f"--expect {expect!r} is no column of {descriptions}.")
    names = [protocol.name for protocol in known]
    if missing := unknown((row.cells[expect] for row in rows) if expect else (), names):
        raise typer.BadParameter(f"column {expect} names {', '.join(missing)}; the protocols are {', '.join(names)}.")
    answers = of_rows(rows, known, str(descriptions))
    each = [answers[i * len(known) : (i + 1) * len(known)] for i in range(len(rows))]
    told = studies(answers)
    scores = (
        score([(f"{row.line}", row.cells[expect], said) for row, said in zip(rows, each, strict=True)], names)
        if expect
        else []
    )
    if as_json:
        print_json({"studies": [one.facts() for one in told], "scores": [_scored(one) for one in scores]})
        return
    print_studies(told, verbose=verbose, past=False)
    _print_scores(scores)


def _print_scores(scores: Sequence[HitsAndMisses]) -> None:
    """Prints a line for each protocol, then the lines of the table at which it is wrong."""
    if not scores:
        return
    columns = ("protocol", "expected", "taken", "false takes", "", "misses", "")
    print_table(columns, (_score_row(one) for one in scores))
    for one in scores:
        for word, lines in (("takes falsely", one.false), ("misses", one.missed)):
            if lines:
                typer.echo(f"{one.protocol} {word} line {', '.join(lines)}")


def _score_row(one: HitsAndMisses) -> tuple[object, ...]:
    shares = f"{one.false_share:.1%}", f"{one.missed_share:.1%}"
    return one.protocol, one.expected, one.taken, len(one.false), shares[0], len(one.missed), shares[1]


def _scored(one: HitsAndMisses) -> dict[str, Any]:
    """Returns a score as JSON values."""
    return asdict(one) | {"false_share": one.false_share, "missed_share": one.missed_share}


def _history(study: str, protocols: Sequence[Protocol], settings: Settings) -> list[ExplainedStudy]:
    """Returns the history of a study that was sent to this node, named by its UID or its accession number.

    Raises:
        typer.BadParameter: when it is neither.
    """
    from dicom_node.store import Store
    from worker.ledger import Ledger

    ledger, store = Ledger(settings.ledger_url), Store(settings.home)
    named = ledger.studies.with_accession(study)
    if not named and not _UID.fullmatch(study):
        raise typer.BadParameter(
            f"--study {study!r} is no Study Instance UID (digits and dots, 64 at most), and no study with that "
            "accession number is known; voxtell-dicom jobs -v shows the UIDs."
        )
    return [history_of(uid, ledger, store, settings, protocols) for uid in named or [study]]


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

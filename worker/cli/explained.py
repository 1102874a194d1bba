"""How `protocols explain` prints: few studies with a line for each protocol, many as a table."""

from collections import Counter
from collections.abc import Iterator, Sequence

import typer

from worker.cli.job_list import day_of, patient_of
from worker.cli.printing import print_table, when
from worker.explain.explained import ExplainedSeries, ExplainedStudy, ProtocolAnswer
from worker.explain.plain_words import lines_of

FEW = 3  # studies that are told one by one
COLUMNS = ("study", "date", "patient", "description", "series", "images", "takes it", "may take it", "why not")


def print_studies(studies: Sequence[ExplainedStudy], *, verbose: bool, past: bool) -> None:
    """Prints what is known of studies.

    verbose: with every condition, one by one however many they are. past: they were sent to this node, so that a
    count of what would be taken makes no sense.
    """
    if not studies:
        typer.echo("no study is listed; another --date, --modality, --patient-id or --accession may find some")
        return
    if len(studies) > FEW and not verbose:
        _print_table(studies)
    else:
        for study in studies:
            _print_study(study, verbose=verbose)
    if not past and sum(len(study.series) for study in studies) > 1:
        for line in _counts(studies):
            typer.echo(line)


def _print_study(study: ExplainedStudy, *, verbose: bool) -> None:
    """Prints one study: its summary, each series with each protocol, and hints."""
    about = study.about
    known = (patient_of(about), about.accession_number, day_of(about.study_date), about.description)
    typer.echo(f"study {study.study_uid}" + "".join(f", {one}" for one in known if one))
    typer.echo(f"{study.summary}.")
    for series in study.series:
        _print_series(series, verbose=verbose)
    for hint in study.hints:
        typer.echo(f"note: {hint}.")
    if not verbose and study.series:
        typer.echo("-v shows every condition with what was there.")


def _print_series(series: ExplainedSeries, *, verbose: bool) -> None:
    """Prints one series: a line for each protocol, those that take it first, then its jobs."""
    images = "? images" if series.images is None else f"{series.images} images"
    parts = (series.description or "series", images, series.series_uid, series.sentence)
    typer.echo(", ".join(part for part in parts if part))
    for answer in sorted(series.decisions, key=lambda one: (one.taken is not True, one.taken is not None)):
        decided = f" ({when(answer.at)})" if verbose and answer.at is not None else ""
        typer.echo(f"  {answer.sentence}{decided}")
        for line in lines_of(answer.volumes) if verbose else ():
            typer.echo(f"  {line}")
    for name in series.not_asked:
        typer.echo(f"  {name} was not asked: it came after the series was complete, or could not be read then")
    for job in series.jobs:
        typer.echo(f"  {job.sentence}")


def _print_table(studies: Sequence[ExplainedStudy]) -> None:
    """Prints a row for each series that a protocol takes or may take, and one for each study of which none does."""
    rows = [row for study in studies for row in _rows(study)]
    kept = [place for place, name in enumerate(COLUMNS) if any(row[place] for row in rows)]
    print_table([COLUMNS[place] for place in kept], ([row[place] for place in kept] for row in rows))
    for study in studies:
        for hint in study.hints:
            typer.echo(f"note: study {study.study_uid}: {hint}.")
    typer.echo("-v tells each study with every condition.")


def _rows(study: ExplainedStudy) -> Iterator[tuple[str, ...]]:
    about = study.about
    start = (study.study_uid, day_of(about.study_date), patient_of(about), about.description)
    wanted = [one for one in study.series if any(answer.taken is not False for answer in one.decisions)]
    for series in wanted:
        takes = ", ".join(one.protocol for one in series.decisions if one.taken)
        may = ", ".join(one.protocol for one in series.decisions if one.taken is None)
        yield (*start, series.description, "?" if series.images is None else str(series.images), takes, may, "")
    if not wanted:
        images = [one.images for one in study.series]
        count = "?" if None in images else str(sum(one for one in images if one is not None))
        yield (*start, f"{len(study.series)} series", count, "", "", _why_not(study))


def _why_not(study: ExplainedStudy) -> str:
    """Returns the reason that most protocols give, in their plain words."""
    said = Counter(
        answer.sentence.partition(": ")[2] for series in study.series for answer in series.decisions if answer.volumes
    )
    return said.most_common(1)[0][0] if said else ""


def _counts(studies: Sequence[ExplainedStudy]) -> Iterator[str]:
    """Yields for each protocol how many series it takes."""
    given: dict[str, list[ProtocolAnswer]] = {}
    for study in studies:
        for series in study.series:
            for answer in series.decisions:
                given.setdefault(answer.protocol, []).append(answer)
    for protocol, answers in given.items():
        said = [one.taken for one in answers]
        counts = f"{said.count(True)} taken, {said.count(False)} not"
        counts += f", {said.count(None)} not known before the images are here" if None in said else ""
        yield f"{protocol}: of {len(said)} series {counts}"

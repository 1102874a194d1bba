"""What `jobs` lists: a table for people, facts for programs, and notes on what has no job.

Times are local. The columns that name a patient are shown where the settings keep names.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

import typer

from dicom_node.conflicts import SeriesConflicts
from dicom_node.uids import SeriesKey
from worker.cli.printing import print_json, print_table, when
from worker.explain.job_sentences import sentence_of, sentences_of
from worker.ledger import Delivery, Job, JobFilter, Ledger, Series, StudyFacts
from worker.settings import Settings

NAMED = 3  # unreadable series that are named below the table

AGES = {"m": 60, "h": 3600, "d": 24 * 3600, "w": 7 * 24 * 3600}  # seconds
_AGE = re.compile(r"(\d{1,6})([mhdw])", re.ASCII)

Listed = Sequence[tuple[Job, StudyFacts]]
Conflicts = Mapping[SeriesKey, SeriesConflicts]


def moment_of(text: str, now: float) -> float | None:
    """Seconds since 1970-01-01 UTC that a date, a local time or an age stands for; None for ""."""
    if not text:
        return None
    if age := _AGE.fullmatch(text):
        return now - int(age[1]) * AGES[age[2]]
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError):
        raise typer.BadParameter(
            f"--since {text!r} is no time; write 2026-11-30, '2026-11-30 14:00', or an age such as 30m, 2h or 3d."
        ) from None


def facts_of(found: Listed, ledger: Ledger, conflicts: Conflicts, *, names: bool) -> Iterator[dict[str, Any]]:
    """Yields the facts of each job for JSON."""
    now = ledger.clock.now()
    ways = ledger.deliveries.of_jobs([job.id for job, _ in found])
    for job, about in found:
        facts = job_facts(job) | {"sentence": sentence_of(job, ways[job.id], now)}
        facts |= asdict(about) if names else {}
        if conflict := conflicts.get(job.spec.series_key):
            facts["conflict"] = conflict.sentence
        yield facts


def print_jobs(found: Listed, ledger: Ledger, settings: Settings, *, verbose: bool) -> None:
    """Prints the table; a column that is empty in every row is left out."""
    if not found:
        typer.echo("no jobs")
        return
    ways = ledger.deliveries.of_jobs([job.id for job, _ in found])
    rows = [_row(job, about, ways[job.id], ledger.clock.now()) for job, about in found]
    optional = {"study", "series", "images"} if not verbose else set()
    optional |= {"patient", "accession", "date", "description"} if not settings.keep_names else set()
    columns = [name for name in rows[0] if name not in optional and any(row[name] for row in rows)]
    print_table(columns, ([row[name] for name in columns] for row in rows))


def _row(job: Job, about: StudyFacts, deliveries: Sequence[Delivery], now: float) -> dict[str, str]:
    """Returns one line of the table by its columns."""
    return {
        "job": job.id,
        "state": str(job.state),
        "protocol": job.protocol,
        "patient": patient_of(about),
        "accession": about.accession_number,
        "date": day_of(about.study_date),
        "description": about.description,
        "study": job.study_uid,
        "series": job.series_uid,
        "images": str(len(job.spec.instances)),
        "changed": when(job.updated_at),
        "reason": "; ".join(sentences_of(job, deliveries, now)),
    }


def patient_of(about: StudyFacts) -> str:
    """Returns what people call a patient: "Doe^Jane (P1)"."""
    return (
        f"{about.patient_name} ({about.patient_id})"
        if about.patient_name and about.patient_id
        else (about.patient_name or about.patient_id)
    )


def day_of(date: str) -> str:
    """Formats a DICOM date as people write it: 20261130 is 2026-11-30; what is no date stays as it is."""
    return f"{date[:4]}-{date[4:6]}-{date[6:]}" if re.fullmatch(r"\d{8}", date, re.ASCII) else date


def notes_on(found: Listed, wanted: JobFilter, ledger: Ledger, conflicts: Conflicts, limit: int) -> Iterator[str]:
    """Yields what the table does not show: older jobs, images that came again, series without a job."""
    if len(found) == limit and (all_of_them := ledger.listing.count(wanted)) > limit:
        yield f"these are the newest {limit} of {all_of_them} jobs; --limit shows more"
    for series in dict.fromkeys(job.spec.series_key for job, _ in found):
        if series in conflicts:
            yield conflicts[series].sentence
    if (wanted.state, wanted.since, wanted.patient) != (None, None, None):
        return
    unreadable = [one for one in ledger.series.unreadable() if wanted.study in (None, one.study_uid)]
    for one in unreadable[:NAMED]:
        yield _unreadable_sentence(one)
    if len(unreadable) > NAMED:
        yield f"{len(unreadable) - NAMED} more series cannot be read; voxtell-dicom jobs --unreadable lists all"
    undecided = [one for one in ledger.series.unsettled() if wanted.study in (None, one.study_uid)]
    if undecided:
        yield (
            f"{len(undecided)} series still arrive, or a protocol waits for their study or report; why: "
            f"voxtell-dicom protocols explain --study {undecided[0].study_uid}"
        )


def _unreadable_sentence(series: Series) -> str:
    return (
        f"series {series.series_uid} cannot be read and has no job: {series.reason}; "
        f"voxtell-dicom ledger look-again {series.study_uid} looks once more"
    )


def print_unreadable(ledger: Ledger, as_json: bool) -> None:
    """Prints the series whose headers could not be read within the limits."""
    found = ledger.series.unreadable()
    if as_json:
        print_json([vars(one) for one in found])
        return
    rows = ((one.study_uid, one.series_uid, one.calling_ae, when(one.last_at), one.reason) for one in found)
    if found:
        print_table(("study", "series", "from", "last image", "reason"), rows)
    typer.echo("voxtell-dicom ledger look-again STUDY looks once more" if found else "every series can be read")


def job_facts(job: Job) -> dict[str, Any]:
    """Returns a job for JSON: its specification under `work`, with a count in place of the UIDs of its images."""
    facts = vars(job) | {"work": job.spec.model_dump(mode="json", exclude={"instances"})}
    del facts["spec"]
    return facts | {"images": len(job.spec.instances), "result": job.result.json_facts() if job.result else {}}

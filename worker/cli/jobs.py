"""`jobs`: lists the jobs of the ledger, and retries, releases or cancels one.

The commands change the ledger only. A listener's sweep puts a job on the queue that was started again; a worker notices
at its next step that its job was cancelled.
"""

from dataclasses import asdict
from typing import Annotated

import typer

from dicom_node.conflicts import conflicts_in
from worker.cli.job_list import (
    day_of,
    facts_of,
    job_facts,
    moment_of,
    notes_on,
    patient_of,
    print_jobs,
    print_unreadable,
)
from worker.cli.printing import Json, print_json, print_table, result_lines, when
from worker.errors import UnknownJobError
from worker.explain.job_sentences import sentences_of
from worker.job_spec import Priority
from worker.ledger import Delivery, DeliveryState, JobFilter, JobState, Ledger, StudyFacts
from worker.off_protocols import off_protocols
from worker.private_home import load_privately
from worker.result import Result

app = typer.Typer(help="Lists jobs; shows, retries, releases and cancels one.", invoke_without_command=True)

EVERY = 1_000_000  # more jobs than a ledger holds
SHOWN = 100  # jobs in a table, unless it is asked for more
JobId = Annotated[str, typer.Argument(help="The job's id, or its first characters.", metavar="ID")]


@app.callback()
def jobs(
    context: typer.Context,
    state: Annotated[JobState | None, typer.Option(help="Only jobs in this state.")] = None,
    since: Annotated[
        str,
        typer.Option(help="Only jobs that changed since then: 2026-11-30, '2026-11-30 14:00', or an age: 30m, 2h, 3d."),
    ] = "",
    study: Annotated[
        str | None, typer.Option(help="Only jobs of this study: its Study Instance UID or accession number.")
    ] = None,
    patient: Annotated[
        str | None, typer.Option(help="Only jobs of this patient: the Patient ID, or a part of the name.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Most jobs, the newest; default 100 in a table, all in JSON.")
    ] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show study, series and images, too.")] = False,
    unreadable: Annotated[
        bool, typer.Option("--unreadable", help="List the series whose headers could not be read instead of jobs.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Lists the jobs, newest first, each with its patient and what it waits for."""
    if context.invoked_subcommand is not None:
        return
    settings = load_privately()
    ledger = Ledger(settings.ledger_url)
    if unreadable:
        print_unreadable(ledger, as_json)
        return
    wanted = JobFilter(state, moment_of(since, ledger.clock.now()), study, patient)
    found = ledger.listing.jobs(wanted, limit if as_json or limit else SHOWN)
    conflicts = {one.series: one for one in conflicts_in(settings.home)}
    if as_json:
        print_json(list(facts_of(found, ledger, conflicts, names=settings.keep_names)))
        return
    print_jobs(found, ledger, settings, verbose=verbose)
    for note in notes_on(found, wanted, ledger, conflicts, limit or SHOWN):
        typer.echo(f"note: {note}.")
    for off in off_protocols(settings.home):
        typer.echo(f"note: {off.sentence}.")


@app.command()
def show(job_id: JobId, as_json: Json = False) -> None:
    """Shows one job: its prompts, what was found, where the results went, and why it is in its state."""
    settings = load_privately()
    ledger = Ledger(settings.ledger_url)
    job = ledger.jobs.get(job_id)
    deliveries = ledger.deliveries.of_job(job.id)
    before = ledger.jobs.predecessor(job)
    about = ledger.studies.facts_of(job.study_uid) if settings.keep_names else StudyFacts()
    if as_json:
        facts = job_facts(job) | {"work": job.spec.model_dump(mode="json")} | asdict(about)
        told = {"deliveries": [asdict(one) for one in deliveries], "supersedes": before.id if before else None}
        print_json(facts | told)
        return
    lines = {
        "job": job.id,
        "state": job.state,
        "reason": "; ".join(sentences_of(job, (), ledger.clock.now())),
        "protocol": f"{job.protocol} ({job.spec.protocol_digest})",
        "patient": patient_of(about),
        "accession": about.accession_number,
        "date": day_of(about.study_date),
        "description": about.description,
        "study": job.study_uid,
        "series": f"{job.series_uid}, {len(job.spec.instances)} images",
        "prompts": ", ".join(prompt.text for prompt in job.spec.prompts),
        "attempts": job.attempts,
        "priority": Priority(job.priority).name.lower() if job.priority != Priority.ROUTINE else "",
        "window": " to ".join(job.spec.window or ()),
        "changed": when(job.updated_at),
        "cleaned": when(job.cleaned_at) if job.cleaned_at else "",
        "supersedes": before.id if before else "",
        "superseded by": job.superseded_by or "",
    }
    print_table(("", ""), ((name, value) for name, value in lines.items() if value != ""))
    for line in result_lines(job.result or Result()):
        typer.echo(line)
    for delivery in deliveries:
        typer.echo(_way(delivery))


@app.command()
def retry(
    job_id: Annotated[str | None, typer.Argument(help="The job's id, or its first characters.", metavar="ID")] = None,
    all_failed: Annotated[bool, typer.Option("--all", help="Retry every failed job that is not superseded.")] = False,
) -> None:
    """Starts a failed or cancelled job again, or asks again for storage commitment of a delivered one.

    The listener puts it on the queue within VOXTELL_SWEEP_SECONDS.
    """
    from dicom_node.store import Store
    from worker.maintenance.retries import NothingLeftError, start_again

    if (job_id is None) is not all_failed:
        raise typer.BadParameter("give the id of a job, or --all")
    settings = load_privately()
    store = Store(settings.home)
    ledger = Ledger(settings.ledger_url, store_id=store.id)
    wanted = (
        [job_id] if job_id else [job.id for job in ledger.jobs.find(JobState.FAILED, EVERY) if not job.superseded_by]
    )
    if not wanted:
        typer.echo("no failed job is left to retry")
    for one in wanted:
        try:
            job = start_again(one, ledger, store)
        except (NothingLeftError, UnknownJobError) as error:
            if not all_failed:
                raise
            typer.echo(error, err=True)  # the others are started all the same
        else:
            typer.echo(f"job {job.id} is {job.state} again")


@app.command()
def release(job_id: JobId) -> None:
    """Releases a result that waits for review, so that it is sent; `jobs cancel` rejects it."""
    job = Ledger(load_privately().ledger_url).jobs.release(job_id)
    typer.echo(f"job {job.id} is {job.state}")


@app.command()
def cancel(job_id: JobId) -> None:
    """Cancels an unfinished job; a worker that is at it stops."""
    job = Ledger(load_privately().ledger_url).jobs.cancel(job_id)
    typer.echo(f"job {job.id} is {job.state}")


def _way(delivery: Delivery) -> str:
    """Returns one line on a delivery, such as "to pacs: failed, attempt 20 the destination is full"."""
    instead = f" instead of {delivery.stands_in_for}" if delivery.stands_in_for else ""
    counted = "question" if delivery.state is DeliveryState.DELIVERED and delivery.transaction_uid else "attempt"
    line = f"to {delivery.destination}{instead}: {delivery.state}, {counted} {delivery.attempts} {delivery.reason}"
    return line.rstrip()

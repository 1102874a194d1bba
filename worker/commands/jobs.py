"""`jobs`: the ledger, for people."""

from dataclasses import asdict
from typing import Annotated, Any

import typer

from worker.commands.printing import print_json, print_table, when
from worker.ledger import Job, JobState, Ledger
from worker.settings import load

app = typer.Typer(help="The jobs in the ledger.", invoke_without_command=True)

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
JobId = Annotated[str, typer.Argument(help="The job's id, or its first characters.", metavar="ID")]


@app.callback()
def jobs(
    context: typer.Context,
    state: Annotated[JobState | None, typer.Option(help="Only jobs in this state.")] = None,
    as_json: Json = False,
) -> None:
    """Lists the jobs, newest first."""
    if context.invoked_subcommand is not None:
        return
    found = Ledger(load().ledger_url).jobs(state)
    if as_json:
        print_json([_facts(job) for job in found])
        return
    rows = ((job.id, job.state, job.protocol, job.series_uid, when(job.updated_at), job.reason) for job in found)
    print_table(("job", "state", "protocol", "series", "changed", "reason"), rows)


@app.command()
def show(job_id: JobId, as_json: Json = False) -> None:
    """Everything about one job: prompts, what was found, where it went, and why it stands where it does."""
    ledger = Ledger(load().ledger_url)
    job = ledger.job(job_id)
    deliveries = [asdict(delivery) for delivery in ledger.deliveries(job.id)]
    before = ledger.predecessor(job)
    if as_json:
        print_json(_facts(job) | {"deliveries": deliveries, "supersedes": before.id if before else None})
        return
    lines = {
        "job": job.id,
        "state": job.state,
        "reason": job.reason,
        "protocol": f"{job.protocol} ({job.work.protocol_digest})",
        "study": job.study_uid,
        "series": f"{job.series_uid}, {len(job.work.instances)} images",
        "prompts": ", ".join(prompt.text for prompt in job.work.prompts),
        "attempts": job.attempts,
        "changed": when(job.updated_at),
        "supersedes": before.id if before else "",
        "superseded by": job.superseded_by or "",
    }
    print_table(("", ""), ((name, value) for name, value in lines.items() if value != ""))
    for row in job.result.get("found", []):
        typer.echo(f"found      {row['label']}: {row['volume_ml']:.1f} ml")
        if row["sentence"]:
            typer.echo(f"           {row['sentence']}")
    for label in job.result.get("not_found", []):
        typer.echo(f"not found  {label}")
    for row in deliveries:
        typer.echo(f"to {row['destination']}: {row['state']}, attempt {row['attempts']} {row['reason']}".rstrip())


@app.command()
def retry(job_id: JobId) -> None:
    """Starts a failed or cancelled job again; the listener enqueues it within a minute."""
    job = Ledger(load().ledger_url).retry(job_id)
    typer.echo(f"job {job.id} is {job.state} again")


@app.command()
def cancel(job_id: JobId) -> None:
    """Ends an unfinished job."""
    job = Ledger(load().ledger_url).cancel(job_id)
    typer.echo(f"job {job.id} is {job.state}")


def _facts(job: Job) -> dict[str, Any]:
    return asdict(job) | {"work": job.work.model_dump(mode="json")}

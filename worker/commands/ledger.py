"""`ledger`: what to do when its database is lost."""

import typer

from dicom_node.store import Store
from worker.doors.report_inbox import ReportInbox
from worker.ledger import Ledger
from worker.settings import load

app = typer.Typer(help="The database of facts.", no_args_is_help=True)


@app.command()
def rebuild() -> None:
    """Walks the store and opens every series again that the ledger does not know; the listener settles them.

    Jobs get the same ids as before, and their results the same UIDs: a PACS sees no new object.
    """
    settings = load()
    ledger = Ledger(settings.ledger_url)
    found = {(stored.study_uid, stored.series_uid) for stored in Store(settings.home).walk()}
    lost = sorted(found - ledger.known_series())
    for study_uid, series_uid in lost:
        ledger.image_arrived(study_uid, series_uid, calling_ae="", called_ae=settings.ae_title, address="")
    reports = ReportInbox(settings.home, ledger, settings.hl7_accession_fields).recover()
    typer.echo(f"{len(found)} series in the store, {len(lost)} of them were not in the ledger and are open again")
    typer.echo(f"{reports} reports were not in the ledger")

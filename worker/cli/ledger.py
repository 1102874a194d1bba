"""`ledger`: rebuilds the database when it was lost, and has series that could not be read looked at again.

The images and reports on the disk say what was in a lost ledger.
"""

from typing import Annotated

import typer

from dicom_node.origin import Origin
from dicom_node.store import Store
from worker.errors import WorkerError
from worker.ledger import Ledger
from worker.maintenance.leader_lock import Leadership
from worker.private_home import load_privately
from worker.reports.inbox import ReportInbox
from worker.settings import Settings

app = typer.Typer(
    help="Rebuilds the database of series and jobs, or has unreadable series looked at again.", no_args_is_help=True
)


class NothingUnreadableError(WorkerError):
    """The study has no series that cannot be read."""

    retry = "usage"


class ListenerRunsError(WorkerError):
    """A listener is at work here."""

    retry = "usage"


@app.command()
def rebuild() -> None:
    """Rebuilds a lost ledger from the images and reports in the home.

    Every series that the ledger does not know is opened again; the protocols are asked about it when the listener runs.
    The listener must be stopped. Jobs get the same ids as before, and their results the same UIDs: a PACS sees no new
    object.
    """
    settings = load_privately()
    store = Store(settings.home)
    with Leadership(settings.home) as leadership:
        # A series that arrives meanwhile would lose the name of its sender, which protocols ask for; and a listener
        # whose SQLite file is gone goes on writing into the file that nobody can open any more.
        if not leadership.held():
            raise ListenerRunsError(f"a listener is at work on {settings.home}; stop it, then rebuild the ledger")
        _rebuild(settings, store)


@app.command("look-again")
def look_again(study: Annotated[str, typer.Argument(help="Study Instance UID.")]) -> None:
    """Opens the series of a study that could not be read: the listener looks at their headers again."""
    settings = load_privately()
    opened = Ledger(settings.ledger_url).series.look_again(study)
    if not opened:
        raise NothingUnreadableError(
            f"no series of study {study} counts as unreadable; "
            "`voxtell-dicom protocols explain --study` says how it stands"
        )
    typer.echo(f"{len(opened)} series of study {study} will be looked at again")


def _rebuild(settings: Settings, store: Store) -> None:
    """Enters the series and reports that are missing, and prints how many; who sent a series is lost."""
    ledger = Ledger(settings.ledger_url, store_id=store.id)
    found = {stored.series_key for stored in store.walk()}
    lost = sorted(found - ledger.series.known())
    for key in lost:
        ledger.series.image_arrived(key, Origin(called_ae=settings.ae_title))
    reports = ReportInbox.of(settings, ledger).recover()
    typer.echo(f"{len(found)} series in the store, {len(lost)} of them were not in the ledger and are open again")
    typer.echo(f"{reports} reports were not in the ledger")

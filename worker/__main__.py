"""The command line `voxtell-dicom`. Exit codes: 0 done, 1 something failed and said why on stderr, 2 wrong usage.

The only place where errors become messages for people; `--debug` before the command shows the traceback instead.
"""

import sys
from typing import Annotated

import structlog
import typer
from typer.exceptions import TyperException

from worker.cli import demo, doctor, jobs, ledger, model, offline, peers, predict, protocols, report
from worker.settings import load

app = typer.Typer(
    name="voxtell-dicom",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="A DICOM node that contours by itself: C-STORE in, free-text-prompted segmentation, DICOM-SEG out.",
)
app.add_typer(jobs.app, name="jobs")
app.add_typer(protocols.app, name="protocols")
app.command()(offline.run)
app.command(cls=predict.ListsOfValues)(predict.predict)
app.command()(offline.volume)
app.command()(offline.nifti_to_dicom)
app.add_typer(report.app, name="report")
app.add_typer(model.app, name="model")
app.add_typer(ledger.app, name="ledger")
app.command()(peers.echo)
app.command()(doctor.doctor)
app.command()(demo.demo)


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks instead of one sentence.")] = False,
) -> None:
    """Options before the command; `--debug` is read by `main`, which must know it also when parsing fails."""


@app.command()
def up() -> None:
    """All in one: embedded queue, listener, segmentation worker, delivery worker."""
    from worker import roles

    roles.up(load())


@app.command()
def listen() -> None:
    """The listener: receives, stores, decides, enqueues."""
    from worker import roles

    roles.listen(load())


@app.command("segment-worker")
def segment_worker() -> None:
    """The segmentation worker; needs the engine."""
    from worker import roles

    roles.segment_worker(load())


@app.command("deliver-worker")
def deliver_worker() -> None:
    """The delivery worker: sends results to the PACS."""
    from worker import roles

    roles.deliver_worker(load())


def main() -> None:
    """The door of every command."""
    debug = "--debug" in sys.argv
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))  # standard output is for facts
    try:
        code = app(standalone_mode=False)
    except typer.Exit as end:
        code = end.exit_code
    except TyperException as error:  # wrong words: exit code 2
        print(f"voxtell-dicom: {error.format_message()} See voxtell-dicom --help.", file=sys.stderr)  # noqa: T201
        code = error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        code = 130
    except Exception as error:
        if debug:
            raise
        print(f"voxtell-dicom: {_sentence(error)}", file=sys.stderr)  # noqa: T201
        code = 1
    sys.exit(code if isinstance(code, int) else 0)


def _sentence(error: Exception) -> str:
    """Errors of the rooms are sentences, and so are those of files; others are named, with the way to more."""
    if hasattr(error, "retry"):
        return str(error)
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}; check that it exists and may be written"
    return f"unexpected {type(error).__name__}: {error}; run it again with --debug for the traceback"


if __name__ == "__main__":
    main()

"""The command line `voxtell-dicom`. Exit codes: 0 done, 1 something failed and said why on stderr, 2 wrong usage.

The only place where errors become messages for people; `--debug` before the command shows the traceback instead.
"""

import sys
from typing import Annotated

import structlog
import typer
from typer.exceptions import TyperException

from worker.cli.lazy import Declared, lazy_group

COMMANDS = (
    Declared("jobs", "The jobs in the ledger.", "worker.cli.jobs", "app"),
    Declared("protocols", "What is segmented in which series.", "worker.cli.protocols", "app"),
    Declared(
        "run", "Segments one study: every volume that a protocol takes, or every volume.", "worker.cli.offline", "run"
    ),
    Declared(
        "predict",
        "Segments NIfTI files with upstream's options and file names: IMAGE_PROMPT.nii.gz.",
        "worker.cli.predict",
        "predict",
        "ListsOfValues",
    ),
    Declared(
        "volume", "Writes exactly the volume that the network would see, as NIfTI.", "worker.cli.offline", "volume"
    ),
    Declared(
        "nifti-to-dicom",
        "Writes a NIfTI image as a DICOM series with proper headers, on the same grid in the same place.",
        "worker.cli.offline",
        "nifti_to_dicom",
    ),
    Declared("report", "Prompts out of radiology reports.", "worker.cli.report", "app"),
    Declared("model", "The network's weights.", "worker.cli.model", "app"),
    Declared(
        "ledger",
        "The database of facts.",
        "worker.cli.ledger",
        "app",
    ),
    Declared(
        "echo",
        "Asks a peer by C-ECHO; says why an association is refused and what to check.",
        "worker.cli.peers",
        "echo",
    ),
    Declared(
        "doctor",
        "Checks disk, ledger, queue, protocols, reports, engine, listener and destinations; exit code 1 if one fails.",
        "worker.cli.doctor",
        "doctor",
    ),
    Declared(
        "demo",
        "Sends a CT to a node by C-STORE and shows what comes back to a PACS: segments, volumes, Dice, a picture.",
        "worker.cli.demo",
        "demo",
    ),
    Declared(
        "up", "All in one: embedded queue, listener, segmentation worker, delivery worker.", "worker.cli.node", "up"
    ),
    Declared("listen", "The listener: receives, stores, decides, enqueues.", "worker.cli.node", "listen"),
    Declared("segment-worker", "The segmentation worker; needs the engine.", "worker.cli.node", "segment_worker"),
    Declared("deliver-worker", "The delivery worker: sends results to the PACS.", "worker.cli.node", "deliver_worker"),
)
"""Every command, with the first line of its help: the list of commands imports none of their modules."""

app = typer.Typer(
    name="voxtell-dicom",
    cls=lazy_group(COMMANDS),
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="A DICOM node that contours by itself: C-STORE in, free-text-prompted segmentation, DICOM-SEG out.",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"voxtell-dicom {version('voxtell-dicom')}")
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks instead of one sentence.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """Options before the command; `--debug` is read by `main`, which must know it also when parsing fails."""


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

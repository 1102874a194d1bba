"""The command line `voxtell-dicom`: the list of its commands, and the one place where errors become messages.

Exit codes: 0 done; 1 something failed, and standard error says what in one sentence; 2 wrong usage; 130 interrupted.
`--debug` before the command shows the traceback instead of the sentence. Facts go to standard output, everything else
to standard error.

A command's module is imported only when the command is called (`worker.cli.lazy`), so that `--help` and `jobs` do not
load what only segmentation needs.
"""

import os
import sys
import traceback
import warnings
from typing import Annotated

import typer
from typer.exceptions import TyperException

from worker.cli.lazy import Declared, lazy_group

COMMANDS = (
    Declared("jobs", "Lists jobs; shows, retries, releases and cancels one.", "worker.cli.jobs", "app"),
    Declared("protocols", "Checks protocols, and says why a study is segmented or not.", "worker.cli.protocols", "app"),
    Declared(
        "run",
        "Segments a study, or many: every volume that a protocol takes, or every volume.",
        "worker.cli.offline",
        "run",
    ),
    Declared(
        "predict",
        "Segments NIfTI files with VoxTell's own options and file names: IMAGE_PROMPT.nii.gz.",
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
    Declared("report", "Reads prompts from radiology reports.", "worker.cli.report", "app"),
    Declared("model", "Downloads, verifies and describes models.", "worker.cli.model", "app"),
    Declared(
        "ledger",
        "Rebuilds the database of series and jobs, or has unreadable series looked at again.",
        "worker.cli.ledger",
        "app",
    ),
    Declared(
        "echo",
        "Sends a C-ECHO to a peer; without an answer, says why and what to check.",
        "worker.cli.peers",
        "echo",
    ),
    Declared(
        "doctor",
        "Checks disk, ledger, queue, protocols, reports, models, listener, workers, quarantine and destinations.",
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
        "up",
        "Starts the whole node: queue, listeners, segmentation worker and delivery worker.",
        "worker.cli.node",
        "up",
    ),
    Declared(
        "listen", "Starts the listener: receives images, chooses series, queues jobs.", "worker.cli.node", "listen"
    ),
    Declared(
        "receive-reports",
        "Receives reports over HL7 and HTTP; `listen` starts it where the settings name a port.",
        "worker.cli.node",
        "receive_reports",
    ),
    Declared("segment-worker", "Starts a segmentation worker; needs the engine.", "worker.cli.node", "segment_worker"),
    Declared(
        "deliver-worker", "Starts a delivery worker: sends results to the PACS.", "worker.cli.node", "deliver_worker"
    ),
)
"""Every command with the first line of its help, which is written here so that listing them imports no module."""

app = typer.Typer(
    name="voxtell-dicom",
    cls=lazy_group(COMMANDS),
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="A DICOM node that contours by itself: C-STORE in, free-text-prompted segmentation, DICOM-SEG out.",
)


def _print_version(wanted: bool) -> None:
    """Prints the version and ends, before any command is looked at."""
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
    """Runs the command line and exits with its code; turns every error into one sentence on standard error."""
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")  # else each command looks through all distributions
    debug = "--debug" in sys.argv
    warnings.filterwarnings("ignore", module=r"pydicom\.")  # as in the processes: it may quote a patient's name
    try:
        code = app(standalone_mode=False)
    except typer.Exit as end:
        code = end.exit_code
    except TyperException as error:  # wrong words: exit code 2
        print(f"voxtell-dicom: {_usage_sentence(error)} See voxtell-dicom --help.", file=sys.stderr)  # noqa: T201
        code = error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        code = 130
    except Exception as error:  # noqa: BLE001 (the door: printed, masked)
        said = traceback.format_exc() if debug else f"voxtell-dicom: {_sentence(error)}"
        from worker.masking import masked  # brings pydantic, which `--help` does without

        print(masked(said), file=sys.stderr)  # noqa: T201
        code = 1
    sys.exit(code if isinstance(code, int) else 0)


def _usage_sentence(error: TyperException) -> str:
    """Makes the sentence for wrong words; where a value is not what its option takes, in ours instead of pydantic's."""
    if found := getattr(error.__cause__, "errors", None):
        from worker.value_faults import fault_of

        fault = fault_of(found()[0])
        error.message = f"{fault[2:].rstrip('.')}." if fault.startswith(": ") else f"it{fault}."
    return error.format_message()


def _sentence(error: Exception) -> str:
    """Makes the sentence for an error: its own where the node defines it, else file name and cause.

    Any other error is unexpected; the sentence names it and says how to see the traceback.
    """
    if hasattr(error, "retry"):
        return str(error)
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}; check that it exists and may be written"
    if isinstance(error, MemoryError):
        return "this takes more memory than is free now; try again when other programs have ended"
    return f"unexpected {type(error).__name__}: {error}; run it again with --debug for the traceback"


if __name__ == "__main__":
    main()

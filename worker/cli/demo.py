"""`demo`: sends a CT through a whole node on this machine and shows what comes back; see `worker.demo.run`."""

from pathlib import Path
from typing import Annotated

import typer


def demo(
    study: Annotated[
        Path | None, typer.Argument(help="A folder of DICOM files, or a NIfTI CT; default the built-in phantom.")
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for the study, the node and its results.")
    ] = Path("demo-out"),
    prompts: Annotated[
        list[str] | None, typer.Option("--prompt", "-p", help="What to segment; default head and neck organs.")
    ] = None,
    to: Annotated[
        str | None, typer.Option("--send-to", help="AE@HOST:PORT of a node that runs: only send the CT there.")
    ] = None,
) -> None:
    """Sends a CT to a node by C-STORE and shows what comes back to a PACS: segments, volumes, Dice, a picture."""
    from worker.cli.peers import peer_named
    from worker.demo.run import Demo
    from worker.settings import load

    made = Demo(output, study, tuple(prompts or ()))
    if to is None:
        made.run()
    else:
        made.send_to(peer_named(to, load()))

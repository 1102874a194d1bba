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
) -> None:
    """Sends a CT to a node by C-STORE and shows what comes back to a PACS: segments, volumes, Dice, a picture."""
    from worker.demo.run import Demo

    Demo(output, study, tuple(prompts or ())).run()

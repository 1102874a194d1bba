"""`model`: downloads, verifies and describes the weights of the network."""

from pathlib import Path
from typing import Annotated

import typer

from worker.cli.printing import Json, print_json, print_table
from worker.private_home import load_privately
from worker.settings import load

app = typer.Typer(help="Downloads, verifies and describes models.", no_args_is_help=True)

Folder = Annotated[Path | None, typer.Argument(help="A model's folder; default the node's model.")]


@app.command()
def fetch(
    version: Annotated[str, typer.Option(help="Version of the weights: v1.1 or v1.0.")] = "v1.1",
    revision: Annotated[str | None, typer.Option(help="Commit of the published repository to pin.")] = None,
    text_model: Annotated[
        bool, typer.Option("--text-model", help="Download the text model (4 billion parameters), too.")
    ] = False,
) -> None:
    """Downloads the published weights (1.8 GB), shows their licence, checks every digest; resumes where it stopped."""
    from worker.engines import models

    folder = models.fetch(load_privately(), version, revision, text_model=text_model, announce=typer.echo)
    typer.echo(f"wrote {folder}; use it with VOXTELL_MODEL={folder}")


@app.command()
def verify(folder: Folder = None) -> None:
    """Recomputes the digests and runs a self-test of the network."""
    from worker.engines import models

    for file, digest in models.verify(folder or models.node_model(load())).items():
        typer.echo(f"ok  {file} {digest}")
    typer.echo("ok  self-test")  # `verify` has run it, and raises where the network fails


@app.command()
def info(folder: Folder = None, as_json: Json = False) -> None:
    """Describes the model: name, version, licence, digest, and what it is not for."""
    from worker.engines import models

    facts = models.describe(folder or models.node_model(load()))
    if as_json:
        print_json(facts)
    else:
        print_table(("", ""), facts.items())

"""`model`: the weights: get them, check them, describe them."""

from pathlib import Path
from typing import Annotated

import typer

from worker.cli.printing import print_json, print_table
from worker.settings import load

app = typer.Typer(help="The network's weights.", no_args_is_help=True)

Folder = Annotated[Path | None, typer.Argument(help="A model's folder; default the node's model.")]


@app.command()
def fetch(
    version: Annotated[str, typer.Option(help="v1.1 or v1.0.")] = "v1.1",
    revision: Annotated[str | None, typer.Option(help="Commit of the published repository to pin.")] = None,
    text_model: Annotated[bool, typer.Option("--text-model", help="Also the 4-billion-parameter text model.")] = False,
) -> None:
    """Gets the published weights (1.8 GB), shows their licence, checks every digest; goes on where it stopped."""
    from worker.engines import models

    folder = models.fetch(load(), version, revision, text_model=text_model, announce=typer.echo)
    typer.echo(f"wrote {folder}; use it with VOXTELL_MODEL={folder}")


@app.command()
def verify(folder: Folder = None) -> None:
    """Recomputes the digests and runs a self-test of the network."""
    from worker.engines import models

    for file, digest in models.verify(folder or models.node_model(load())).items():
        typer.echo(f"ok  {file} {digest}")
    typer.echo("ok  self-test")  # which verify has run: it raises where the network fails it


@app.command()
def info(folder: Folder = None, as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Describes the model: name, version, licence, digest, and what it is not for."""
    from worker.engines import models

    facts = models.describe(folder or models.node_model(load()))
    if as_json:
        print_json(facts)
    else:
        print_table(("", ""), facts.items())

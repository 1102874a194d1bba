"""`model`: downloads, verifies and describes the weights of the network."""

from pathlib import Path
from typing import Annotated

import typer

from worker.cli.printing import Json, plain, print_json, print_table
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
def verify(
    folder: Folder = None,
    text_model: Annotated[bool, typer.Option("--text-model", help="Verify the text model instead.")] = False,
    record: Annotated[
        bool, typer.Option("--record", help="Then write sizes and digests beside the model, to travel with a copy.")
    ] = False,
) -> None:
    """Compares the digests that travel with a model (fetched.json), and runs a self-test of the network."""
    from voxtell import integrity
    from worker.engines import models

    if text_model:
        for file, digest in models.verify_text_model().items():
            typer.echo(f"ok  {file} {digest}")
        return
    settings = load()
    folder = folder or models.node_model(settings)
    for file, digest in models.verify(folder, settings).items():
        typer.echo(f"ok  {file} {digest}")
    typer.echo("ok  self-test")  # `verify` has run it, and raises where the network fails
    travelling = integrity.record_of(folder)
    if record:
        integrity.write_record(
            folder, **{name: travelling[name] for name in travelling if name not in ("files", "bytes")}
        )
        typer.echo(f"wrote {folder / integrity.RECORD}; copy it with the model")
    elif not travelling.get("files"):
        typer.echo(
            "note: no digests travel with this model, so the ones above were compared with nothing; compare them with "
            "those of its source, or write them with --record",
            err=True,
        )


@app.command()
def info(folder: Folder = None, as_json: Json = False) -> None:
    """Describes the model: name, version, licence, digest, and what it is not for."""
    from worker.engines import models

    facts = models.describe(folder or models.node_model(load()))
    if as_json:
        print_json(facts)
    else:
        print_table(("", ""), ((name, plain(value)) for name, value in facts.items()))

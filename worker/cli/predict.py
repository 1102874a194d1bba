"""`predict`: VoxTell's own command for NIfTI files, with the same options and file names, without a node."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress
from typer.core import TyperCommand

from worker.cli.offline import Nan, Orientation
from worker.engines.loading import load_engine, require_engine
from worker.engines.models import bank_labels
from worker.results.writable import require_writable
from worker.settings import Settings, load

if TYPE_CHECKING:
    from voxtell.nifti import ReadAs
    from voxtell.predict import FileJob, FileOutcome


def predict(
    images: Annotated[list[Path] | None, typer.Argument(help="NIfTI files, or a folder of them.")] = None,
    inputs: Annotated[
        list[Path] | None, typer.Option("--input", "-i", help="The same as IMAGES, under VoxTell's own name.")
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Folder for the results.")] = None,
    prompts: Annotated[
        list[str] | None, typer.Option("--prompt", "--prompts", "-p", help="What to segment; may be given many times.")
    ] = None,
    jobs: Annotated[str | None, typer.Option(help='JSON or file: [{"image": ..., "prompts": [...]}, ...].')] = None,
    save_combined: Annotated[
        bool, typer.Option("--save-combined", help="One file per image, with labels 1, 2, ...")
    ] = False,
    no_overwrite: Annotated[bool, typer.Option("--no-overwrite", help="Keep results that exist already.")] = False,
    model: Annotated[str | None, typer.Option("--model", "-m", help="Folder of a model; default the node's.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:N or auto.")] = None,
    gpu: Annotated[int | None, typer.Option(min=0, help="Number of the GPU, with --device cuda.")] = None,
    bank: Annotated[Path | None, typer.Option("--embeddings", "--bank", help="File of text embeddings (.npz).")] = None,
    no_precomputed: Annotated[
        bool, typer.Option("--no-precomputed", help="Use no bank: the text model embeds every prompt.")
    ] = False,
    list_embeddings: Annotated[
        bool, typer.Option("--list-embeddings", help="Print the bank's prompts and do nothing else.")
    ] = False,
    orientation: Orientation = None,
    nan: Nan = None,
    verbose: Annotated[bool, typer.Option("--verbose", help="Print what is segmented in each image.")] = False,
) -> None:
    """Segments NIfTI files with VoxTell's own options and file names: IMAGE_PROMPT.nii.gz.

    With -i, several values may follow -i and -p, as VoxTell's own command takes them.
    """
    on = f"{device or 'cuda'}:{gpu}" if gpu is not None and device in (None, "cuda") else device
    given = {"model": model, "device": on, "bank": bank}
    settings = load(**{name: value for name, value in given.items() if value is not None})
    if list_embeddings:
        _print_bank(settings)
        return
    files = [*(images or []), *(inputs or [])]
    if output is None:
        raise typer.BadParameter("name the folder that results go to (-o FOLDER).")
    if (jobs is None) == (not files or not prompts) or (jobs is not None and (files or prompts)):
        raise typer.BadParameter("give images and prompts (-p TEXT, may be repeated), or --jobs FILE alone.")
    require_engine()
    from voxtell.nifti import ReadAs
    from voxtell.predict import jobs_for, predict_files, read_jobs, unfinished

    work = read_jobs(jobs) if jobs is not None else jobs_for(files, prompts or [])
    if not no_overwrite or unfinished(work, output, save_combined):
        require_writable(output)
    engine = load_engine(settings, use_bank=not no_precomputed)
    if verbose:
        for job in work:
            typer.echo(f"{job.image}: {', '.join(job.prompts)}", err=True)
    for prompt in engine.unlearnt(list(dict.fromkeys(prompt for job in work for prompt in job.prompts))):
        typer.echo(f"{prompt}: not known to this model, its mask says nothing", err=True)
    segment = partial(predict_files, engine, work, output, save_combined=save_combined, overwrite=not no_overwrite)
    if not _all_done(segment, [job.image for job in work], ReadAs(orientation, nan)):
        raise typer.Exit(1)


def _all_done(segment: "Callable[..., Iterator[FileOutcome]]", images: Sequence[Path], read_as: "ReadAs") -> bool:
    """Segments under a progress bar and prints what became of each image; returns whether none had a problem."""
    with Progress(console=Console(stderr=True), transient=True) as bar:
        tasks = {image: bar.add_task(image.name, total=1.0) for image in images}

        def report(job: "FileJob", part: float) -> None:
            bar.update(tasks[job.image], completed=part)

        good = []
        for outcome in segment(read_as=read_as, progress=report):
            _say_outcome(outcome, bar.console)
            good.append(outcome.problem is None)
    return all(good)


def _say_outcome(done: "FileOutcome", console: Console) -> None:
    """Prints what became of one image: problems on standard error, files on standard output.

    It is printed as soon as the image is done, while others are still worked on.
    """
    if done.problem is not None:
        console.print(f"{done.job.image}: not segmented: {done.problem}", markup=False, highlight=False, soft_wrap=True)
    for doubt in done.doubts:
        console.print(f"{done.job.image}: to be reviewed: {doubt}", markup=False, highlight=False, soft_wrap=True)
    for path in done.files:
        typer.echo(f"{'kept' if done.kept else 'wrote'} {path}")


def _print_bank(settings: Settings) -> None:
    """Prints the prompts of the bank that `predict` would use, one per line; loads no model."""
    labels = bank_labels(settings)
    if labels is None:
        raise typer.BadParameter(
            "there is no embedding bank: name one (--embeddings FILE), or use a model that `model fetch` got."
        )
    for label in labels:
        typer.echo(label)


class ListsOfValues(TyperCommand):
    """A command whose -i and -p may each be followed by several values when -i is used, as in VoxTell's own command.

    click gives an option one value each time, so the flag is repeated: `-i a b -p liver` becomes `-i a -i b -p liver`.
    """

    FLAGS = ("-i", "--input", "-p", "--prompt", "--prompts")

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Repeats the flag before each of its values, then parses."""
        if "-i" in args or "--input" in args:
            args = list(self._repeated(args))
        return super().parse_args(ctx, args)

    def _repeated(self, args: list[str]) -> Iterator[str]:
        """Yields the arguments with -i and -p before each of their values."""
        flag, values = "", 0
        for word in args:
            if word.startswith("-"):
                flag, values = (word if word in self.FLAGS else ""), 0
            elif flag:
                if values:
                    yield flag
                values += 1
            yield word

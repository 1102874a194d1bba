"""Offers `python -m voxtell.training`: prepare, complete, train, export, average, widen, report, ablate.

The docstring of a command is its help text. The format of data sets is described in `voxtell.training.dataset`.
"""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from voxtell.engine import Precision
from voxtell.errors import VoxTellError
from voxtell.segmenter import load
from voxtell.training import ablation, cache, dataset, export, plot, setup
from voxtell.training import complete as completing
from voxtell.training.architecture import BUNDLED, bundled_plans
from voxtell.training.checks import fixed_patches, patch_dice
from voxtell.training.loop import Schedule, Trainer
from voxtell.training.report import write_report
from voxtell.training.sampling import SamplingPlan

app = typer.Typer(
    add_completion=False, no_args_is_help=True, help="Train or fine-tune the network on contoured volumes."
)


@app.command()
def openkbp(
    folder: Annotated[Path, typer.Argument(help="folder with index.json, <case>_ct.nii.gz and <case>_oar.nii.gz")],
    out: Annotated[Path, typer.Argument(help="the data set file to write (JSON)")],
) -> None:
    """Describes the OpenKBP patients as a data set file."""
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(dataset.openkbp(folder), indent=1))


@app.command()
def prepare(
    data: Annotated[Path, typer.Argument(help="data set file; its format is described in docs/how-to/training.md")],
    folder: Annotated[Path, typer.Argument(help="the cache to write")],
    phantoms: Annotated[int, typer.Option(help="phantoms to add under <cache>/phantoms")] = 0,
) -> None:
    """Cuts every volume to the body and lays it out for fast reading."""
    cases = dataset.read_dataset(data).cases
    with _bar() as bar:
        task = bar.add_task("volumes", total=len(cases) + phantoms)
        advance = lambda _: bar.advance(task)  # noqa: E731
        cache.write_index(folder, cache.fill_cache(cases, folder, advance))
        if phantoms:
            setup.add_phantoms(folder / "phantoms", phantoms, advance)


@app.command()
def complete(
    data: Annotated[Path, typer.Argument(help="data set file")],
    out: Annotated[Path, typer.Argument(help="folder for the masks and the completed dataset.json")],
    model: Annotated[list[Path], typer.Option(help="model directory; of several, what most of them say")],
    precision: Annotated[Precision, typer.Option(help="bfloat16 is faster where the processor has it")] = "auto",
    doubt: Annotated[
        float, typer.Option(min=0, max=1, help="leave out contours whose Dice with the models' mask is smaller")
    ] = 0.0,
    threads: Annotated[int, typer.Option(help="CPU threads")] = 2,
    device: Annotated[str, typer.Option(help="cpu or cuda")] = "cpu",
) -> None:
    """Lets models contour what training cases lack, and leaves out contours that they doubt.

    The data set file that it writes is for `prepare` and `train`.
    """
    with _threads(threads):
        models = [load(directory, device, precision=precision) for directory in model]
        typer.echo(f"{completing.complete(data, models, out, typer.echo, doubt)}")


@app.command()
def train(
    data: Annotated[Path, typer.Argument(help="data set file")],
    folder: Annotated[Path, typer.Argument(help="cache made by `prepare`")],
    run: Annotated[Path, typer.Argument(help="folder of the run; a state in it is continued")],
    minutes: Annotated[float | None, typer.Option(help="length of the training in minutes of work")] = None,
    steps: Annotated[int | None, typer.Option(help="length of the training in steps")] = None,
    model: Annotated[
        Path | None, typer.Option(help="model directory to fine-tune; the bundled architecture without")
    ] = None,
    bank: Annotated[Path | None, typer.Option(help="embedding bank (.npz) to ask before the text model")] = None,
    prompts: Annotated[int, typer.Option(help="prompts per step")] = 5,
    rate: Annotated[float, typer.Option(help="highest learning rate")] = 1e-3,
    phantom_share: Annotated[
        float, typer.Option(min=0, max=1, help="share of the patches taken from phantoms, where the cache has any")
    ] = SamplingPlan.phantom_share,
    fusion_stages: Annotated[int | None, typer.Option(help="decoder stages that see the prompt (ablation)")] = None,
    deep_supervision: Annotated[bool, typer.Option(help="a loss at every decoder scale")] = True,
    threads: Annotated[int, typer.Option(help="CPU threads; more than free cores makes every step wait")] = 2,
    device: Annotated[str, typer.Option(help="cpu or cuda")] = "cpu",
    seed: Annotated[int, typer.Option(help="of patches and words; runs of several seeds are there to `average`")] = 1,
) -> None:
    """Trains until the time or the steps are used up; a killed run continues where it was saved last.

    The validation cases of the data set are only looked at: the log has their Dice on the same few patches.
    """
    described = dataset.read_dataset(data)
    with _threads(threads), _without_denormals():
        start = setup.starting_point(model, described, fusion_stages)
        encoder = setup.text_encoder(start.plans, bank, device)
        samplers = setup.samplers(described, folder, start.plans, encoder, prompts, seed, phantom_share)
        schedule = Schedule(steps=steps, minutes=minutes, learning_rate=rate, deep_supervision=deep_supervision)
        trainer = Trainer(
            run, start.plans, samplers.train, schedule, device=device, seed=seed, start_from=start.weights
        )
        patches = fixed_patches(samplers.check) if samplers.check else []
        with _bar() as bar:
            task = bar.add_task("training", total=1.0)

            def show(entry: dict[str, Any]) -> None:
                done = schedule.progress(entry["step"], entry["seconds"])
                bar.update(task, completed=done, description=f"step {entry['step']}, loss {entry['loss']:.3f}")
                plot.losses(run / "log.jsonl", run / "losses.png")

            trainer.run(check=(lambda t: patch_dice(t, patches)) if patches else None, report=show)


@app.command(name="export")
def export_weights(run: Path, out: Path) -> None:
    """Writes the averaged weights of a run, finished or not, as a model directory."""
    path = export.export(run, out)
    typer.echo(f"{path} {path.stat().st_size / 1e6:.2f} MB")


@app.command()
def average(
    out: Path,
    models: Annotated[list[Path], typer.Argument(help="fine-tuned from the same weights")],
    bundled: Annotated[bool, typer.Option(help="with the name and the words of the bundled model")] = False,
) -> None:
    """Writes the mean of several models' weights as a model directory.

    Of models that were fine-tuned from the same weights, the mean is often better than each.
    """
    typer.echo(f"{export.average(models, out, BUNDLED if bundled else None)}")


@app.command()
def widen(
    model: Annotated[Path, typer.Argument(help="model directory with fewer encoder features")],
    out: Annotated[Path, typer.Argument(help="the model directory to write: `train --model` goes on from it")],
) -> None:
    """Carries a narrower model's weights over to the bundled architecture as it is now, with the same masks."""
    typer.echo(f"{export.widened(model, bundled_plans(), out)}")


@app.command()
def report(
    data: Annotated[Path, typer.Argument(help="data set file; its validation cases are measured")],
    out: Annotated[Path, typer.Argument(help="the Markdown file to write; figures go beside it")],
    model: Annotated[Path | None, typer.Option(help="model directory; the bundled one without")] = None,
    log: Annotated[Path | None, typer.Option(help="log.jsonl of the run, for the plot of its losses")] = None,
    ablations: Annotated[Path | None, typer.Option("--ablation", help="ablation.json that `ablate` wrote")] = None,
    robust: Annotated[int, typer.Option(help="patients for unseen phrasings and negative prompts")] = 8,
    phantoms: Annotated[int, typer.Option(help="phantoms to measure, from seed 0")] = 10,
    threads: Annotated[int, typer.Option(help="CPU threads")] = 2,
) -> None:
    """Measures a model and writes its card."""
    with _threads(threads):
        write_report(
            dataset.read_dataset(data),
            out,
            model=model,
            log=log,
            ablation=ablations,
            robust=robust,
            phantoms=phantoms,
            say=typer.echo,
        )


@app.command()
def ablate(
    data: Annotated[Path, typer.Argument(help="data set file")],
    folder: Annotated[Path, typer.Argument(help="cache made by `prepare`")],
    out: Annotated[Path, typer.Argument(help="folder for the variants and ablation.json; what is there is continued")],
    steps: Annotated[int, typer.Option(help="steps per variant")] = 700,
    prompts: Annotated[int, typer.Option(help="prompts per step")] = 5,
    patients: Annotated[int, typer.Option(help="validation patients to measure, from the first")] = 33,
    threads: Annotated[int, typer.Option(help="CPU threads")] = 2,
) -> None:
    """Trains the network as published, with one fusion stage, and without deep supervision; compares them."""
    with _threads(threads), _without_denormals():
        ablation.ablate(
            dataset.read_dataset(data), folder, out, steps=steps, prompts=prompts, patients=patients, say=typer.echo
        )


@contextmanager
def _threads(number: int) -> Iterator[None]:
    """Lets torch work with this many CPU threads inside the block.

    The number is a state of the process, and sums that are shared out otherwise round otherwise: what runs later in
    the same process would find a voxel on a mask's edge on the other side.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _without_denormals() -> Iterator[None]:
    """Lets numbers too small for full precision count as zero inside the block, which is faster.

    It is a state of the processor's thread, so it is put back on leaving.
    """
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


def _bar() -> Progress:
    """Returns a progress bar for the terminal."""
    return Progress(
        TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:.0f} %"), TimeElapsedColumn()
    )


def main() -> None:
    """Runs a command; an error becomes one sentence and exit code 1."""
    try:
        app()
    except VoxTellError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()

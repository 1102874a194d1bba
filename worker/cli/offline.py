"""`run`, `predict`, `volume`: one study or file, no network, no queue."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress
from typer.core import TyperCommand

from worker.cli.printing import print_json
from worker.job_spec import Output
from worker.results.writable import require_writable
from worker.settings import Settings, load
from worker.steps.segmentation import load_segmenter, require_engine

Out = Annotated[Path, typer.Option("--output", "-o", help="Where results go.")]
Prompts = Annotated[list[str] | None, typer.Option("--prompt", "-p", help="What to segment; may be given many times.")]


def run(
    study: Annotated[Path, typer.Argument(help="A folder with the DICOM files of a study or series.")],
    output: Out,
    prompts: Prompts = None,
    report: Annotated[Path | None, typer.Option(help="A radiology report that gives the prompts.")] = None,
    protocol: Annotated[Path | None, typer.Option(help="A protocol file that chooses series and prompts.")] = None,
    seg: Annotated[bool, typer.Option("--seg", help="Write DICOM-SEG (the default).")] = False,
    rtstruct: Annotated[bool, typer.Option("--rtstruct", help="Write RTSTRUCT.")] = False,
    sr: Annotated[bool, typer.Option("--sr", help="Write a TID 1500 report of measurements, and its SEG.")] = False,
    preview: Annotated[bool, typer.Option("--preview", help="Write a picture, a DICOM Secondary Capture.")] = False,
    nifti: Annotated[bool, typer.Option("--nifti", help="Write masks as NIfTI.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Segments one study: every volume that a protocol takes, or every volume.

    A protocol may be given a report too, if it takes prompts from reports.
    """
    from worker.steps.offline import UsedFolderError, run_study

    flags: dict[Output, bool] = {"seg": seg, "rtstruct": rtstruct, "sr": sr, "preview": preview, "nifti": nifti}
    outputs = tuple(name for name, wanted in flags.items() if wanted)
    chosen_by_file = report is not None or protocol is not None
    if prompts and chosen_by_file:
        raise typer.BadParameter("prompts (-p) exclude a report and a protocol: give the one or the other.")
    if not prompts and not chosen_by_file:
        raise typer.BadParameter("give prompts (-p TEXT, may be repeated), a report (--report FILE) or a protocol.")
    try:
        done = run_study(load(), study, output, list(dict.fromkeys(prompts or ())), report, protocol, outputs)
    except UsedFolderError as error:
        raise typer.BadParameter(f"{error}.") from None
    if as_json:
        print_json(done)
        return
    for series in done:
        for found in series["found"]:
            typer.echo(f"{found['label']}: {found['volume_ml']:.1f} ml")
        for label in series["not_found"]:
            typer.echo(f"{label}: looked for, not found")
        for label in series["not_known"]:
            typer.echo(f"{label}: not known to this model")
        for sentence in series["review"]:
            typer.echo(f"to be reviewed: {sentence}")
        for file in series["files"]:
            typer.echo(f"wrote {file}")


def predict(
    images: Annotated[list[Path] | None, typer.Argument(help="NIfTI files, or a folder of them.")] = None,
    inputs: Annotated[list[Path] | None, typer.Option("--input", "-i", help="The same, as upstream names it.")] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Folder that results go to.")] = None,
    prompts: Annotated[
        list[str] | None, typer.Option("--prompt", "--prompts", "-p", help="What to segment; may be given many times.")
    ] = None,
    jobs: Annotated[str | None, typer.Option(help='JSON or file: [{"image": ..., "prompts": [...]}, ...].')] = None,
    save_combined: Annotated[bool, typer.Option("--save-combined", help="One file with labels 1, 2, ...")] = False,
    no_overwrite: Annotated[bool, typer.Option("--no-overwrite", help="Leave results that exist.")] = False,
    model: Annotated[str | None, typer.Option("--model", "-m", help="Folder of a model; default the node's.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:N or auto.")] = None,
    gpu: Annotated[int | None, typer.Option(min=0, help="Number of the GPU, with --device cuda.")] = None,
    bank: Annotated[Path | None, typer.Option("--embeddings", "--bank", help="File of text embeddings (.npz).")] = None,
    no_precomputed: Annotated[
        bool, typer.Option("--no-precomputed", help="Use no bank: the text model embeds every prompt.")
    ] = False,
    list_embeddings: Annotated[bool, typer.Option("--list-embeddings", help="Print the bank's prompts.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Say what is segmented.")] = False,
) -> None:
    """Segments NIfTI files with upstream's options and file names: IMAGE_PROMPT.nii.gz.

    With -i, several values may follow -i and -p, as upstream takes them.
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
    from voxtell.nifti import jobs_for, predict_files, read_jobs, unfinished

    work = read_jobs(jobs) if jobs is not None else jobs_for(files, prompts or [])
    if not no_overwrite or unfinished(work, output, save_combined):
        require_writable(output)
    segmenter = load_segmenter(settings, use_bank=not no_precomputed)
    if verbose:
        for job in work:
            typer.echo(f"{job.image}: {', '.join(job.prompts)}", err=True)
    for prompt in segmenter.unlearnt(list(dict.fromkeys(prompt for job in work for prompt in job.prompts))):
        typer.echo(f"{prompt}: not known to this model, its mask says nothing", err=True)
    with Progress(console=Console(stderr=True), transient=True) as bar:
        tasks = {job.image: bar.add_task(job.image.name, total=1.0) for job in work}
        written = predict_files(
            segmenter,
            work,
            output,
            save_combined=save_combined,
            overwrite=not no_overwrite,
            progress=lambda job, done: bar.update(tasks[job.image], completed=done),
        )
    for path in written:
        typer.echo(f"wrote {path}")


def _print_bank(settings: Settings) -> None:
    """The prompts of the bank that `predict` would ask, one a line; no model is loaded."""
    require_engine()
    from voxtell.segmenter import bank_of
    from voxtell.text.encoders import bank_labels

    found = bank_of(settings.model, settings.bank)
    if found is None:
        raise typer.BadParameter(
            "there is no embedding bank: name one (--embeddings FILE), or use a model that `model fetch` got."
        )
    for label in bank_labels(found):
        typer.echo(label)


class ListsOfValues(TyperCommand):
    """A command whose -i and -p may each be followed by several values when -i is used, as upstream's are."""

    FLAGS = ("-i", "--input", "-p", "--prompt", "--prompts")

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Repeat the flag before each of its values."""
        if "-i" in args or "--input" in args:
            args = list(self._repeated(args))
        return super().parse_args(ctx, args)

    def _repeated(self, args: list[str]) -> Iterator[str]:
        flag, values = "", 0
        for word in args:
            if word.startswith("-"):
                flag, values = (word if word in self.FLAGS else ""), 0
            elif flag:
                if values:
                    yield flag
                values += 1
            yield word


def nifti_to_dicom(
    image: Annotated[Path, typer.Argument(help="A three-dimensional NIfTI CT in Hounsfield units.")],
    output: Out,
) -> None:
    """Writes a NIfTI CT as a CT series with proper headers, on the same grid in the same place."""
    from worker.demo.study import study_from_nifti

    typer.echo(f"wrote {len(study_from_nifti(image, output).paths)} slices to {output}")


def volume(
    series: Annotated[Path, typer.Argument(help="A folder with the DICOM files of one series.")],
    output: Out,
    name: Annotated[str | None, typer.Option("--volume", help="Which of several, such as EchoTime=90.")] = None,
) -> None:
    """Writes exactly the volume that the network would see, as NIfTI."""
    from dicom_node.series import read_series, read_volume
    from dicom_node.volume import to_network, write_nifti
    from worker.selection.study_volumes import series_in

    found = series_in(series)
    if len(found) > 1:
        raise typer.BadParameter(f"{series} holds {len(found)} series; name the folder of one.")
    read = read_series(found[0].paths) if name is None else read_volume(found[0].paths, name)
    output.parent.mkdir(parents=True, exist_ok=True)
    write_nifti(to_network(read, straighten=load().resample_tilt), output)
    for note in read.notes:
        typer.echo(f"note: {note}", err=True)
    typer.echo(f"wrote {output}")

"""`run`, `predict`, `volume`: one study or file, no network, no queue."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from worker.commands.printing import print_json
from worker.jobs import Output
from worker.segmentation import load_segmenter
from worker.settings import load

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
    nifti: Annotated[bool, typer.Option("--nifti", help="Write masks as NIfTI.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Segments one study: every volume that a protocol takes, or every volume.

    A protocol may be given a report too, if it takes prompts from reports.
    """
    from worker.offline import run_study

    flags: dict[Output, bool] = {"seg": seg, "rtstruct": rtstruct, "sr": sr, "nifti": nifti}
    outputs = tuple(name for name, wanted in flags.items() if wanted)
    if bool(prompts) + (report is not None or protocol is not None) != 1:
        raise typer.BadParameter("give prompts (-p TEXT, may be repeated), a report (--report FILE) or a protocol.")
    done = run_study(load(), study, output, list(dict.fromkeys(prompts or ())), report, protocol, outputs)
    if as_json:
        print_json(done)
        return
    for series in done:
        for found in series["found"]:
            typer.echo(f"{found['label']}: {found['volume_ml']:.1f} ml")
        for label in series["not_found"]:
            typer.echo(f"{label}: looked for, not found")
        for file in series["files"]:
            typer.echo(f"wrote {file}")


def predict(
    output: Out,
    images: Annotated[list[Path] | None, typer.Argument(help="NIfTI files, or a folder of them.")] = None,
    prompts: Prompts = None,
    jobs: Annotated[str | None, typer.Option(help='JSON file: [{"image": ..., "prompts": [...]}, ...].')] = None,
    save_combined: Annotated[bool, typer.Option("--save-combined", help="One file with labels 1, 2, ...")] = False,
    no_overwrite: Annotated[bool, typer.Option("--no-overwrite", help="Leave results that exist.")] = False,
    model: Annotated[str | None, typer.Option(help="Folder of a model; default the node's.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:N or auto.")] = None,
    bank: Annotated[Path | None, typer.Option(help="File of text embeddings (.npz).")] = None,
) -> None:
    """Segments NIfTI files with upstream's file names: IMAGE_PROMPT.nii.gz."""
    if (jobs is None) == (not images or not prompts):
        raise typer.BadParameter("give images and prompts (-p TEXT, may be repeated), or --jobs FILE.")
    given = {"model": model, "device": device, "bank": bank}
    segmenter = load_segmenter(load(**{name: value for name, value in given.items() if value is not None}))
    from voxtell.nifti import jobs_for, predict_files, read_jobs

    work = read_jobs(jobs) if jobs is not None else jobs_for(images or [], prompts or [])
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


def nifti_to_dicom(
    image: Annotated[Path, typer.Argument(help="A three-dimensional NIfTI CT in Hounsfield units.")],
    output: Out,
) -> None:
    """Writes a NIfTI CT as a CT series with proper headers, on the same grid in the same place."""
    from worker.cases import case_from_nifti

    typer.echo(f"wrote {len(case_from_nifti(image, output).paths)} slices to {output}")


def volume(
    series: Annotated[Path, typer.Argument(help="A folder with the DICOM files of one series.")],
    output: Out,
) -> None:
    """Writes exactly the volume that the network would see, as NIfTI."""
    from dicom_node.series import read_series
    from dicom_node.volume import to_network, write_nifti
    from worker.candidates import series_in

    found = series_in(series)
    if len(found) > 1:
        raise typer.BadParameter(f"{series} holds {len(found)} series; name the folder of one.")
    read = read_series(found[0].paths)
    output.parent.mkdir(parents=True, exist_ok=True)
    write_nifti(to_network(read), output)
    for note in read.notes:
        typer.echo(f"note: {note}", err=True)
    typer.echo(f"wrote {output}")

"""`run`, `volume`, `nifti-to-dicom`: work on one study or file in this process, without a node."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from worker.cli.printing import Json, print_json, result_lines
from worker.cli.progress import progress_bar
from worker.job_spec import Output
from worker.settings import load

if TYPE_CHECKING:
    from worker.steps.offline import VolumeResult

Out = Annotated[Path, typer.Option("--output", "-o", help="Where to write the result.")]
Orientation = Annotated[
    str | None,
    typer.Option(
        help="How to read a NIfTI file that leaves left and right open: sform, qform, or letters of its axes (RAS)."
    ),
]
Nan = Annotated[float | None, typer.Option(help="Value to use for NaN in a NIfTI file, such as -1024.")]
ResampleSpacing = Annotated[
    bool,
    typer.Option(
        "--resample-spacing", help="Also take volumes whose spacing changes by design, on a regular grid in between."
    ),
]
Prompts = Annotated[list[str] | None, typer.Option("--prompt", "-p", help="What to segment; may be given many times.")]
ProtocolNamed = Annotated[
    Path | None,
    typer.Option(help="A protocol that chooses series and prompts: a file, or the name of one of the node's."),
]


def run(
    study: Annotated[
        Path,
        typer.Argument(
            help="A folder with the DICOM files of a series or a study, or of many studies, whatever its layout."
        ),
    ],
    output: Out,
    prompts: Prompts = None,
    report: Annotated[Path | None, typer.Option(help="A radiology report that gives the prompts.")] = None,
    protocol: ProtocolNamed = None,
    seg: Annotated[bool, typer.Option("--seg", help="Write DICOM-SEG (the default).")] = False,
    labelmap: Annotated[
        bool, typer.Option("--labelmap", help="Write DICOM-SEG as a label map; BINARY where segments overlap.")
    ] = False,
    rtstruct: Annotated[bool, typer.Option("--rtstruct", help="Write RTSTRUCT.")] = False,
    sr: Annotated[bool, typer.Option("--sr", help="Write a TID 1500 report of measurements, and its SEG.")] = False,
    preview: Annotated[bool, typer.Option("--preview", help="Write a picture, a DICOM Secondary Capture.")] = False,
    nifti: Annotated[bool, typer.Option("--nifti", help="Write masks as NIfTI.")] = False,
    seg_syntax: Annotated[
        Literal["explicit", "deflated", "rle"],
        typer.Option(help="Transfer syntax of the objects, as transfer_syntax of a destination."),
    ] = "explicit",
    nothing_found: Annotated[
        int, typer.Option(min=0, max=125, help="Exit code when no structure was found in any volume.")
    ] = 0,
    resample_spacing: ResampleSpacing = False,
    as_json: Json = False,
) -> None:
    """Segments a study, or many: every volume that a protocol takes, or every volume.

    --report may be given together with --protocol, if the protocol takes prompts from reports. --labelmap and
    --seg-syntax write what a destination with these settings would get.
    """
    from worker.steps.offline import Sent, UsedFolderError, run_study

    flags: dict[Output, bool] = {"seg": seg or labelmap, "rtstruct": rtstruct, "sr": sr, "preview": preview}
    outputs = tuple(name for name, wanted in (flags | {"nifti": nifti}).items() if wanted)
    _check_asked(prompts, by_file=report is not None or protocol is not None)
    asked = list(dict.fromkeys(prompts or ()))
    sent = Sent("labelmap" if labelmap else "binary", seg_syntax)
    segmented = partial(run_study, load(), study, output, asked, report, _file_of(protocol), outputs, sent=sent)
    try:
        with progress_bar("reading headers") as progress:
            done = segmented(resample_spacing=resample_spacing, progress=progress)
    except UsedFolderError as error:
        raise typer.BadParameter(f"{error}.") from None
    if as_json:
        print_json([one.json_facts() for one in done])
    else:
        _say_found(done)
    if nothing_found and not any(one.result.found for one in done):
        raise typer.Exit(nothing_found)


def _file_of(protocol: Path | None) -> Path | None:
    """Returns the file of a protocol, which may be given by its name in the node's folder.

    Raises:
        ProtocolError: when there is neither such a file nor such a protocol; lists those that there are.
    """
    if protocol is None or protocol.exists() or len(protocol.parts) > 1 or protocol.suffix:
        return protocol
    from worker.errors import ProtocolError
    from worker.protocols import files_by_name, ship_protocols

    folder = load().protocols_folder
    ship_protocols(folder)
    known = files_by_name(folder)
    if str(protocol) not in known:
        names = ", ".join(known) or "none is valid"
        raise ProtocolError(f"'{protocol}' is no file, and {folder} has no protocol of that name ({names})")
    return known[str(protocol)]


def _check_asked(prompts: Sequence[str] | None, *, by_file: bool) -> None:
    """Refuses prompts beside a report or protocol, and neither.

    Raises:
        typer.BadParameter: when there are both, or neither.
    """
    if prompts and by_file:
        raise typer.BadParameter("prompts (-p) exclude a report and a protocol: give the one or the other.")
    if not prompts and not by_file:
        raise typer.BadParameter("give prompts (-p TEXT, may be repeated), a report (--report FILE) or a protocol.")


def _say_found(done: Sequence["VolumeResult"]) -> None:
    """Prints what came of each volume, and the files; several volumes are named."""
    for one in done:
        if len(done) > 1:
            typer.echo(f"patient {one.patient_id or 'without ID'}, {one.label}:")
        for line in (*result_lines(one.result), *(f"wrote {file}" for file in one.files)):
            typer.echo(line)


def nifti_to_dicom(
    image: Annotated[Path, typer.Argument(help="A three-dimensional NIfTI image; a CT in Hounsfield units.")],
    output: Out,
    patient_id: Annotated[str, typer.Option(help="Patient ID; without it each image is a patient of its own.")] = "",
    name: Annotated[str, typer.Option(help="Patient's Name; without it the file's name.")] = "",
    accession: Annotated[
        str, typer.Option(help="Accession Number; images of one patient and accession are one study.")
    ] = "",
    description: Annotated[str, typer.Option(help="Study Description; without it the file's name.")] = "",
    body_part: Annotated[str, typer.Option(help="Body Part Examined, such as HEADNECK; default none.")] = "",
    modality: Annotated[Literal["CT", "MR"], typer.Option(help="Modality of the image.")] = "CT",
    orientation: Orientation = None,
    nan: Nan = None,
) -> None:
    """Writes a NIfTI image as a DICOM series with proper headers, on the same grid in the same place."""
    from voxtell.nifti import ReadAs
    from worker.steps.nifti_series import NOBODY, series_from_nifti

    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise typer.BadParameter(f"{output} holds files already; name a new folder.")

    subject = replace(
        NOBODY,
        patient_id=patient_id,
        patient_name=name,
        accession_number=accession,
        study_description=description,
        body_part=body_part,
        modality=modality,
    )
    written = series_from_nifti(image, output, subject, ReadAs(orientation, nan))
    typer.echo(f"wrote {len(written)} slices to {output}")


def volume(
    series: Annotated[Path, typer.Argument(help="A folder with the DICOM files of one series.")],
    output: Out,
    name: Annotated[
        str | None, typer.Option("--volume", help="Which volume of a series of several, such as EchoTime=90.")
    ] = None,
    resample_spacing: ResampleSpacing = False,
) -> None:
    """Writes exactly the volume that the network would see, as NIfTI."""
    from dicom_node.series import read_series, read_volume
    from dicom_node.volume import to_network, write_nifti
    from worker.selection.study_volumes import series_in

    found = series_in(series)
    if len(found) > 1:
        raise typer.BadParameter(f"{series} holds {len(found)} series; name the folder of one.")
    paths, even = found[0].paths, resample_spacing
    read = read_series(paths, even=even) if name is None else read_volume(paths, name, even=even)
    output.parent.mkdir(parents=True, exist_ok=True)
    write_nifti(to_network(read, straighten=load().resample_tilt), output)
    for note in read.notes:
        typer.echo(f"note: {note}", err=True)
    typer.echo(f"wrote {output}")

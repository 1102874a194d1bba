"""Writes docs/explanation/cases.md: every series of the test data, what came in, what was decided, what came out.

    python scripts/cases.py ../shared/data ../shared/cases docs/explanation/cases.md

Each volume is asked for by the shipped protocols, together with the others of its study. Each regular one gets two
boxes as masks, seen on the network's grid, and becomes a SEG, BINARY and LABELMAP, a report on either, an RTSTRUCT and
a preview. These are decoded again and compared with the boxes, and judged by dciodvfy.
"""

import json
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

import nibabel
import numpy as np
from highdicom import Volume
from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError

import worker.protocols
from dicom_node.errors import DicomNodeError
from dicom_node.images.frames import read_files
from dicom_node.masks.measures import extent
from dicom_node.objects.provenance import Algorithm, Provenance
from dicom_node.objects.result_set import ResultSet
from dicom_node.regions import region_for
from dicom_node.series import ImageSeries, read_series, read_volume
from dicom_node.synthesis import write_slices
from dicom_node.volume import from_network, to_network
from worker.protocols import Protocol, read_folder
from worker.selection.choose import choose
from worker.selection.study_volumes import StudyVolume, studies_in, volumes_of

PROVENANCE = Provenance(Algorithm("boxes", "1", "sha256:" + "0" * 64), made=datetime(2026, 1, 1))
REGIONS = [region_for("left kidney"), region_for("a box"), region_for("spleen")]
SHIPPED = Path(worker.protocols.__file__).parent / "shipped"
HEAD = """# Cases

Every series of the test data, and what the node makes of it. "Taken by" says which of the shipped protocols take a
volume of its study, were their model there, and which prefer another one. The masks are two boxes and an empty one;
"agree" means that SEG and RTSTRUCT, decoded again, lie where the boxes lay on the network's grid. Of the 203 planning
CTs of `openkbp` the table holds the first and those that their index flags. Made by
`python scripts/cases.py DATA CASES docs/explanation/cases.md`; the data are described in their own MANIFEST.

"""
TABLE = """| case | what came in | what was found | taken by | what came out |
|---|---|---|---|---|
"""
UNUSUAL = """
## Unusual series
Series as they were reported to public projects, without settings: `tests/cases` has the outcome of each, with
`VOXTELL_CHARACTER_SET` and `resample_spacing` too.

"""


def main(data: Path, cases: Path, target: Path) -> None:
    """Writes one row per volume of DICOM files, and one per NIfTI image or set of them; then those of the cases."""
    protocols = read_folder(SHIPPED)
    rows = [row for study in dicom_studies(data) for row in study_rows(study, protocols)]
    with tempfile.TemporaryDirectory() as folder:
        rows += [nifti_row(path.relative_to(data), path, Path(folder) / str(n)) for n, path in enumerate(images(data))]
    unusual = list(case_rows(cases, protocols))
    target.write_text(HEAD + TABLE + "".join(rows) + UNUSUAL + TABLE + "".join(unusual), encoding="utf-8")
    print(f"{target}: {len(rows) + len(unusual)} rows")


def case_rows(cases: Path, protocols: Sequence[Protocol]) -> Iterator[str]:
    """The table rows of folders that hold a study each, read as `run` reads a folder."""
    for case in sorted(path.parent for path in cases.glob("*/dicom")):
        for study in studies_in(case / "dicom"):
            yield from volume_rows([(case.name, volume) for volume in study], protocols)


Case = tuple[str, list[Path]]
"""The name of a series and its files."""


def dicom_studies(data: Path) -> Iterator[list[Case]]:
    """The series of each study: those of one Study Instance UID whose folders lie side by side."""
    studies: dict[tuple[str, Path], list[Case]] = {}
    for folder in sorted({path.parent for path in data.rglob("*") if path.is_file()}):
        series: dict[str, list[Path]] = {}
        of_study: dict[str, str] = {}
        for path in sorted(folder.iterdir()):
            if path.is_file() and (header := header_of(path)) is not None:
                uid = str(header.get("SeriesInstanceUID", ""))
                series.setdefault(uid, []).append(path)
                of_study[uid] = str(header.get("StudyInstanceUID", ""))
        for number, (uid, files) in enumerate(series.items(), start=1):
            name = str(folder.relative_to(data)) + (f" ({number})" if len(series) > 1 else "")
            studies.setdefault((of_study[uid], folder.parent), []).append((name, files))
    yield from studies.values()


def header_of(path: Path) -> Dataset | None:
    """The header of a DICOM file; None for any other file."""
    try:
        return dcmread(path, stop_before_pixels=True)
    except InvalidDicomError:
        return None


def study_rows(study: Sequence[Case], protocols: Sequence[Protocol]) -> Iterator[str]:
    """The table rows of one study, one for each volume."""
    return volume_rows([(name, volume) for name, files in study for volume in volumes_of(read_files(files))], protocols)


def volume_rows(volumes: Sequence[tuple[str, StudyVolume]], protocols: Sequence[Protocol]) -> Iterator[str]:
    """The table rows of the volumes of one study."""
    verdicts = [choose(protocol, [volume for _, volume in volumes]) for protocol in protocols]
    for index, (name, volume) in enumerate(volumes):
        kinds = Counter(
            f"{file.header.get('Modality')}, {file.header.file_meta.TransferSyntaxUID.name}" for file in volume.files
        )
        came_in = "; ".join(f"{count} {kind}" for kind, count in kinds.items())
        if volume.problem:
            yield f"| {name} | {came_in} | refused | - | {cell(volume.problem)} |\n"
            continue
        said = [(protocol.name, verdict[index]) for protocol, verdict in zip(protocols, verdicts, strict=True)]
        taken = [protocol for protocol, verdict in said if verdict.taken]
        for protocol, verdict in said:
            last = verdict.findings[-1]
            if not last.holds and last.condition.startswith(("the best", "none of")):
                taken.append(f"not {protocol}: {last.found}")
        series = read(volume)
        decided = cell("; ".join(taken) or "none")
        yield f"| {name} | {came_in} | {found(series, volume)} | {decided} | {come_out(series)} |\n"


def read(volume: StudyVolume) -> ImageSeries:
    """The volume with its pixels."""
    return read_volume([file.path for file in volume.files], volume.name)


def found(series: ImageSeries, volume: StudyVolume) -> str:
    """The volume, what its headers say of it, and what was noted on the way."""
    parts = [shape(series)]
    if facts := volume.facts:
        contrast = {True: "with contrast", False: "without contrast", None: ""}[facts.contrast]
        kernel = f"kernel {facts.kernel} ({facts.sharpness or 'neither'})" if facts.kernel else ""
        derived = "" if facts.original else "no original"
        parts += [part for part in (facts.plane, kernel, contrast, derived) if part]
    return cell("; ".join([*parts, *series.notes]))


def shape(series: ImageSeries) -> str:
    """Name, size and spacing."""
    size = "x".join(map(str, series.volume.spatial_shape))
    spacing = ", ".join(f"{mm:.3f}" for mm in series.volume.spacing)
    return (f"{series.name}: " if series.name else "") + f"{size} at {spacing} mm"


def come_out(series: ImageSeries) -> str:
    """What the results of two boxes are worth."""
    network = to_network(series)
    masks = np.zeros((3, *network.spatial_shape), dtype=bool)
    a, b, c = (max(1, size // 3) for size in network.spatial_shape)
    masks[0, :a, :b, :c] = True
    masks[1, a:, b : 2 * b, c:] = True
    on_slices = from_network(masks, network, series)
    affine = series.affine if series.tilt_degrees else network.affine
    seen = on_slices if series.tilt_degrees else masks
    extents = [extent(mask, affine) if mask.any() else None for mask in seen]
    plan = ResultSet(series, on_slices, REGIONS, PROVENANCE, ("seg", "rtstruct", "sr", "preview"), label_map=True)
    try:
        errors = {name: iod_errors(dataset) for name, dataset in plan.written(extents)}
    except DicomNodeError as error:
        return cell(f"no result: {error}")
    verdict = "; ".join(f"{name}: {error}" for name, found in errors.items() for error in found[:1])
    return cell(
        f"SEG and RTSTRUCT agree{straightened(series)}; dciodvfy of all {len(errors)}: {verdict or 'no errors'}"
    )


def straightened(series: ImageSeries) -> str:
    """Of a tilted gantry: whether masks on the straightened grid come back to the voxels they were made of."""
    if not series.tilt_degrees:
        return ""
    network = to_network(series, straighten=True)
    level = float(np.median(series.volume.array))
    (back,) = from_network(network.array[None] > level, network, series)
    same = np.array_equal(back, series.volume.array > level)
    return f"; straightened for the network to {'x'.join(map(str, network.spatial_shape))}, masks come back " + (
        "exactly" if same else "CHANGED"
    )


def iod_errors(dataset: Dataset) -> list[str]:
    """What dciodvfy calls an error in an object."""
    with tempfile.NamedTemporaryFile(suffix=".dcm") as file:
        dataset.save_as(file.name, enforce_file_format=True)
        program = Path(sys.executable).parent / "dciodvfy"
        said = subprocess.run([program, file.name], capture_output=True, text=True, check=False).stderr
    # It does not know yet that label maps are segmentations, so that a report may name their segments.
    known = "Referenced SOP Class that is not segmentation"
    return [line for line in said.splitlines() if line.startswith("Error") and known not in line]


def images(data: Path) -> Iterator[Path]:
    """NIfTI images that are no label maps and no conversions; of the planning CTs the first and those with flags."""
    cases = json.loads((data / "openkbp/index.json").read_text())["cases"]
    chosen = {cases[0]["case"], *(case["case"] for case in cases if case["flags"])}
    others = ("_seg_", "/seg_", "mask", "_oar", "labels/", "tissue/", "ground_truth")
    for path in sorted(data.rglob("*.nii.gz")):
        name = str(path.relative_to(data))
        if any(word in f"{path.parent.name}/{path.name}" for word in others):
            continue
        if not name.startswith("openkbp") or any(f"{case}_" in path.name or f"{case}." in path.name for case in chosen):
            yield path


def nifti_row(name: Path, path: Path, folder: Path) -> str:
    """An image that is no DICOM becomes a CT series first, feet to head, and is then treated like one."""
    image = nibabel.load(path)
    array = np.asarray(image.dataobj, dtype=np.float32)
    if array.ndim != 3:
        return ""
    turned = Volume(array, image.affine, "PATIENT", from_reference_convention="RAS").to_patient_orientation("HPL")
    series = read_series(write_slices(turned.array, turned.affine, folder))
    same = np.array_equal(series.volume.array, np.rint(turned.array))
    size = "x".join(map(str, array.shape))
    made = f"written as CT slices, values {'kept' if same else 'rounded'}; {cell(shape(series))}"
    return f"| {name} | NIfTI, {size} | {made} | - | {come_out(series)} |\n"


def cell(text: str) -> str:
    """Text for one cell of the table."""
    return text.replace("|", "/").replace("\n", " ")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))

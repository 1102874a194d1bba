"""Writes docs/cases.md: every series of the test data, what came in, what was done, what came out.

    python scripts/cases.py ../shared/data docs/cases.md

Each readable volume gets two boxes as masks, seen on the network's grid, and becomes a SEG, an RTSTRUCT and an SR.
These are decoded again and compared with the boxes, and judged by dciodvfy.
"""

import json
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import nibabel
import numpy as np
from highdicom import Volume
from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError

from dicom_node.check import check_rtstruct, check_seg
from dicom_node.errors import DicomNodeError
from dicom_node.measures import extent
from dicom_node.regions import region_for
from dicom_node.results import Algorithm, Work
from dicom_node.rtstruct import write_rtstruct
from dicom_node.seg import write_seg
from dicom_node.series import ImageSeries, split_series
from dicom_node.sr import write_sr
from dicom_node.synthesis import write_slices
from dicom_node.volume import from_network, to_network

WORK = Work(Algorithm("boxes", "1", "sha256:" + "0" * 64), made=datetime(2026, 1, 1))
REGIONS = [region_for("left kidney"), region_for("a box"), region_for("spleen")]
HEAD = """# Cases

Every series of the test data, and what the image side of the node makes of it. The masks are two boxes and an empty
one; "agree" means that SEG and RTSTRUCT, decoded again, lie where the boxes lay on the network's grid. Of the 203
planning CTs of `openkbp` the table holds the first and those that their index flags. Made by
`python scripts/cases.py DATA docs/cases.md`; the data are described in their own MANIFEST.

| case | what came in | what was done | what came out |
|---|---|---|---|
"""


def main(data: Path, target: Path) -> None:
    """Writes one row per series of DICOM files, and one per NIfTI image or set of them."""
    rows = [row(name, files) for name, files in dicom_series(data)]
    with tempfile.TemporaryDirectory() as folder:
        rows += [nifti_row(path.relative_to(data), path, Path(folder) / str(n)) for n, path in enumerate(images(data))]
    target.write_text(HEAD + "".join(rows), encoding="utf-8")
    print(f"{target}: {len(rows)} cases")


def dicom_series(data: Path) -> Iterator[tuple[str, list[Path]]]:
    """(folder, files) of each series in each folder."""
    for folder in sorted({path.parent for path in data.rglob("*") if path.is_file()}):
        series: dict[str, list[Path]] = {}
        for path in sorted(folder.iterdir()):
            if path.is_file() and (header := header_of(path)) is not None:
                series.setdefault(str(header.get("SeriesInstanceUID", "")), []).append(path)
        for number, files in enumerate(series.values(), start=1):
            yield str(folder.relative_to(data)) + (f" ({number})" if len(series) > 1 else ""), files


def header_of(path: Path) -> Dataset | None:
    """The header of a DICOM file; None for any other file."""
    try:
        return dcmread(path, stop_before_pixels=True)
    except InvalidDicomError:
        return None


def row(name: str, files: list[Path]) -> str:
    """The table row of one series."""
    headers = [dcmread(path, stop_before_pixels=True) for path in files]
    kinds = Counter(f"{header.get('Modality')}, {header.file_meta.TransferSyntaxUID.name}" for header in headers)
    came_in = "; ".join(f"{count} {kind}" for kind, count in kinds.items())
    try:
        volumes = split_series(files)
    except DicomNodeError as error:
        return f"| {name} | {came_in} | refused | {cell(str(error))} |\n"
    return "".join(f"| {name} | {came_in} | {done(volume)} | {come_out(volume)} |\n" for volume in volumes)


def done(series: ImageSeries) -> str:
    """The volume and what was noted on the way."""
    size, spacing = (
        "x".join(map(str, series.volume.spatial_shape)),
        ", ".join(f"{mm:.3f}" for mm in series.volume.spacing),
    )
    parts = [f"{series.name}: {size} at {spacing} mm" if series.name else f"{size} at {spacing} mm", *series.notes]
    return cell("; ".join(parts))


def come_out(series: ImageSeries) -> str:
    """What the results of two boxes are worth."""
    network = to_network(series)
    masks = np.zeros((3, *network.spatial_shape), dtype=bool)
    a, b, c = (max(1, size // 3) for size in network.spatial_shape)
    masks[0, :a, :b, :c] = True
    masks[1, a:, b : 2 * b, c:] = True
    on_slices = from_network(masks, network, series)
    try:
        segmentation = write_seg(series, on_slices, REGIONS, WORK)
        structures = write_rtstruct(series, on_slices, REGIONS, WORK)
        report = write_sr(series, on_slices, segmentation, WORK)
        if series.tilt_degrees:
            expected = [extent(mask, series.affine) for mask in on_slices[:2]]
        else:
            expected = [extent(mask, network.affine) for mask in masks[:2]]
        check_seg(segmentation.dataset, expected, series.volume.spacing)
        check_rtstruct(structures, expected, series)
    except DicomNodeError as error:
        return cell(f"no result: {error}")
    kinds = {"SEG": segmentation.dataset, "RTSTRUCT": structures, "SR": report}
    errors = {kind: iod_errors(dataset) for kind, dataset in kinds.items()}
    verdict = "; ".join(f"{kind}: {error}" for kind, found in errors.items() for error in found[:1])
    return cell(f"SEG, RTSTRUCT and SR agree; dciodvfy: {verdict or 'no errors'}")


def iod_errors(dataset: Dataset) -> list[str]:
    """What dciodvfy calls an error in an object."""
    with tempfile.NamedTemporaryFile(suffix=".dcm") as file:
        dataset.save_as(file.name, enforce_file_format=True)
        program = Path(sys.executable).parent / "dciodvfy"
        said = subprocess.run([program, file.name], capture_output=True, text=True, check=False).stderr
    return [line for line in said.splitlines() if line.startswith("Error")]


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
    (series,) = split_series(write_slices(turned.array, turned.affine, folder))
    same = np.array_equal(series.volume.array, np.rint(turned.array))
    shape = "x".join(map(str, array.shape))
    made = f"written as CT slices, values {'kept' if same else 'rounded'}; {done(series)}"
    return f"| {name} | NIfTI, {shape} | {made} | {come_out(series)} |\n"


def cell(text: str) -> str:
    """Text for one cell of the table."""
    return text.replace("|", "/").replace("\n", " ")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))

"""Writes docs/reference/readers.md; scripts/readers.sh calls it.

Objects on five kinds of images are read by nine programs, and what each gives back is compared with the masks voxel
by voxel.
"""

import argparse
import json
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import permutations, product
from pathlib import Path
from typing import Final

import highdicom
import numpy as np
import SimpleITK
from numpy.typing import NDArray

from dicom_node.masks.measures import extent
from dicom_node.objects.result_set import ResultSet
from dicom_node.objects.rtstruct import roi_names
from dicom_node.regions import region_for
from dicom_node.series import ImageSeries, read_series
from scripts.readers.images import IMAGES, STRUCTURES
from tests.support.images import PROVENANCE, tool
from tests.support.peers import program

REGIONS: Final = [region_for(name) for name in STRUCTURES]
NAMES: Final = roi_names(REGIONS)
HERE: Final = Path(__file__).parent

Masks = dict[str, NDArray[np.bool_]]
"""A mask (slices, rows, columns) on the source's slices per structure."""


@dataclass(frozen=True)
class Case:
    """One image with its objects, each by what it is: "SEG", "SEG, label map", "RTSTRUCT" or "RTSTRUCT, xor"."""

    series: ImageSeries
    images: Path
    objects: dict[str, Path]
    masks: Masks


class ReadError(Exception):
    """A program gave nothing back; the text is the last line that it said."""


def main() -> None:
    """Reads everything by everybody, and writes the page."""
    parser = argparse.ArgumentParser()
    parser.add_argument("page", type=Path)
    parser.add_argument("--readers", type=Path, required=True, help="the environment of the readers")
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as work:
        cases = {name: made(name, Path(work) / name) for name in IMAGES}
        for reader, (objects, read) in readers(options.readers).items():
            for kind in objects:
                cells = [cell(case, kind, read) for case in cases.values()]
                rows.append(f"| {reader} | {kind} | {' | '.join(cells)} |")
                print(rows[-1], flush=True)
    head = f"| program | object | {' | '.join(IMAGES)} |\n|{'---|' * (2 + len(IMAGES))}"
    text = (HERE / "page.md").read_text(encoding="utf-8")
    options.page.write_text(text.replace("TABLE", "\n".join([head, *rows])), encoding="utf-8")


def made(name: str, folder: Path) -> Case:
    """Writes an image and all objects on it."""
    files, masks = IMAGES[name](folder / "images")
    if files[0].parent != folder / "images":  # a scanner's, from the test data
        (folder / "images").mkdir(parents=True)
        files = [Path(shutil.copy(path, folder / "images")) for path in files]
    series = read_series(files)
    masks = masks(series)
    extents = [extent(mask, series.affine) for mask in masks]
    objects = {}
    for holes in ("keyhole", "xor"):
        plan = ResultSet(series, masks, REGIONS, PROVENANCE, ("seg", "rtstruct"), label_map=True, holes=holes)
        for file, dataset in plan.written(extents):
            kind = {"seg.dcm": "SEG", "seg-labelmap.dcm": "SEG, label map", "rtstruct.dcm": "RTSTRUCT"}[file]
            kind += ", xor" if holes == "xor" else ""
            objects[kind] = folder / f"{kind}.dcm"
            dataset.save_as(objects[kind], enforce_file_format=True)
    return Case(series, folder / "images", objects, dict(zip(STRUCTURES, masks, strict=True)))


def cell(case: Case, kind: str, read: Callable[[Case, Path], Masks]) -> str:
    """What a program gives back of an object: "exact", or what differs, structure by structure."""
    try:
        found = read(case, case.objects[kind])
    except ReadError as error:
        return f"not read: {error}"
    told: dict[str, list[str]] = {}
    for name, roi in zip(STRUCTURES, NAMES, strict=True):
        mask = found.get(name, found.get(roi))
        told.setdefault(difference(case.masks[name], mask, case.series), []).append(name)
    if set(told) == {"exact"}:
        return "exact"
    return "; ".join(f"{', '.join(names)}: {what}" for what, names in told.items() if what != "exact")


def difference(mask: NDArray[np.bool_], found: NDArray[np.bool_] | None, series: ImageSeries) -> str:
    """How a mask that was read differs from ours: its volume, and how far its centroid lies off."""
    if found is None or not found.any():
        return "nothing"
    if found.shape == mask.shape and np.array_equal(found, mask):
        return "exact"
    shift = series.affine[:3, :3] @ (np.argwhere(found).mean(axis=0) - np.argwhere(mask).mean(axis=0))
    volume = 100 * (found.sum() / mask.sum() - 1)
    return f"{volume:+.0f} %, {np.linalg.norm(shift):.1f} mm"


def readers(environment: Path) -> dict[str, tuple[Sequence[str], Callable[[Case, Path], Masks]]]:
    """Each program: the objects that it is asked for, and how it is asked."""
    segs, structures = ("SEG", "SEG, label map"), ("RTSTRUCT", "RTSTRUCT, xor")

    def by(name: str) -> Callable[[Case, Path], Masks]:
        return lambda case, path: by_python(environment / "bin" / "python", name, case, path)

    return {
        "highdicom": (segs, by_highdicom),
        "dcmqi": (segs, by_dcmqi),
        "pydicom-seg": (segs, by("pydicom-seg")),
        "dcmjs": (
            segs[:1],
            lambda case, path: by_dcmjs(environment / "npm" / "dcmjs" / "build" / "dcmjs.js", case, path),
        ),
        "plastimatch": (structures, by_plastimatch),
        "dcmrtstruct2nii": (structures, by("dcmrtstruct2nii")),
        "rt-utils": (structures, by("rt-utils")),
        "platipy": (structures, by("platipy")),
        "scikit-rt": (structures, by("scikit-rt")),
    }


def by_highdicom(case: Case, path: Path) -> Masks:
    """highdicom, of the node's own environment."""
    seg = highdicom.seg.segread(path)
    uids = [one.sop_uid for one in case.series.references]
    frames = [one.frame_number for one in case.series.references]
    options = {"assert_missing_frames_are_empty": True}
    if frames[0] is None:
        read = seg.get_pixels_by_source_instance(uids, **options)
    else:
        read = seg.get_pixels_by_source_frame(uids[0], frames, **options)
    labels = [one.SegmentLabel for one in seg.SegmentSequence if one.SegmentNumber]
    return {label: read[..., index] > 0 for index, label in enumerate(labels)}


def by_dcmqi(case: Case, path: Path) -> Masks:
    """segimage2itkimage."""
    with tempfile.TemporaryDirectory() as folder:
        answer = tool("segimage2itkimage", "--inputDICOM", path, "--outputDirectory", folder, "--outputType", "nrrd")
        if answer.returncode:
            raise ReadError(said(answer.stdout + answer.stderr))
        labels = json.loads((Path(folder) / "meta.json").read_text())["segmentAttributes"]
        found: Masks = {}
        for number, group in enumerate(labels, start=1):
            image = SimpleITK.ReadImage(str(Path(folder) / f"{number}.nrrd"))
            array = SimpleITK.GetArrayFromImage(image)
            for segment in group:
                mask = array == segment["labelID"]
                found[segment["SegmentLabel"]] = placed(mask, affine_of(image), case.series)
        return found


def by_plastimatch(case: Case, path: Path) -> Masks:
    """plastimatch convert, onto the image as plastimatch reads it."""
    with tempfile.TemporaryDirectory() as folder:
        options = ["--input", path, "--referenced-ct", case.images, "--output-prefix", f"{folder}/masks"]
        command = [program("plastimatch"), "convert", *options, "--prefix-format", "nrrd"]
        answer = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=300, check=False)
        image = [program("plastimatch"), "convert", "--input", case.images, "--output-img", f"{folder}/image.nrrd"]
        again = subprocess.run(list(map(str, image)), capture_output=True, text=True, timeout=300, check=False)
        files = sorted((Path(folder) / "masks").glob("*.nrrd"))
        if not files or again.returncode:
            raise ReadError(said(answer.stderr + answer.stdout + again.stderr))
        read = {one.stem: SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(one))) > 0 for one in files}
        shown = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(f"{folder}/image.nrrd"))
        return on_slices(read, shown, case.series)


def by_python(python: Path, name: str, case: Case, path: Path) -> Masks:
    """A library of the readers' environment."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.npz"
        command = [python, HERE / "read.py", name, path, case.images, out]
        answer = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=300, check=False)
        if answer.returncode:
            raise ReadError(said(answer.stderr))
        read = dict(np.load(out))
    masks = {key.removeprefix("mask:"): value for key, value in read.items() if key.startswith("mask:")}
    if "affine" in read:
        return {key: placed(value, read["affine"], case.series) for key, value in masks.items()}
    return on_slices(masks, read["image"], case.series)


def by_dcmjs(library: Path, case: Case, path: Path) -> Masks:
    """The adapter of dcmjs for cornerstoneTools."""
    series = case.series
    shape = series.volume.spatial_shape
    source = {
        "series": series.series_uid,
        "rows": shape[1],
        "columns": shape[2],
        "cosines": series.orientation.ravel().tolist(),
        "slices": [{"uid": one.sop_uid, "frame": one.frame_number} for one in series.references],
    }
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "slices.json").write_text(json.dumps(source))
        command = ["node", HERE / "read.js", library.resolve(), path, f"{folder}/slices.json", f"{folder}/out"]
        answer = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=300, check=False)
        if answer.returncode:
            raise ReadError(said(answer.stderr))
        labels = np.fromfile(f"{folder}/out", dtype="<u2").reshape(shape)
    return {name: labels == number for number, name in enumerate(STRUCTURES, start=1)}


def on_slices(masks: Masks, image: NDArray[np.generic], series: ImageSeries) -> Masks:
    """Masks on the grid of a program's own image, on the source's slices: the grids are matched by the images' values.

    Raises:
        ReadError: when the image is not the source's in any order of axes.
    """
    ours = series.volume.array
    if sorted(image.shape) != sorted(ours.shape):
        raise ReadError(f"its image is {image.shape}, the source {ours.shape}")
    for order, flips in product(permutations(range(3)), product((1, -1), repeat=3)):
        turn = tuple(slice(None, None, flip) for flip in flips)
        turned = image.transpose(order)[turn]
        if turned.shape == ours.shape and np.allclose(turned, ours, atol=1.0):
            return {name: mask.transpose(order)[turn] for name, mask in masks.items()}
    raise ReadError("its image has other values than the source")


def placed(mask: NDArray[np.bool_], affine: NDArray[np.float64], series: ImageSeries) -> NDArray[np.bool_]:
    """A mask on a grid of its own, affine (4, 4) to LPS millimetres, on the source's slices: voxel to nearest voxel."""
    points = np.argwhere(mask) @ affine[:3, :3].T + affine[:3, 3]
    inverse = np.linalg.inv(series.affine)
    indices = np.rint(points @ inverse[:3, :3].T + inverse[:3, 3]).astype(int)
    found = np.zeros(series.volume.spatial_shape, dtype=bool)
    inside = ((indices >= 0) & (indices < found.shape)).all(axis=1)
    found[tuple(indices[inside].T)] = True
    return found


def affine_of(image: SimpleITK.Image) -> NDArray[np.float64]:
    """(4, 4) from (slice, row, column) to LPS millimetres."""
    affine = np.eye(4)
    affine[:3, :3] = (np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing())[:, ::-1]
    affine[:3, 3] = image.GetOrigin()
    return affine


def said(text: str) -> str:
    """The last line that names an error, short enough for a table."""
    lines = [line.strip() for line in text.splitlines() if "error" in line.lower()]
    return lines[-1].replace("|", "/")[:90] if lines else "no word why"


if __name__ == "__main__":
    main()

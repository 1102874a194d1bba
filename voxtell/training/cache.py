"""Keeps volumes cut to the body as arrays on disk, so that drawing a patch reads only what it needs.

    <cache>/cases.json             list of entries: case, split, spacing, structures, mean, deviation
    <cache>/<case>_image.npy       int16 (S, A, R), Hounsfield units or the scanner's numbers
    <cache>/<case>_labels.npy      (K, S, A, R), one channel per contoured structure in the order of `structures`: bool,
                                   or uint8 where it is known which share of a voxel is inside, in 255ths

The arrays are memory-mapped: a data set larger than the memory works, a small one stays in the page cache. Axes are
(S, A, R): superior, anterior, right; spacing is mm per voxel in this order.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from voxtell.nifti import read_image
from voxtell.training.dataset import Case, DatasetError

Labels = npt.NDArray[np.bool_] | npt.NDArray[np.uint8]

BODY_HU = -400.0
"""Voxels denser than this are body (or couch): fat is at -100 HU, lung at about -800, air at -1000."""
WHOLE = 255
"""The value of a voxel that is wholly inside, in labels that hold shares."""
MARGIN = 6
"""Voxels kept around the body on every side; beyond them the border value is continued."""


@dataclass(frozen=True)
class CachedCase:
    """Gives access to one volume of the cache.

    mean, deviation: grey values of the whole volume before the cut, as inference computes them for a z-score.
    """

    folder: Path
    case: str
    split: str
    spacing: tuple[float, float, float]
    structures: tuple[str, ...]
    mean: float
    deviation: float

    @cached_property
    def image(self) -> npt.NDArray[np.int16]:
        """int16 (S, A, R), memory-mapped."""
        loaded: npt.NDArray[np.int16] = np.load(self.folder / f"{self.case}_image.npy", mmap_mode="r")
        return loaded

    @cached_property
    def labels(self) -> Labels:
        """bool or uint8 (K, S, A, R), memory-mapped."""
        loaded: Labels = np.load(self.folder / f"{self.case}_labels.npy", mmap_mode="r")
        return loaded

    @cached_property
    def boxes(self) -> dict[str, tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
        """First and last voxel (S, A, R), both inside, of each structure that has any voxel."""
        found = {}
        for structure, mask in zip(self.structures, self.labels, strict=True):
            voxels = np.argwhere(mask > WHOLE // 2 if mask.dtype == np.uint8 else mask)
            if len(voxels):
                found[structure] = (voxels.min(0), voxels.max(0))
        return found


def add_case(
    folder: Path,
    name: str,
    split: str,
    image: npt.NDArray[np.float32],
    masks: Mapping[str, Labels],
    spacing: tuple[float, float, float],
) -> CachedCase:
    """Cuts a volume and its masks to the body, writes them into the cache, and returns the case.

    image: float32 (S, A, R), HU; it is rounded to int16. masks: by structure, (S, A, R), all bool or all uint8 in
    255ths. The case is not listed in cases.json yet; see `write_index`.
    """
    box = _body_box(image)
    np.save(folder / f"{name}_image.npy", np.clip(image[box], -32768, 32767).round().astype(np.int16))
    stacked = np.stack([mask[box] for mask in masks.values()]) if masks else np.zeros((0, *image[box].shape), bool)
    np.save(folder / f"{name}_labels.npy", stacked)
    return CachedCase(folder, name, split, spacing, tuple(masks), float(image.mean()), float(image.std()))


def _body_box(image: npt.NDArray[np.float32]) -> tuple[slice, slice, slice]:
    """Returns the box around everything denser than `BODY_HU`, with `MARGIN` voxels on each side."""
    body = image > BODY_HU
    box = []
    for axis in range(3):
        others = tuple(a for a in range(3) if a != axis)
        inside = np.flatnonzero(body.any(axis=others))
        first, last = (inside[0], inside[-1]) if len(inside) else (0, image.shape[axis] - 1)
        box.append(slice(max(0, first - MARGIN), last + 1 + MARGIN))
    return box[0], box[1], box[2]


def fill_cache(
    cases: Iterable[Case], folder: Path, progress: Callable[[str], None] = lambda _: None
) -> list[CachedCase]:
    """Reads every case, writes it into the cache and returns the cases; `progress` is told each name.

    Raises:
        DatasetError: when a contour's file is not on the grid of its volume.
        FileError: when a file cannot be read.
    """
    folder.mkdir(parents=True, exist_ok=True)
    cached = []
    for case in cases:
        scan = read_image(case.image)
        image, spacing = scan.array, scan.spacing
        masks = {}
        for structure, contour in case.contours.items():
            if contour is None:
                masks[structure] = np.zeros(image.shape, bool)
                continue
            labels = read_image(contour.file).array
            if labels.shape != image.shape:
                raise DatasetError(
                    f"{contour.file} is {labels.shape} (S, A, R) but {case.image} is {image.shape}; "
                    "resample it to the grid of its image"
                )
            masks[structure] = labels > 0 if contour.value is None else labels == contour.value
        cached.append(add_case(folder, case.name, case.split, image, masks, spacing))
        progress(case.name)
    return cached


def write_index(folder: Path, cases: Iterable[CachedCase]) -> None:
    """Writes `cases.json`; entries of cases that are there already are replaced, others are kept."""
    path = folder / "cases.json"
    entries = {entry["case"]: entry for entry in (json.loads(path.read_text()) if path.exists() else [])}
    for case in cases:
        entries[case.case] = {key: value for key, value in asdict(case).items() if key != "folder"}
    path.write_text(json.dumps(list(entries.values()), indent=1))


def read_cache(folder: Path, split: str | None = None) -> list[CachedCase]:
    """Returns the cases of a cache, of one split or of all. No array is read yet.

    Raises:
        DatasetError: when `folder` holds no cache.
    """
    path = folder / "cases.json"
    if not path.is_file():
        raise DatasetError(f"{folder} holds no cases.json; make it with `python -m voxtell.training prepare`")
    entries = json.loads(path.read_text())
    return [
        CachedCase(
            folder,
            entry["case"],
            entry["split"],
            tuple(entry["spacing"]),
            tuple(entry["structures"]),
            entry["mean"],
            entry["deviation"],
        )
        for entry in entries
        if split is None or entry["split"] == split
    ]

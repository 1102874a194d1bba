"""Chooses planes through what was found: those that show the most of it, and further levels for the rest.

Axes (S, A, R) grow to superior, anterior, right.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import highdicom
import numpy as np
from numpy.typing import NDArray

from dicom_node.masks.packed import Bounds, Mask, bounding_box

Rgb = tuple[int, int, int]
Voxel = tuple[int, int, int]

AXIAL: Final = 0  # the axis (S, A, R) that an axial plane cuts; coronal planes cut 1, sagittal ones 2


@dataclass(frozen=True, eq=False)
class Pictured:
    """A structure as it is drawn.

    filled: tinted inside its contour; the body's outline is not. number: its number in the legend, 0 for none.
    """

    label: str
    colour: Rgb
    filled: bool = True
    number: int = 0


@dataclass(frozen=True, eq=False)
class Survey:
    """What one walk through the masks (S, A, R) tells: volumes, and how much of each lies in which plane.

    volumes_ml: one per structure. areas: for each axis, float (P, planes), the part of a structure's largest area.
    boxes: what each structure lies in; None where it was not found.
    """

    volumes_ml: list[float]
    areas: list[NDArray[np.float64]]
    boxes: list[Bounds | None]

    def extent(self, axis: int, plane: tuple[int, int] | None = None) -> slice | None:
        """Returns what the structures hold of an axis: all of them, or those that a plane (axis, index) meets."""
        held = [
            box[axis]
            for box in self.boxes
            if box is not None and (plane is None or box[plane[0]].start <= plane[1] < box[plane[0]].stop)
        ]
        return slice(min(one.start for one in held), max(one.stop for one in held)) if held else None


def survey(image: highdicom.Volume, masks: Sequence[Mask]) -> Survey:
    """Walks through the masks bool (S, A, R) once; one at a time is held."""
    voxel_ml = abs(float(np.linalg.det(image.affine[:3, :3]))) / 1000
    shape = image.spatial_shape
    areas = [np.zeros((len(masks), size)) for size in shape]
    volumes: list[float] = []
    boxes = [bounding_box(mask) for mask in masks]
    for number, (mask, box) in enumerate(zip(masks, boxes, strict=True)):
        if box is None:
            volumes.append(0.0)
            continue
        inside = mask[box]
        volumes.append(float(np.count_nonzero(inside)) * voxel_ml)
        for axis in range(3):
            area = inside.sum(axis=tuple({0, 1, 2} - {axis}))
            areas[axis][number, box[axis]] = area / area.max()
    return Survey(volumes, areas, boxes)


def best_planes(surveyed: Survey, structures: Sequence[Pictured]) -> Voxel:
    """Returns the voxel (S, A, R) whose three planes show the most structures, and these at their largest.

    An outline that is not filled counts only where there is nothing else. Without structures it is the middle.
    """
    counted = [number for number, one in enumerate(structures) if one.filled] or list(range(len(structures)))
    s, a, r = (_best(areas[counted]) for areas in surveyed.areas)
    return s, a, r


def _best(areas: NDArray[np.float64]) -> int:
    """Returns the plane with most structures, and of several the one where they are largest; the middle without any."""
    if not areas.size or not areas.any():
        return int(areas.shape[1]) // 2
    worth = np.count_nonzero(areas, axis=0) + areas.sum(axis=0) / (len(areas) + 1)
    best = np.flatnonzero(worth >= worth.max() - 1e-9)
    return int(best[len(best) // 2])


def more_levels(surveyed: Survey, shown: Voxel, count: int) -> list[int]:
    """Returns `count` axial planes for what the three planes through `shown` do not show, the highest first.

    Each next one shows the most that is still missing; when all is shown, those that are left lie evenly in what was
    found. () when nothing is missing.
    """
    missing, extent = set(hidden(surveyed, shown)), surveyed.extent(AXIAL)
    if not missing or extent is None:
        return []
    levels = {shown[AXIAL]}
    areas = surveyed.areas[AXIAL]
    while missing and len(levels) <= count:
        best = _best(areas[sorted(missing)])
        levels.add(best)
        missing -= set(np.flatnonzero(areas[:, best]).tolist())
    first, last = extent.start, extent.stop - 1
    while len(levels) <= count:  # into the widest gap
        edges = sorted({first, last, *levels})
        gap, low = max(((high - low, low) for low, high in pairwise(edges)), default=(0, 0))
        if gap < 2:
            break
        levels.add(low + gap // 2)
    return sorted(levels - {shown[AXIAL]}, reverse=True)


def hidden(surveyed: Survey, shown: Voxel, levels: Sequence[int] = ()) -> list[int]:
    """Returns the structures that were found and lie in none of the planes."""
    seen = sum((surveyed.areas[axis][:, shown[axis]] for axis in range(3)), np.zeros(len(surveyed.volumes_ml)))
    for level in levels:
        seen = seen + surveyed.areas[AXIAL][:, level]
    return [number for number, ml in enumerate(surveyed.volumes_ml) if ml and not seen[number]]


def cuts(masks: Sequence[Mask], places: Sequence[tuple[int, int]]) -> list[list[Mask]]:
    """Returns, for each place (axis, index), that plane of every mask (S, A, R); one mask at a time is held."""
    taken: list[list[Mask]] = [[] for _ in places]
    for mask in masks:
        for one, (axis, index) in zip(taken, places, strict=True):
            one.append(np.array(mask.take(index, axis)))
    return taken

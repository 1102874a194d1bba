"""Measures a mask in patient space: position, volume, intensity, longest diameter.

Coordinates are millimetres in LPS: x grows to the left, y to posterior, z to the head. An `affine` (4, 4) maps array
indices, of any axis order, to them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dicom_node.masks.packed import bounding_box

# Directions in which outermost voxels are sought: about 7 degrees apart, and the search goes on from the best pair.
_DIRECTIONS: Final = 400


@dataclass(frozen=True)
class Extent:
    """Tells where a set of voxels lies; coordinates are those of voxel centres, in LPS millimetres."""

    volume_ml: float
    centroid: tuple[float, float, float]
    lowest: tuple[float, float, float]  # per patient axis
    highest: tuple[float, float, float]
    spread: tuple[float, ...]
    """Covariance of the coordinates in mm2: xx, xy, xz, yy, yz, zz. Mixed terms change their sign in a mirror."""


@dataclass(frozen=True, eq=False)
class Measures:
    """Holds the figures of one non-empty mask that a report states."""

    volume_ml: float
    mean: float  # of the image under the mask, in its units (HU for CT)
    deviation: float
    diameter_mm: float  # longest distance between two voxel centres
    diameter_ends: NDArray[np.float64]  # (2, 3): those two, LPS millimetres


def extent(mask: NDArray[np.bool_], affine: NDArray[np.float64]) -> Extent:
    """Returns where a mask lies.

    mask: bool with three axes and at least one voxel. affine: (4, 4), from its indices to LPS millimetres.
    """
    (mask,), affine = _cropped(mask, affine)
    middle, covariance, voxels = _moments(mask)
    ends = _line_ends(mask, affine)
    return Extent(
        volume_ml=voxels * abs(float(np.linalg.det(affine[:3, :3]))) / 1000,
        centroid=_triple(affine[:3, :3] @ middle + affine[:3, 3]),
        lowest=_triple(ends.min(axis=0)),
        highest=_triple(ends.max(axis=0)),
        spread=_six(affine[:3, :3] @ covariance @ affine[:3, :3].T),
    )


def extent_of(points: NDArray[np.float64], voxel_mm3: float) -> Extent:
    """Returns where the voxels centred at `points` (N, 3) lie, each of `voxel_mm3` cubic millimetres."""
    return Extent(
        volume_ml=len(points) * voxel_mm3 / 1000,
        centroid=_triple(points.mean(axis=0)),
        lowest=_triple(points.min(axis=0)),
        highest=_triple(points.max(axis=0)),
        spread=_six(np.cov(points, rowvar=False, bias=True)),
    )


def joined(parts: Sequence[Extent]) -> Extent:
    """Returns where several sets of voxels lie together; they must not overlap."""
    volumes = np.array([part.volume_ml for part in parts])
    shares, middles = volumes / volumes.sum(), np.array([part.centroid for part in parts])
    apart = middles - shares @ middles
    within = shares @ np.array([part.spread for part in parts])
    return Extent(
        volume_ml=float(volumes.sum()),
        centroid=_triple(shares @ middles),
        lowest=_triple(np.min([part.lowest for part in parts], axis=0)),
        highest=_triple(np.max([part.highest for part in parts], axis=0)),
        spread=tuple((within + _six((shares[:, None] * apart).T @ apart)).tolist()),
    )


def measure(mask: NDArray[np.bool_], affine: NDArray[np.float64], image: NDArray[np.float32]) -> Measures:
    """Returns the measures of a mask on an image of the same three axes.

    mask: bool, at least one voxel. affine: (4, 4) from indices to LPS millimetres. image: float32, HU for CT.
    """
    (mask, image), affine = _cropped(mask, affine, image)
    values = image[mask].astype(np.float64)
    ends = farthest_pair(_line_ends(mask, affine))
    return Measures(
        volume_ml=len(values) * abs(float(np.linalg.det(affine[:3, :3]))) / 1000,
        mean=float(values.mean()),
        deviation=float(values.std()),
        diameter_mm=float(np.linalg.norm(ends[0] - ends[1])),
        diameter_ends=ends,
    )


def _cropped(
    mask: NDArray[np.bool_], affine: NDArray[np.float64], *others: NDArray[Any]
) -> tuple[list[NDArray[Any]], NDArray[np.float64]]:
    """Returns the mask and other arrays on its grid, cut to its bounding box, and the affine of that box."""
    box = bounding_box(mask)
    if box is None:
        raise ValueError("an empty mask lies nowhere")
    moved = affine.copy()
    moved[:3, 3] += affine[:3, :3] @ [part.start for part in box]
    return [array[box] for array in (mask, *others)], moved


def _line_ends(mask: NDArray[np.bool_], affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns, in LPS millimetres (N, 3), the first and last voxel on each line of the third axis.

    Every corner of the convex hull is among them, so that extremes and diameters need no other voxels.
    """
    lines = np.argwhere(mask.any(axis=2))
    across = mask[lines[:, 0], lines[:, 1]]
    first, last = across.argmax(axis=1), across.shape[1] - 1 - across[:, ::-1].argmax(axis=1)
    ends = np.vstack([np.column_stack([lines, first]), np.column_stack([lines, last])])
    return np.asarray(ends @ affine[:3, :3].T + affine[:3, 3])


def farthest_pair(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns the two of the points (N, 3) that are farthest from each other, (2, 3).

    Candidates are the outermost points in `_DIRECTIONS` directions. From the best pair the search goes on to the point
    farthest from one end until none is farther. That avoids all N x N distances.
    """
    turns = np.arange(_DIRECTIONS) * np.pi * (3 - np.sqrt(5))  # a Fibonacci lattice on the half sphere
    height = (np.arange(_DIRECTIONS) + 0.5) / _DIRECTIONS
    radius = np.sqrt(1 - height**2)
    directions = np.stack([radius * np.cos(turns), radius * np.sin(turns), height])
    outermost: set[int] = set()
    for direction in directions.T:
        along = points @ direction
        outermost |= {int(along.argmin()), int(along.argmax())}
    ends = points[sorted(outermost)]
    gaps = np.linalg.norm(ends[:, None] - ends[None], axis=-1)
    end, other = ends[list(np.unravel_index(int(gaps.argmax()), gaps.shape))]
    longest = float(gaps.max())
    while True:
        distances = np.linalg.norm(points - end, axis=1)
        far = int(distances.argmax())
        if distances[far] <= longest:
            return np.stack([end, other])
        longest, end, other = float(distances[far]), points[far], end


def _moments(mask: NDArray[np.bool_]) -> tuple[NDArray[np.float64], NDArray[np.float64], int]:
    """Returns mean (3) and covariance (3, 3) of the indices of a mask's voxels, and how many there are."""
    pairs = {(1, 2): mask.sum(axis=0), (0, 2): mask.sum(axis=1), (0, 1): mask.sum(axis=2)}
    counts = [pairs[0, 1].sum(axis=1), pairs[0, 1].sum(axis=0), pairs[0, 2].sum(axis=0)]
    voxels = int(counts[0].sum())
    middle = np.array([count @ np.arange(len(count)) / voxels for count in counts])
    offsets = [np.arange(len(count)) - centre for count, centre in zip(counts, middle, strict=True)]
    covariance = np.diag([count @ offset**2 for count, offset in zip(counts, offsets, strict=True)])
    for (one, other), count in pairs.items():
        covariance[one, other] = covariance[other, one] = offsets[one] @ count @ offsets[other]
    return middle, covariance / voxels, voxels


def _six(matrix: NDArray[np.float64]) -> tuple[float, ...]:
    """Returns the upper triangle of a symmetric (3, 3) matrix, row by row."""
    return tuple(matrix[np.triu_indices(3)].tolist())


def _triple(values: NDArray[np.float64]) -> tuple[float, float, float]:
    return float(values[0]), float(values[1]), float(values[2])

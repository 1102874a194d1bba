"""Scores how well a mask agrees with a planner's contour. Axes are (S, A, R): superior, anterior, right."""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import binary_erosion, distance_transform_edt

from voxtell.engine import Spacing
from voxtell.phantom import Mask


@dataclass(frozen=True)
class Scores:
    """Holds the agreement of one mask with its reference."""

    dice: float
    dice_where_contoured: float
    """Dice in the slices that the reference has, so that where a structure begins and ends does not count."""
    hd95_mm: float
    """95th percentile of the distances between the two surfaces, in millimetres; infinite when a mask is empty."""
    volume_error: float
    """(found - reference) / reference."""
    ml: float
    """Volume found, in millilitres."""


def score(found: Mask, reference: Mask, spacing: Spacing) -> Scores:
    """Returns the scores of a mask against a reference that is not empty.

    Both are bool (S, A, R) on one grid; spacing is mm per voxel (S, A, R).
    """
    sizes = int(found.sum()), int(reference.sum())
    ml = sizes[0] * float(np.prod(spacing)) / 1000
    contoured = reference.any((1, 2))
    return Scores(
        dice=dice(found, reference),
        dice_where_contoured=dice(found[contoured], reference[contoured]),
        hd95_mm=hausdorff95(found, reference, spacing),
        volume_error=(sizes[0] - sizes[1]) / max(1, sizes[1]),
        ml=ml,
    )


def dice(one: Mask, other: Mask) -> float:
    """Returns twice the common voxels divided by the voxels of both bool (S, A, R) masks; 0 for two empty masks."""
    return 2 * int((one & other).sum()) / max(1, int(one.sum()) + int(other.sum()))


def hausdorff95(one: Mask, other: Mask, spacing: Spacing) -> float:
    """Returns the 95th percentile of the surface distances in both directions together, in millimetres.

    Both are bool (S, A, R) on one grid; spacing is mm per voxel (S, A, R).

    A surface is the voxels of a mask with a neighbour outside. Infinite when a mask is empty.
    """
    if not one.any() or not other.any():
        return float("inf")
    occupied = np.argwhere(one | other)
    box = tuple(slice(max(0, low - 1), high + 2) for low, high in zip(occupied.min(0), occupied.max(0), strict=True))
    surfaces = [mask[box] & ~binary_erosion(mask[box]) for mask in (one, other)]
    to_other, to_one = (distance_transform_edt(~surface, sampling=spacing) for surface in reversed(surfaces))
    return float(np.percentile(np.concatenate([to_other[surfaces[0]], to_one[surfaces[1]]]), 95))

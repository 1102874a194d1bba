"""Scores label maps as the CVPR 2025 challenge on text-guided segmentation does; arrays are (D, H, W).

Its evaluation casts labels to bytes, takes structures from the truth alone, and measures surfaces between voxels.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage, optimize
from skimage import measure

Labels = npt.NDArray[np.integer[Any]]
Mask = npt.NDArray[np.bool_]
Spacing = tuple[float, float, float]

TOLERANCE_MM = 2.0
CORNERS = 8  # voxels around a point between voxels
MATCHED = 0.5  # the least overlap (IoU) of two instances that are one


def score(truth: Labels, found: Labels, spacing: npt.ArrayLike, prompts: Mapping[str, Any]) -> dict[str, float]:
    """Returns "dsc" and "nsd", means over structures, NaN without any; of instances what `instances` returns.

    spacing: mm per voxel (D, H, W). prompts: label -> text, and "instance_label" 1 where instances are asked for.
    """
    truth, found = truth.astype(np.uint8), found.astype(np.uint8)
    d, h, w = np.asarray(spacing, float).tolist()
    if prompts["instance_label"]:
        return instances(truth, found)
    # The first value is left out, whatever it is.
    labels = [label for label in np.unique(truth)[1:] if str(label) in prompts]
    pairs = [(truth == label, found == label) for label in labels]
    overlaps = [2 * (one & other).sum() / (one.sum() + other.sum()) for one, other in pairs]
    surfaces = [surface_dice(one, other, (d, h, w)) for one, other in pairs]
    count = len(labels) or np.nan
    return {"dsc": float(sum(overlaps) / count), "nsd": float(sum(surfaces) / count)}


def surface_dice(one: Mask, other: Mask, spacing: Spacing, tolerance: float = TOLERANCE_MM) -> float:
    """Returns the share of two surfaces that lies within a tolerance (mm) of the other; 0 where one is empty."""
    if not one.any() or not other.any():
        return 0.0
    occupied = np.argwhere(one | other)
    box = tuple(slice(low, high + 1) for low, high in zip(occupied.min(0), occupied.max(0), strict=True))
    codes = [_codes(mask[box]) for mask in (one, other)]
    borders = [(code > 0) & (code < 2**CORNERS - 1) for code in codes]
    near = total = 0.0
    for code, border, beyond in zip(codes, borders, reversed(borders), strict=True):
        areas = _areas(spacing)[code[border]]
        distances = ndimage.distance_transform_edt(~beyond, sampling=spacing)[border]
        near += areas[distances <= tolerance].sum()
        total += areas.sum()
    return near / total


def _codes(mask: Mask) -> npt.NDArray[np.int64]:
    """Returns at every point between voxels which of the eight around it are set, one bit each."""
    padded = np.pad(mask, 1).astype(np.int64)
    d, h, w = (size - 1 for size in padded.shape)
    codes = np.zeros((d, h, w), np.int64)
    for bit, (a, b, c) in enumerate(np.ndindex(2, 2, 2)):
        codes |= padded[a : a + d, b : b + h, c : c + w] << bit
    return codes


@cache
def _areas(spacing: Spacing) -> npt.NDArray[np.float64]:
    """Returns for every code the area (mm2) of the surface through its eight voxels."""
    areas = np.zeros(2**CORNERS)
    for code in range(1, 2**CORNERS - 1):
        # With more than four set, the surface is that of the others.
        shown = code if code.bit_count() <= CORNERS // 2 else 2**CORNERS - 1 - code
        cube = np.array([shown >> bit & 1 for bit in range(CORNERS)], float).reshape(2, 2, 2)
        vertices, faces, *_ = measure.marching_cubes(cube, 0.5, spacing=spacing, method="lorensen")
        areas[code] = measure.mesh_surface_area(vertices, faces)
    return areas


def instances(truth: Labels, found: Labels) -> dict[str, float]:
    """Returns "tp", "fp", "fn" and "f1" of the instances found, and "dsc_tp", the mean Dice of those that match.

    A map of exactly two values is split into what touches by faces. Nothing found counts as nothing at all.
    """
    if len(np.unique(found)) == 2:
        found = ndimage.label(found)[0]
    one, other = (np.unique(labels, return_inverse=True)[1].reshape(labels.shape) for labels in (truth, found))
    if not other.max():
        return {"tp": 0, "fp": 0, "fn": 0, "f1": 0.0, "dsc_tp": 0.0}
    shape = one.max() + 1, other.max() + 1
    common = np.bincount((one * shape[1] + other).ravel(), minlength=shape[0] * shape[1]).reshape(shape)
    sizes = common.sum(1)[1:, None] + common.sum(0)[None, 1:]
    common = common[1:, 1:]
    overlaps = common / (sizes - common)
    worth = (overlaps >= MATCHED) + overlaps / (2 * max(1, min(overlaps.shape)))
    rows, columns = optimize.linear_sum_assignment(worth, maximize=True)
    same = overlaps[rows, columns] >= MATCHED
    dices = (2 * common / sizes)[rows, columns][same]
    tp, (fn, fp) = int(same.sum()), (count - int(same.sum()) for count in overlaps.shape)
    return {
        "tp": tp,
        "fp": fp,
        "fn": fn,
        "f1": 2 * tp / (2 * tp + fp + fn),
        "dsc_tp": float(dices.mean()) if tp else 0.0,
    }

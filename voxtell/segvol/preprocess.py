"""Turns a volume into what SegVol was trained on: intensities 0 to 1, the body alone, all of it in one window.

Nothing is resampled by spacing and nothing is turned: the order of axes is the caller's business.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from voxtell.errors import ImageError
from voxtell.two_way import Grid

OUTLIERS = (0.05, 99.95)  # percentiles of the foreground between which intensities are told apart


@dataclass(frozen=True)
class Prepared:
    """Holds a prepared volume.

    image: float32 (D, H, W), 0 to 1: the volume cut to its foreground. start: where it lies in the volume.
    zoomed: float32 in the shape of a window: all of `image`.
    """

    image: npt.NDArray[np.float32]
    start: Grid
    zoomed: npt.NDArray[np.float32]


def prepare(volume: npt.NDArray[np.number], window: Grid) -> Prepared:
    """Returns a volume (D, H, W) as the network sees it.

    Raises:
        ImageError: when all voxels have one value, so that there is nothing to tell apart.
    """
    values = np.asarray(volume, np.float32)
    foreground = values[values > values.mean()]
    # As float32, so that clipped voxels become exactly 0.
    low, high = np.percentile(foreground, OUTLIERS).astype(np.float32) if foreground.size else (values[0, 0, 0],) * 2
    if not low < high:
        raise ImageError("the image has one value in all of its foreground; there is nothing in it to segment")
    scaled = (values.clip(low, high) - low) / (high - low)
    inside = [np.flatnonzero((scaled > 0).any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)]
    start: Grid = (int(inside[0][0]), int(inside[1][0]), int(inside[2][0]))
    image = np.ascontiguousarray(scaled[tuple(slice(each[0], each[-1] + 1) for each in inside)])
    zoomed = functional.interpolate(torch.from_numpy(image)[None, None], size=window, mode="nearest-exact")
    return Prepared(image, start, zoomed[0, 0].numpy())

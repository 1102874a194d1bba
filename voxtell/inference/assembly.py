"""Turns blended logits into the caller's array: removes the padding, resamples to the caller's grid, converts.

The logits arrive a few rows at a time (see `tiling`); a row is one index of the first axis. `Rows` fills the caller's
array as they come, so that the logits of a whole volume are never held. Axes are (S, A, R): index 0 grows to
superior, 1 to anterior, 2 to right. P is the number of prompts.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from voxtell.errors import NumbersError
from voxtell.inference.preprocess import Field

Convert = Callable[[Tensor], Tensor]

CHUNK = 16  # rows of the caller's grid that are resampled at once


class Rows:
    """Fills `out` (P, S, A, R) from rows of logits that arrive in order.

    `out` is the part of the caller's array inside `field.crop`, of any dtype that `convert` produces: bool masks or
    float32 logits. Memory: one row of the field per prompt, and `CHUNK` rows of the caller's grid, both only where the
    field was resampled.
    """

    def __init__(self, field: Field, out: npt.NDArray[Any], convert: Convert) -> None:
        self._field = field
        self._out = out
        self._convert = convert
        self._taken = 0  # rows of the field without its padding
        self._done = 0  # rows of `out`
        self._last: list[Tensor | None] = [None] * len(out)
        self._below, self._above, self._share = _between(field.inside_shape[0], field.crop_shape[0])

    def take(self, rows: slice, logits: Tensor) -> None:
        """Converts the next rows of logits and writes those rows of `out` that can be computed now.

        Args:
            rows: which rows of the padded field these are; they follow the rows of the previous call without a gap.
            logits: float32 (P, rows, A', R') on any device, A' and R' being the axes of the padded field.

        Raises:
            NumbersError: when a logit is NaN or plus infinity. Thresholded, it would give an empty or a full mask.
        """
        depth, a, r = self._field.inside
        first, end = max(rows.start, depth.start), min(rows.stop, depth.stop)
        if first >= end:
            return
        for p, of_prompt in enumerate(logits):
            inside = of_prompt[first - rows.start : end - rows.start, a, r]
            if not _are_numbers(inside):
                raise NumbersError
            if self._field.resampled:
                self._resample(p, inside.cpu())
            else:
                start = first - depth.start
                self._out[p, start : start + len(inside)] = self._convert(inside).cpu().numpy()
        self._taken = end - depth.start
        self._done = int(np.searchsorted(self._above, self._taken))

    def _resample(self, p: int, inside: Tensor) -> None:
        """Interpolates linearly those rows of `out` whose two neighbours have arrived, for prompt number `p`.

        inside: float32 (rows, a, r) on the CPU, without padding. The last row is kept for the next call, where it is
        the lower neighbour.
        """
        last = self._last[p]
        block = inside if last is None else torch.cat((last, inside))
        base = self._taken + len(inside) - len(block)
        ready = int(np.searchsorted(self._above, self._taken + len(inside)))
        for start in range(self._done, ready, CHUNK):
            part = slice(start, min(start + CHUNK, ready))
            low, high = int(self._below[part][0]), int(self._above[part][-1])
            planes = functional.interpolate(
                block[low - base : high + 1 - base, None], size=self._field.crop_shape[1:], mode="bilinear"
            )[:, 0]
            below, above = planes[self._below[part] - low], planes[self._above[part] - low]
            self._out[p, part] = self._convert(torch.lerp(below, above, self._share[part])).numpy()
        self._last[p] = block[-1:].clone()


def _are_numbers(logits: Tensor) -> bool:
    """Returns False when a logit is NaN or plus infinity; minus infinity marks voxels without a window."""
    return bool((logits < torch.inf).all())


def _between(rows: int, wanted: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], Tensor]:
    """Returns, for each of `wanted` rows, its lower neighbour, its upper neighbour and the weight of the upper one.

    Both grids cover the same extent and have their samples at the centres of equal steps, as
    `functional.interpolate` places them with `align_corners=False`.

    Returns:
        int64 (wanted,), int64 (wanted,), and float32 (wanted, 1, 1), 0 to 1, to be broadcast over A and R.
    """
    at = np.maximum((np.arange(wanted) + 0.5) * rows / wanted - 0.5, 0)
    below = np.minimum(at.astype(np.int64), rows - 1)
    share = torch.from_numpy(at - below).float()[:, None, None]
    return below, np.minimum(below + 1, rows - 1), share

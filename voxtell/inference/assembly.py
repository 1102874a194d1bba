"""From blended rows to the caller's array: padding off, back onto its grid, converted; a few rows at a time."""

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
    """Takes the rows of a field in order and fills `out` (P, S, A, R), the field's crop of the caller's image."""

    def __init__(self, field: Field, out: npt.NDArray[Any], convert: Convert) -> None:
        self._field = field
        self._out = out
        self._convert = convert
        self._taken = 0  # rows of the field without its padding
        self._done = 0  # rows of `out`
        self._last: list[Tensor | None] = [None] * len(out)
        self._below, self._above, self._share = _between(field.inside_shape[0], field.crop_shape[0])

    def take(self, rows: slice, logits: Tensor) -> None:
        """Rows (P, rows, A', R') of the padded field, which follow those taken before.

        Raises `NumbersError` for a logit that is no number or plus infinity: it would be an empty mask, or a full one.
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
        """Linear interpolation of all rows of `out` whose neighbours are there; the last row is kept for the next."""
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
    """Whether no logit overflowed; minus infinity says that no window was run there."""
    return bool((logits < torch.inf).all())


def _between(rows: int, wanted: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], Tensor]:
    """For each wanted row over the same extent: the row below it, the row above it, and the share of the one above.

    Rows are centres of equal steps, as in `functional.interpolate` with `align_corners=False`.
    """
    at = np.maximum((np.arange(wanted) + 0.5) * rows / wanted - 0.5, 0)
    below = np.minimum(at.astype(np.int64), rows - 1)
    share = torch.from_numpy(at - below).float()[:, None, None]
    return below, np.minimum(below + 1, rows - 1), share

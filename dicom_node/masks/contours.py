"""Outlines a mask on one image plane as closed polygons, and fills polygons again.

The outline runs halfway between the centres of inner and outer pixels, a hundredth of a pixel nearer to the inner one
(marching squares at `LEVEL`): programs that round its points to whole pixels, as rt-utils and platipy do, then get the
outermost pixels of the mask, and at one half would get a rim around it. It is thinned within `TOLERANCE` pixels; no
pixel centre lies nearer to an outline than 0.34 pixels, so whoever fills the polygon gets the mask back pixel for
pixel. Points are (row, column) in pixels: (0, 0) is the centre of the first pixel.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
from contourpy import FillType, contour_generator
from numpy.typing import NDArray

LEVEL: Final = 0.51
TOLERANCE: Final = 0.25  # pixels: a thinned outline is nowhere farther from the full one


Points = NDArray[np.float64]  # (points, 2): row, column in pixels; closed, the first point is not repeated


@dataclass(frozen=True, eq=False)
class Polygon:
    """Holds one connected piece of a mask: its outer outline and those of its holes."""

    outer: Points
    holes: tuple[Points, ...]


def outline(mask: NDArray[np.bool_]) -> list[Polygon]:
    """Returns the connected pieces of a mask bool (rows, columns), thinned; [] for an empty one."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return []
    corner = np.array([rows[0] - 1, columns[0] - 1], dtype=np.float64)
    piece = np.pad(mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1], 1).astype(np.float64)
    generator = contour_generator(z=piece, fill_type=FillType.OuterOffset)
    polygons = []
    for points, offsets in zip(*generator.filled(LEVEL, 2.0), strict=True):
        rings = [thinned(points[start : stop - 1, ::-1] + corner) for start, stop in pairwise(map(int, offsets))]
        polygons.append(Polygon(rings[0], tuple(rings[1:])))
    return polygons


def thinned(ring: Points, tolerance: float = TOLERANCE) -> Points:
    """Returns as few points of a ring as keep it within `tolerance` pixels (Douglas and Peucker, 1973).

    All spans between two kept points are looked at in one step: of each span, the farthest point is kept if it is too
    far. A ring that would become a line is returned as it is.
    """
    closed = np.vstack([ring, ring[:1]])
    keep = np.zeros(len(closed), dtype=bool)
    keep[[0, int(np.linalg.norm(ring - ring[0], axis=1).argmax()), len(ring)]] = True
    while True:
        ends = np.flatnonzero(keep)
        span = np.repeat(np.arange(len(ends) - 1), np.diff(ends))  # of every point but the last
        distances = _squared_distances(closed[:-1], closed[ends[span]], closed[ends[span + 1]])
        worst = np.maximum.reduceat(distances, ends[:-1])[span]
        too_far = np.flatnonzero((distances == worst) & (worst > tolerance**2))
        if not len(too_far):
            break
        keep[too_far[np.unique(span[too_far], return_index=True)[1]]] = True
    thin = ring[keep[:-1]]
    return thin if len(thin) >= 3 else ring


def keyhole(polygon: Polygon) -> Points:
    """Returns outer outline and holes as one ring: a channel without width leads along a row to each hole and back.

    A channel starts at the hole's least column and ends at the first outline on that side. Holes are joined in the
    order of their least columns, so no channel crosses a hole that is not joined yet.
    """
    ring = polygon.outer
    for hole in sorted(polygon.holes, key=lambda points: float(points[:, 1].min())):
        turned = np.roll(hole, -int(hole[:, 1].argmin()), axis=0)
        row, column = turned[0]
        after = np.roll(ring, -1, axis=0)
        crosses = np.flatnonzero((ring[:, 0] <= row) != (after[:, 0] <= row))
        here, there = ring[crosses], after[crosses]
        columns = here[:, 1] + (row - here[:, 0]) / (there[:, 0] - here[:, 0]) * (there[:, 1] - here[:, 1])
        columns[columns >= column] = -np.inf
        nearest = int(columns.argmax())
        door = np.array([[row, columns[nearest]]])
        edge = int(crosses[nearest]) + 1
        ring = np.vstack([ring[:edge], door, turned, turned[:1], door, ring[edge:]])
    return ring


def filled(rings: Iterable[Points], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Returns the mask bool (rows, columns) of the pixels with centres in an odd number of rings: undoes `outline`.

    shape: (rows, columns). Every edge flips, on each row that it crosses, all pixels from the crossing on. Memory: one
    integer per pixel.
    """
    flips = np.zeros(shape[0] * (shape[1] + 1), dtype=np.intp)
    for ring in rings:
        after = np.roll(ring, -1, axis=0)
        first, last = (
            np.clip(np.ceil(ends), 0, shape[0]).astype(int)
            for ends in (np.minimum(ring[:, 0], after[:, 0]), np.maximum(ring[:, 0], after[:, 0]))
        )
        edge = np.repeat(np.arange(len(ring)), last - first)
        row = np.arange(len(edge)) - np.repeat(np.cumsum(last - first) - last, last - first)
        (down, across), (start, left) = (after - ring)[edge].T, ring[edge].T
        column = np.clip(np.ceil(left + (row - start) / down * across), 0, shape[1]).astype(int)
        flips += np.bincount(row * (shape[1] + 1) + column, minlength=len(flips))
    inside = np.cumsum(flips.reshape(shape[0], -1), axis=1) % 2
    return inside[:, :-1].astype(bool)


def _squared_distances(points: Points, start: Points, stop: Points) -> NDArray[np.float64]:
    """Returns the squared distance of each point to the segment from `start` to `stop`; all three are (points, 2)."""
    along, away = stop - start, points - start
    length = np.einsum("ij,ij->i", along, along)
    part = np.einsum("ij,ij->i", along, away) / np.where(length > 0, length, 1.0)
    off = away - np.minimum(np.maximum(part, 0.0), 1.0)[:, None] * along
    return np.asarray(np.einsum("ij,ij->i", off, off))

"""Contours: the outline of a mask on one image plane, as closed polygons.

The outline runs halfway between the centres of inner and outer pixels (marching squares at one half). It is thinned
within `TOLERANCE` pixels; no pixel centre lies nearer to an outline than 0.35 pixels, so whoever fills the polygon gets
the mask back pixel for pixel.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
from contourpy import FillType, contour_generator
from numpy.typing import NDArray

TOLERANCE: Final = 0.25  # pixels: a thinned outline is nowhere farther from the full one

Points = NDArray[np.float64]  # (points, 2): row, column in pixels; closed, the first point is not repeated


@dataclass(frozen=True, eq=False)
class Polygon:
    """One connected piece of a mask: its outer outline and those of its holes."""

    outer: Points
    holes: tuple[Points, ...]


def outline(mask: NDArray[np.bool_]) -> list[Polygon]:
    """The pieces of a mask bool (rows, columns), their points in pixels: (0, 0) is the centre of the first pixel."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return []
    corner = np.array([rows[0] - 1, columns[0] - 1], dtype=np.float64)
    piece = np.pad(mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1], 1).astype(np.float64)
    generator = contour_generator(z=piece, fill_type=FillType.OuterOffset)
    polygons = []
    for points, offsets in zip(*generator.filled(0.5, 2.0), strict=True):
        rings = [thinned(points[start : stop - 1, ::-1] + corner) for start, stop in pairwise(map(int, offsets))]
        polygons.append(Polygon(rings[0], tuple(rings[1:])))
    return polygons


def thinned(ring: Points, tolerance: float = TOLERANCE) -> Points:
    """The ring with as few points as keep it within `tolerance` of the full one (Douglas and Peucker, 1973)."""
    far = int(np.linalg.norm(ring - ring[0], axis=1).argmax())
    keep = np.zeros(len(ring) + 1, dtype=bool)
    keep[[0, far]] = True
    closed = np.vstack([ring, ring[:1]])
    spans = [(0, far), (far, len(ring))]
    while spans:
        start, stop = spans.pop()
        if stop - start < 2:
            continue
        distances = _squared_distances(closed[start + 1 : stop], closed[start], closed[stop])
        worst = int(distances.argmax())
        if distances[worst] > tolerance**2:
            keep[start + 1 + worst] = True
            spans += [(start, start + 1 + worst), (start + 1 + worst, stop)]
    thin = ring[keep[:-1]]
    return thin if len(thin) >= 3 else ring


def keyhole(polygon: Polygon) -> Points:
    """Outer outline and holes as one ring: a channel without width leads along a row to each hole and back.

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
    """The mask bool (rows, columns) of the pixels whose centres lie in an odd number of `rings`: undoes `outline`.

    Every edge flips, on each row that it crosses, all pixels from the crossing on.
    """
    flips = np.zeros((shape[0], shape[1] + 1), dtype=bool)
    for ring in rings:
        for (row, column), (to_row, to_column) in zip(ring, np.roll(ring, -1, axis=0), strict=True):
            low, high = sorted((row, to_row))
            crossed = np.arange(max(0, int(np.ceil(low))), min(shape[0], int(np.ceil(high))))
            if len(crossed):
                columns = column + (crossed - row) / (to_row - row) * (to_column - column)
                flips[crossed, np.clip(np.ceil(columns), 0, shape[1]).astype(int)] ^= True
    return np.logical_xor.accumulate(flips, axis=1)[:, :-1]


def _squared_distances(points: Points, start: Points, stop: Points) -> NDArray[np.float64]:
    """From each point to the segment between `start` and `stop`."""
    along, away = stop - start, points - start
    length = float(along @ along) or 1.0
    off = away - np.clip(away @ along / length, 0, 1)[:, None] * along
    return np.asarray((off * off).sum(axis=1))

"""Outlines give the mask back pixel for pixel, thinned, with holes as keyholes or rings of their own."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage
from skimage.draw import polygon2mask

from dicom_node.masks.contours import TOLERANCE, filled, keyhole, outline, thinned
from tests.support.examples import examples


def blobs(seed: int, smooth: float, size: int = 48) -> NDArray[np.bool_]:
    """A mask of blobs and holes; the smaller `smooth`, the more of them."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(size, size + 9)), smooth)
    return np.asarray(np.abs(noise) < 0.5 * noise.std())


@pytest.mark.long
@examples(40)
@given(seed=st.integers(0, 2**32 - 1), smooth=st.floats(0.3, 6))
def test_filling_the_outlines_gives_the_mask_back(seed: int, smooth: float) -> None:
    mask = blobs(seed, smooth)
    polygons = outline(mask)
    by_xor, by_keyhole = np.zeros_like(mask), np.zeros_like(mask)
    for polygon in polygons:
        by_keyhole ^= polygon2mask(mask.shape, keyhole(polygon))
        for ring in (polygon.outer, *polygon.holes):
            by_xor ^= polygon2mask(mask.shape, ring)
    assert np.array_equal(by_xor, mask)
    assert np.array_equal(by_keyhole, mask)
    assert np.array_equal(filled([keyhole(polygon) for polygon in polygons], mask.shape), mask)
    assert np.array_equal(filled([ring for one in polygons for ring in (one.outer, *one.holes)], mask.shape), mask)


@examples(40)
@given(seed=st.integers(0, 2**32 - 1), smooth=st.floats(0.3, 6))
def test_a_point_rounded_to_a_whole_pixel_is_a_pixel_of_the_mask(seed: int, smooth: float) -> None:
    """Some programs round points before they fill a contour: to the other side it would get a rim."""
    mask = blobs(seed, smooth)
    for polygon in outline(mask):
        for ring in (polygon.outer, *polygon.holes):
            rows, columns = np.rint(ring).astype(int).T
            assert mask[rows, columns].all()


def test_a_ring_has_one_hole_and_a_keyhole_encloses_the_area_between() -> None:
    rows, columns = np.indices((60, 60)) - 30
    radius = np.hypot(rows, columns)
    mask = (radius < 25) & (radius > 10)
    (polygon,) = outline(mask)
    assert len(polygon.holes) == 1
    ring = keyhole(polygon)
    across = np.roll(ring, -1, axis=0)
    area = abs(float((ring[:, 0] * across[:, 1] - across[:, 0] * ring[:, 1]).sum())) / 2
    assert area == pytest.approx(mask.sum(), rel=0.02)


def test_thinning_stays_within_its_tolerance_and_saves_points() -> None:
    angles = np.linspace(0, 2 * np.pi, 400, endpoint=False)
    circle = 50 + 40 * np.stack([np.sin(angles), np.cos(angles)], axis=1)
    thin = thinned(circle)
    assert len(thin) < 60
    for start, stop in zip(thin, np.roll(thin, -1, axis=0), strict=True):
        middle = (start + stop) / 2
        assert abs(np.linalg.norm(middle - 50) - 40) <= TOLERANCE + 1e-3


def test_one_pixel_and_the_rim_of_the_image_have_outlines() -> None:
    mask = np.zeros((5, 4), dtype=bool)
    assert outline(mask) == []
    mask[0, 0] = True
    (polygon,) = outline(mask)
    assert len(polygon.outer) >= 3
    assert np.allclose(polygon.outer.mean(axis=0), 0, atol=0.26)
    assert len(outline(np.ones((5, 4), dtype=bool))[0].outer) >= 4

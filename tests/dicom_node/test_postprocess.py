"""Finishing: what it promises about any mask, and distances that others measure."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from dicom_node.masks import postprocess
from tests.support.examples import examples
from tests.support.images import affine_of, rotation

Mask = NDArray[np.bool_]

EVERYWHERE = np.ones((3, 3, 3), bool)  # 26 neighbours


@st.composite
def scenes(draw: st.DrawFn) -> tuple[Mask, NDArray[np.float64]]:
    """A mask of blobs and crumbs on a grid of any voxel shape, oblique or with a tilted gantry."""
    shape = draw(st.tuples(st.integers(1, 7), st.integers(2, 16), st.integers(2, 16)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    noise = ndimage.gaussian_filter(rng.normal(size=shape), draw(st.floats(0, 2)))
    spacing = draw(st.tuples(*[st.floats(0.7, 5)] * 3))
    directions = rotation(*draw(st.tuples(*[st.integers(-40, 40)] * 3))) @ np.eye(3)[:, ::-1]
    affine = affine_of(directions, spacing, (10, -20, 30))
    affine[:3, 0] += affine[:3, 1] * draw(st.sampled_from([0, 0.3, -0.5]))
    return noise > draw(st.floats(-1, 2)) * noise.std(), affine


def within(one: Mask, other: Mask) -> bool:
    return not (one & ~other).any()


def distances(mask: Mask, affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """Millimetres from each voxel to the nearest of `mask`, from all pairs; infinite when it is empty."""
    places = np.indices(mask.shape).reshape(3, -1).T @ affine[:3, :3].T
    there = places[mask.ravel()]
    if not len(there):
        return np.full(mask.shape, np.inf)
    return np.array([np.linalg.norm(there - place, axis=1).min() for place in places]).reshape(mask.shape)


@examples(40)
@given(scenes(), st.floats(0.001, 2))
def test_components_are_those_of_scipy_and_finishing_twice_changes_nothing(
    scene: tuple[Mask, NDArray[np.float64]], least_ml: float
) -> None:
    mask, affine = scene
    labels, count = ndimage.label(mask, EVERYWHERE)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    largest = postprocess.largest_component(mask)
    assert largest.sum() == (sizes.max() if count else 0)
    assert within(largest, mask)
    assert np.array_equal(postprocess.largest_component(largest), largest)
    kept = postprocess.remove_small(mask, affine, least_ml)
    voxel_ml = abs(np.linalg.det(affine[:3, :3])) / 1000
    assert kept.sum() == sizes[sizes * voxel_ml >= least_ml].sum()
    assert np.array_equal(postprocess.remove_small(kept, affine, least_ml), kept)


@pytest.mark.long
@examples(40)
@given(scenes())
def test_holes_are_those_of_scipy_on_each_slice(scene: tuple[Mask, NDArray[np.float64]]) -> None:
    mask, _ = scene
    filled = postprocess.fill_holes(mask, affine_of(np.eye(3)[:, ::-1], (3, 1, 1), (0, 0, 0)))
    assert np.array_equal(filled, np.stack([ndimage.binary_fill_holes(plane) for plane in mask]))
    sagittal = postprocess.fill_holes(mask, affine_of(np.eye(3)[:, [0, 2, 1]], (3, 1, 1), (0, 0, 0)))
    planes = np.moveaxis(mask, 1, 0)
    assert np.array_equal(np.moveaxis(sagittal, 1, 0), np.stack([ndimage.binary_fill_holes(plane) for plane in planes]))


@examples(40)
@given(scenes(), st.floats(0.5, 8))
def test_a_margin_is_a_distance_on_any_grid(scene: tuple[Mask, NDArray[np.float64]], mm: float) -> None:
    mask, affine = scene
    grown, shrunk = postprocess.margin(mask, affine, mm), postprocess.margin(mask, affine, -mm)
    outside, inside = distances(mask, affine), distances(~mask, affine)
    sure = np.abs(outside - mm) > 1e-5
    assert np.array_equal(grown[sure], (outside <= mm)[sure])
    sure = np.abs(inside - mm) > 1e-5
    assert np.array_equal(shrunk[sure], (mask & (inside > mm))[sure])
    assert within(shrunk, mask)
    assert within(mask, grown)
    assert within(postprocess.margin(mask, affine, mm / 2), grown)
    assert within(mask, postprocess.margin(grown, affine, -mm))


@pytest.mark.parametrize("mm", [3.0, 7.5, 12.0])
def test_a_margin_is_the_distance_of_scipy_where_scipy_can_measure_it(mm: float) -> None:
    spacing = (3.0, 1.2, 0.9)
    rng = np.random.default_rng(3)
    mask = ndimage.gaussian_filter(rng.normal(size=(20, 60, 70)), 4) > 0.02
    affine = affine_of(rotation(12, -20, 5) @ np.eye(3)[:, ::-1], spacing, (0, 0, 0))
    assert np.array_equal(
        postprocess.margin(mask, affine, mm), ndimage.distance_transform_edt(~mask, spacing) <= mm + 1e-6
    )
    assert np.array_equal(
        postprocess.margin(mask, affine, -mm), ndimage.distance_transform_edt(mask, spacing) > mm + 1e-6
    )


@examples(40)
@given(scenes(), st.floats(0.5, 5), st.integers(0, 2**32 - 1))
def test_smoothing_keeps_the_order_of_masks_and_leaves_full_and_empty_alone(
    scene: tuple[Mask, NDArray[np.float64]], mm: float, seed: int
) -> None:
    mask, affine = scene
    part = mask & (np.random.default_rng(seed).random(mask.shape) > 0.3)
    assert within(postprocess.smooth(part, affine, mm), postprocess.smooth(mask, affine, mm))
    full = np.ones_like(mask)
    assert postprocess.smooth(full, affine, mm).all()
    assert not postprocess.smooth(~full, affine, mm).any()


def test_smoothing_is_the_gaussian_of_scipy_in_millimetres() -> None:
    spacing, mm = (3.0, 1.5, 1.0), 2.5
    mask = ndimage.gaussian_filter(np.random.default_rng(5).normal(size=(24, 50, 60)), (1, 2, 3)) > 0
    blurred = ndimage.gaussian_filter(mask.astype(float), mm / np.array(spacing), mode="nearest", truncate=6)
    done = postprocess.smooth(mask, affine_of(np.eye(3)[:, ::-1], spacing, (0, 0, 0)), mm)
    assert (done != (blurred >= 0.5)).mean() < 0.01
    assert done[blurred > 0.53].all()
    assert not done[blurred < 0.47].any()


def test_a_ball_stays_a_ball_under_a_tilted_gantry() -> None:
    """Grown by 6 mm from 10 mm, smoothed by 2 mm: the radius in patient millimetres in every direction."""
    affine = affine_of(np.eye(3)[:, ::-1], (2.0, 1.0, 1.0), (0, 0, 0))
    affine[:3, 0] += (0, 0.9, 0)  # 24 degrees
    places = np.moveaxis(np.indices((40, 90, 60)), 0, -1) @ affine[:3, :3].T
    offsets = places - places[20, 45, 30]
    ball = np.linalg.norm(offsets, axis=-1) <= 10
    grown = postprocess.smooth(postprocess.margin(ball, affine, 6), affine, 2)
    radius = np.linalg.norm(offsets, axis=-1)
    assert grown[radius < 14].all()
    assert not grown[radius > 16].any()


def test_what_lies_in_another_mask() -> None:
    one, two, everywhere = (np.zeros((2, 4, 4), bool) for _ in range(3))
    one[:, :2], two[:, 1:3], everywhere[:] = True, True, True
    assert postprocess.crop_to(one, everywhere).sum() == 16
    assert np.array_equal(postprocess.crop_to(one, two), one & two)

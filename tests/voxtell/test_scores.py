"""The figures of the model card: what they say of masks whose agreement is known beforehand."""

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import assume, given
from hypothesis.extra.numpy import arrays

from voxtell.training.measure import swapped
from voxtell.training.scores import Mask, hausdorff95, score

SPACING = (2.5, 4.0, 3.5)
masks = arrays(bool, (5, 6, 4))


def block(s: slice, a: slice, r: slice) -> Mask:
    mask = np.zeros((12, 12, 12), bool)
    mask[s, a, r] = True
    return mask


def as_image(mask: Mask) -> sitk.Image:
    image = sitk.GetImageFromArray(mask.astype(np.uint8))
    image.SetSpacing(SPACING[::-1])
    return image


@pytest.mark.long
@given(masks, masks)
def test_dice_is_that_of_simpleitk(found: Mask, reference: Mask) -> None:
    assume(found.any() and reference.any())
    judge = sitk.LabelOverlapMeasuresImageFilter()
    judge.Execute(as_image(reference), as_image(found))
    scores = score(found, reference, SPACING)
    assert scores.dice == pytest.approx(judge.GetDiceCoefficient())
    assert scores.volume_error == pytest.approx(found.sum() / reference.sum() - 1)
    assert scores.ml == pytest.approx(found.sum() * 0.035)


@given(masks, masks)
def test_the_distance_is_the_percentile_of_both_surfaces_distances_together(found: Mask, reference: Mask) -> None:
    assume(found.any() and reference.any())
    surfaces = [surface_mm(mask) for mask in (found, reference)]
    apart = np.linalg.norm(surfaces[0][:, None] - surfaces[1][None], axis=2)
    expected = np.percentile(np.concatenate([apart.min(1), apart.min(0)]), 95)
    assert hausdorff95(found, reference, SPACING) == pytest.approx(expected)


def surface_mm(mask: Mask) -> np.ndarray:
    """Voxels of the mask of which a neighbour across a face, or the volume's edge, is outside; in millimetres."""
    padded = np.pad(mask, 1)
    inside = np.all([np.roll(padded, step, axis) for axis in range(3) for step in (-1, 1)], axis=0)
    return np.argwhere((padded & ~inside)[1:-1, 1:-1, 1:-1]) * SPACING


def test_an_empty_mask_is_infinitely_far_and_agrees_in_nothing() -> None:
    reference = block(slice(3, 6), slice(3, 6), slice(3, 6))
    scores = score(np.zeros_like(reference), reference, SPACING)
    assert (scores.dice, scores.dice_where_contoured, scores.hd95_mm, scores.volume_error) == (0, 0, float("inf"), -1)


def test_on_the_contoured_slices_a_structure_that_is_only_too_long_agrees_wholly() -> None:
    reference = block(slice(4, 6), slice(3, 6), slice(3, 6))
    scores = score(block(slice(2, 10), slice(3, 6), slice(3, 6)), reference, SPACING)
    assert scores.dice == pytest.approx(2 * 2 / (2 + 8))
    assert scores.dice_where_contoured == 1
    too_short = score(block(slice(4, 5), slice(3, 6), slice(3, 6)), reference, SPACING)
    assert too_short.dice_where_contoured == too_short.dice == pytest.approx(2 / 3)


def test_sides_are_swapped_when_one_mask_meets_the_other_contour_more() -> None:
    right, left = (block(slice(3, 6), slice(3, 6), r) for r in (slice(8, 11), slice(1, 4)))
    nothing, both = np.zeros_like(right), right | left
    assert swapped(left, right, right, left)
    assert swapped(left, left, right, left)
    assert not swapped(right, left, right, left)
    assert not swapped(nothing, nothing, right, left)
    assert not swapped(both, both, right, left)

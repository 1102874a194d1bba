"""The body is found in any image by its values: tables and masks are not it, what lies in it is."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom_node.masks.body import body, threshold
from dicom_node.series import read_series
from tests.support.examples import examples
from tests.support.images import affine_of, axis_orders, series_files
from voxtell.phantom import head_and_neck

SHAPE, SPACING = (24, 80, 90), (5.0, 3.0, 3.0)  # slices, rows, columns


def affine(spacing: tuple[float, float, float] = SPACING) -> np.ndarray:
    """Slices grow to the head, rows to posterior, columns to the left."""
    return affine_of(np.eye(3)[:, ::-1], spacing, (0, 0, 0))


def ellipse(middle: tuple[float, float], half: tuple[float, float]) -> np.ndarray:
    rows, columns = np.ogrid[: SHAPE[1], : SHAPE[2]]
    return np.asarray(((rows - middle[0]) / half[0]) ** 2 + ((columns - middle[1]) / half[1]) ** 2 <= 1)


def patient(*, lung: bool = True, limb: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """HU of a trunk with a lung, an arm beside it, and the truth."""
    image = np.full(SHAPE, -1000, np.float32)
    truth = np.zeros(SHAPE, bool)
    truth |= ellipse((35, 40), (20, 28))
    if limb:
        truth |= ellipse((38, 80), (6, 6))
    image[truth] = 40
    if lung:
        image[:, ellipse((33, 30), (8, 8))] = -850
    return image, truth


def test_it_is_the_trunk_with_its_lungs_and_the_arm_without_table_and_mask() -> None:
    image, truth = patient()
    image[:, 58:60, 5:85] = 200  # a table of 6 mm right behind the back
    image[:, 14:15, 10:60] = 100  # a mask of 3 mm that touches the skin
    image[3, 70, 70] = 3000  # a screw
    found = body(image, affine(), hounsfield=True)
    assert np.count_nonzero(found & ~truth) < 0.01 * truth.sum()
    assert np.count_nonzero(truth & ~found) < 0.01 * truth.sum()


def test_an_image_in_another_unit_is_parted_from_its_background() -> None:
    _, truth = patient(lung=False)
    noise = np.random.default_rng(0)
    image = np.where(truth, noise.normal(300, 40, SHAPE), noise.rayleigh(8, SHAPE)).astype(np.float32)
    found = body(image, affine(), hounsfield=False)
    assert np.count_nonzero(found ^ truth) < 0.02 * truth.sum()
    assert 20 < threshold(image) < 200


def test_an_image_without_a_body_has_none() -> None:
    for values in (-1000.0, 0.0):
        empty = np.full((5, 20, 20), values, np.float32)
        assert not body(empty, affine(), hounsfield=values < 0).any()
        assert not body(empty, affine(), hounsfield=False).any()


@pytest.mark.parametrize("number", range(0, 48, 7))
def test_the_order_of_the_axes_does_not_matter(number: int) -> None:
    image, _ = patient()
    found = body(image, affine(), hounsfield=True)
    directions = list(axis_orders())[number]
    order = [int(np.abs(directions[:, axis]).argmax()) for axis in range(3)]
    turned = np.ascontiguousarray(image.transpose(order))
    spacing = tuple(SPACING[axis] for axis in order)
    moved = body(turned, affine()[:, [*order, 3]], hounsfield=True)
    assert np.count_nonzero(moved ^ found.transpose(order)) <= 0.005 * found.sum(), spacing


@examples(30)
@given(st.tuples(*[st.integers(1, 24)] * 3), st.tuples(*[st.floats(0.4, 12)] * 3), st.booleans(), st.randoms())
def test_any_shape_and_spacing_gives_a_mask_on_its_grid(
    shape: tuple[int, int, int], spacing: tuple[float, float, float], hounsfield: bool, random: object
) -> None:
    values = np.random.default_rng(random.getrandbits(32)).normal(-300, 500, shape).astype(np.float32)  # type: ignore[attr-defined]
    found = body(values, affine(spacing), hounsfield=hounsfield)
    assert (found.shape, found.dtype) == (shape, bool)


@pytest.mark.long
def test_on_a_real_ct_it_is_one_body_of_plausible_size_without_the_table(shared_data: Callable[..., Path]) -> None:
    series = read_series(series_files(shared_data("ct_abdomen_crlm1004", "dicom")))
    found = body(series.volume.array, series.affine, hounsfield=True)
    voxel_ml = np.prod(series.volume.spacing) / 1000
    assert 8_000 < found.sum() * voxel_ml < 14_000
    assert np.median(series.volume.array[found]) > 0
    rows = np.flatnonzero(found[20].any(axis=1))
    table = np.flatnonzero((series.volume.array[20] > -300).any(axis=1))
    assert rows.max() < table.max() - 5, "the table lies behind the back"


def test_of_the_phantom_it_holds_every_structure() -> None:
    phantom = head_and_neck(0, spacing=(5.0, 4.0, 4.0))
    found = body(phantom.image, affine(phantom.spacing), hounsfield=True)
    for name, mask in phantom.labels.items():
        assert np.count_nonzero(mask & ~found) <= 0.03 * mask.sum(), name

"""The challenge's metrics on shapes whose scores are known without a program."""

import math

import numpy as np
import pytest

from scripts.parity.challenge import _areas, instances, score, surface_dice

SEMANTIC = {"1": "liver", "2": "spleen", "instance_label": 0}


def cubes(*corners: tuple[int, int, int], size: int = 6) -> np.ndarray:
    labels = np.zeros((32, 32, 32), np.uint8)
    for label, (d, h, w) in enumerate(corners, start=1):
        labels[d : d + size, h : h + size, w : w + size] = label
    return labels


def test_the_truth_itself_scores_one() -> None:
    truth = cubes((2, 2, 2), (20, 20, 20))
    assert score(truth, truth, (1, 1, 1), SEMANTIC) == {"dsc": 1, "nsd": 1}


def test_structures_that_are_not_prompted_or_not_in_the_truth_do_not_count() -> None:
    truth = cubes((2, 2, 2), (20, 20, 20))
    found = cubes((2, 2, 2))
    assert score(truth, found, (1, 1, 1), {"1": "liver", "9": "cyst", "instance_label": 0}) == {"dsc": 1, "nsd": 1}
    assert score(truth, found, (1, 1, 1), SEMANTIC) == {"dsc": 0.5, "nsd": 0.5}
    assert math.isnan(score(truth, found, (1, 1, 1), {"9": "cyst", "instance_label": 0})["dsc"])


def test_the_first_value_of_a_truth_without_background_is_left_out() -> None:
    truth = np.ones((8, 8, 8), np.uint8)
    truth[:4] = 2
    found = np.where(truth == 2, 2, 0)
    assert score(truth, found, (1, 1, 1), SEMANTIC) == {"dsc": 1, "nsd": 1}


def test_a_surface_moved_within_the_tolerance_agrees_wholly_and_spacing_counts() -> None:
    one, other = cubes((4, 4, 4)) > 0, cubes((5, 4, 4)) > 0
    assert surface_dice(one, other, (2.0, 1, 1)) == 1
    assert surface_dice(one, other, (2.5, 1, 1)) < 1
    assert surface_dice(one, np.zeros_like(one), (1, 1, 1)) == 0


def test_the_surface_of_a_flat_border_is_a_face_of_the_voxel() -> None:
    areas = _areas((2.0, 3.0, 5.0))
    first_axis = sum(1 << bit for bit, (a, _, _) in enumerate(np.ndindex(2, 2, 2)) if a)
    assert areas[first_axis] == pytest.approx(3 * 5)
    assert areas[0] == areas[-1] == 0


def test_a_binary_map_is_split_into_instances_and_matched() -> None:
    truth = cubes((1, 1, 1), (1, 20, 1), (20, 1, 1))
    found = (cubes((1, 1, 1), (2, 20, 1), (20, 20, 20)) > 0).astype(np.uint8)
    scores = instances(truth, found)
    assert (scores["tp"], scores["fp"], scores["fn"]) == (2, 1, 1)
    assert scores["f1"] == pytest.approx(2 / 3)
    assert scores["dsc_tp"] == pytest.approx((1 + 5 / 6) / 2)


def test_nothing_found_counts_as_nothing_at_all() -> None:
    truth = cubes((1, 1, 1))
    assert instances(truth, np.zeros_like(truth)) == {"tp": 0, "fp": 0, "fn": 0, "f1": 0, "dsc_tp": 0}
    assert instances(np.zeros_like(truth), truth) == {"tp": 0, "fp": 1, "fn": 0, "f1": 0, "dsc_tp": 0}

"""The phantom is a person: organs lie where they lie in people, and a seed is one person on every grid."""

import numpy as np
import numpy.typing as npt
import pytest

from voxtell.phantom import CENTRE_MM, STRUCTURES, Phantom, head_and_neck

COARSE = (4.0, 4.0, 4.0)


@pytest.fixture(scope="module", params=[0, 1, 17])
def phantom(request: pytest.FixtureRequest) -> Phantom:
    return head_and_neck(request.param, COARSE)


def centre_mm(mask: npt.NDArray[np.bool_], spacing: tuple[float, float, float]) -> npt.NDArray[np.float64]:
    """Centre of a mask in the phantom's frame, millimetres (S, A, R)."""
    voxel = np.argwhere(mask).mean(0)
    return (voxel - (np.array(mask.shape) - 1) / 2) * spacing + CENTRE_MM


def test_every_structure_is_drawn_and_none_overlaps_another(phantom: Phantom) -> None:
    assert tuple(phantom.labels) == STRUCTURES
    assert all(mask.any() for mask in phantom.labels.values())
    assert sum(mask.astype(int) for mask in phantom.labels.values()).max() == 1


def test_right_is_where_r_is_larger_and_left_is_its_counterpart(phantom: Phantom) -> None:
    right, left = (centre_mm(phantom.labels[f"{side} parotid"], COARSE) for side in ("right", "left"))
    assert right[2] > 40
    assert left[2] < -40
    assert np.abs(right[:2] - left[:2]).max() < 25


def test_organs_stack_as_in_a_person(phantom: Phantom) -> None:
    at = {name: centre_mm(mask, COARSE) for name, mask in phantom.labels.items()}
    assert at["brainstem"][0] > at["mandible"][0] > at["larynx"][0] > at["esophagus"][0]
    assert at["mandible"][1] > at["larynx"][1] > at["spinal cord"][1]


def test_the_cord_runs_inside_bone(phantom: Phantom) -> None:
    cord = phantom.labels["spinal cord"]
    for level in np.flatnonzero(cord.any(axis=(1, 2)))[2:-6:6]:
        a, r = np.argwhere(cord[level]).mean(0).round().astype(int)
        in_front = phantom.image[level, a : a + 8, r]
        assert in_front.max() > 60  # a vertebra or a disc
        assert phantom.image[level, a, r] == pytest.approx(36, abs=90)


def test_cord_and_esophagus_end_at_the_sternal_notch_which_a_window_around_them_shows(phantom: Phantom) -> None:
    """A network can only learn where labels end if that can be seen there."""
    front = np.argwhere(phantom.labels["esophagus"])[:, 1].max()
    middle = phantom.image.shape[2] // 2
    bone = (phantom.image[:, front:, middle - 10 : middle + 10] > 180).sum(axis=(1, 2))
    for name in ("spinal cord", "esophagus"):
        lowest = np.flatnonzero(phantom.labels[name].any(axis=(1, 2)))[0]
        assert lowest > 0  # not at the edge of the image, where a mask is to be reviewed
        assert bone[lowest - 2] > 40
        assert bone[lowest + 3] < 10


def test_a_gland_does_not_lie_in_front_of_the_jaw_bone_on_its_inner_side(phantom: Phantom) -> None:
    jaw = centre_mm(phantom.labels["mandible"], COARSE)[1]
    for side, out in (("right parotid", 1), ("left parotid", -1)):
        voxels = (np.argwhere(phantom.labels[side]) - (np.array(phantom.image.shape) - 1) / 2) * COARSE + CENTRE_MM
        assert not ((voxels[:, 1] > jaw) & (out * voxels[:, 2] < 44)).any()


def test_densities_are_those_of_ct(phantom: Phantom) -> None:
    def typical(name: str) -> float:
        return float(np.median(phantom.image[phantom.labels[name]]))

    assert phantom.image.dtype == np.float32
    assert phantom.image.min() >= -1024
    assert float(np.median(phantom.image)) < -900  # most of the field is air
    assert 0 < typical("brainstem") < 70
    assert -60 < typical("right parotid") < 60
    assert typical("mandible") > 300


def test_a_seed_is_one_person_on_every_grid() -> None:
    fine, coarse = head_and_neck(3, (4, 3, 3)), head_and_neck(3, (5, 4, 4))
    for name in STRUCTURES:
        assert np.allclose(
            centre_mm(fine.labels[name], fine.spacing), centre_mm(coarse.labels[name], coarse.spacing), atol=3
        )


def test_the_same_seed_gives_the_same_voxels_and_another_seed_another_person() -> None:
    first, again, other = (head_and_neck(seed, (8, 8, 8)) for seed in (5, 5, 6))
    assert np.array_equal(first.image, again.image)
    assert not np.array_equal(first.labels["mandible"], other.labels["mandible"])


def test_the_grid_is_the_one_asked_for() -> None:
    assert head_and_neck(0, (6, 6, 6), (20, 30, 40)).image.shape == (20, 30, 40)

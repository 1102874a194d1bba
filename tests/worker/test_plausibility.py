"""Plausibility: what is not as the protocol expects is said in a sentence with the figure; nothing else is."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from dicom_node.masks.packed import Masks
from dicom_node.objects.common import looked_for
from dicom_node.series import read_series
from dicom_node.volume import to_network
from tests.support.images import affine_of, rotation
from voxtell.nifti import read_image
from worker.job_spec import Plausible, Prompt
from worker.results.plausibility import grid_reviews, reviews, shows_trunk_alone, tissue_reviews
from worker.results.structures import structures_of

SHAPE = (6, 20, 30)
AFFINE = affine_of(np.eye(3)[:, ::-1], (3.0, 1.0, 1.0), (0, 0, 0))  # columns grow to the patient's left
SAR = np.array([[0.0, 0.0, -1.0], [0.0, -1.0, 0.0], [1.0, 0.0, 0.0]])


def said(
    expect: Plausible, columns: tuple[int, int], other: tuple[int, int] = (12, 15), *, rows: int = 15
) -> list[str]:
    """What is said of a structure in these columns beside another one in those."""
    masks: NDArray[np.bool_] = np.zeros((2, *SHAPE), dtype=bool)
    masks[0, 1:5, 5:rows, slice(*columns)] = True
    masks[1, 1:5, 5:15, slice(*other)] = True
    packed = Masks.of(masks)
    prompts = [Prompt(text="liver", expect=expect), Prompt(text="spleen")]
    return [reason.sentence for reason in reviews(structures_of(packed, prompts, (), AFFINE), packed)]


def test_a_volume_out_of_its_range_is_said_with_both() -> None:
    assert said(Plausible(volume_ml=(0.5, 2.0)), (3, 13)) == []  # 1.2 ml
    assert said(Plausible(volume_ml=(2.0, 3.0)), (3, 13)) == ["liver holds 1.2 ml, expected are 2 to 3 ml."]
    assert said(Plausible(volume_ml=(0.1, 1.0)), (3, 13)) == ["liver holds 1.2 ml, expected are 0.1 to 1 ml."]
    assert said(Plausible(volume_ml=(2.0, 3.0)), (3, 3)) == ["liver was not found, expected are 2 to 3 ml."]
    assert said(Plausible(volume_ml=(0.0, 3.0)), (3, 3)) == [], "nothing is as little as may be expected"


def test_a_structure_on_the_wrong_side_is_said() -> None:
    assert said(Plausible(right_of="spleen"), (2, 6)) == []
    assert said(Plausible(left_of="spleen"), (20, 26)) == []
    (wrong,) = said(Plausible(left_of="spleen"), (2, 6))
    assert wrong == "liver should lie to the left of spleen, its centre lies 9.5 mm to the right of it."
    (wrong,) = said(Plausible(right_of="spleen"), (20, 26))
    assert wrong == "liver should lie to the right of spleen, its centre lies 9.5 mm to the left of it."
    assert said(Plausible(left_of="spleen"), (5, 5)) == [], "what was not found lies on no side"
    (unknown,) = said(Plausible(left_of="spleen"), (5, 9), other=(5, 5))
    assert unknown == "liver should lie to the left of spleen, which was not found."


def test_what_the_model_never_learnt_is_neither_found_nor_absent() -> None:
    """A model of the head's organs gives an empty mask for the liver, also where there is one."""
    masks = Masks.of(np.zeros((2, *SHAPE), dtype=bool))
    structures = structures_of(masks, [Prompt(text="liver"), Prompt(text="voice box")], (), AFFINE, ["liver"])
    assert [(reason.label, reason.sentence) for reason in reviews(structures, masks)] == [
        ("liver", "liver is not among the structures that the model was trained on: its mask says nothing.")
    ]
    assert looked_for(one.region for one in structures) == "Looked for, not found: voice box."


def test_touching_the_edge_of_the_volume_is_said_with_the_edge() -> None:
    assert said(Plausible(inside_view=True), (1, 29)) == []
    assert said(Plausible(inside_view=True), (0, 9)) == ["liver touches the edge of the scanned volume (first column)."]
    assert said(Plausible(inside_view=True), (5, 30), rows=20) == [
        "liver touches the edge of the scanned volume (last row, last column)."
    ]
    assert said(Plausible(), (0, 30), rows=20) == [], "nobody asked"


@pytest.mark.parametrize(
    ("turn", "spacing", "coarsest", "words"),
    [
        ((0, 0, 0), (3.0, 1.0, 1.0), None, None),
        ((20, 10, 0), (5.0, 0.4, 0.4), None, None),
        ((0, 0, 40), (3.0, 1.0, 1.0), None, "turned by 40 degrees from the patient's anterior axis"),
        ((0, 0, 0), (8.0, 1.0, 1.0), None, "far from the 0.3 to 6 mm"),
        ((0, 0, 0), (3.0, 0.1, 0.1), None, "far from the 0.3 to 6 mm"),
        ((0, 0, 0), (3.0, 0.1, 0.1), (3.7, 5.5, 5.5), None),
        ((0, 0, 0), (8.0, 1.0, 1.0), (3.7, 5.5, 5.5), "far coarser than the 3.7 x 5.5 x 5.5 mm"),
    ],
)
def test_a_grid_that_the_network_does_not_know_is_said(
    turn: tuple[float, ...],
    spacing: tuple[float, float, float],
    coarsest: tuple[float, float, float] | None,
    words: str | None,
) -> None:
    found = [one.sentence for one in grid_reviews(affine_of(rotation(*turn) @ SAR, spacing, 0), spacing, coarsest)]
    assert (len(found), all(words in one for one in found)) == (1, True) if words else found == []


def test_a_wrong_volume_at_an_end_of_the_scan_may_be_cut() -> None:
    masks = np.zeros((1, *SHAPE), dtype=bool)
    masks[0, 3:, 5:15, 5:15] = True
    packed = Masks.of(masks)
    prompts = [Prompt(text="liver", expect=Plausible(volume_ml=(2.0, 3.0)))]
    (reason,) = reviews(structures_of(packed, prompts, (), AFFINE), packed)
    assert reason.sentence == (
        "liver holds 0.9 ml, expected are 2 to 3 ml; it touches the last slice and may go on beyond."
    )


def in_tissue(text: str, hounsfield: float, *, trunk_alone: bool = False) -> list[str]:
    """What is said of a structure that lies in these values."""
    masks = np.zeros((1, *SHAPE), dtype=bool)
    masks[0, 1:5, 5:15, 5:15] = True
    packed = Masks.of(masks)
    structures = structures_of(packed, [Prompt(text=text)], (), AFFINE)
    values = np.full(SHAPE, hounsfield, np.float32)
    return [reason.sentence for reason in tissue_reviews(structures, packed, values, trunk_alone=trunk_alone)]


@pytest.mark.parametrize(
    ("text", "hounsfield", "said_of_it"),
    [
        (
            "brainstem",
            -990,
            "brainstem lies in the air: half of its voxels are below -990 HU, so it is something else.",
        ),
        ("brainstem", 30, ""),
        ("left lung", -850, ""),
        ("nodule in the left lower lobe", -700, ""),
        ("liver", -850, "liver lies in the air"),
        ("liver", -100, ""),
    ],
)
def test_what_lies_in_the_air_is_said_unless_it_holds_air(text: str, hounsfield: float, said_of_it: str) -> None:
    found = in_tissue(text, hounsfield)
    assert [sentence.startswith(said_of_it) for sentence in found] == ([True] if said_of_it else [])


@pytest.mark.parametrize("text", ["larynx", "left parotid", "brainstem", "mandible", "optic chiasm"])
def test_what_lies_in_the_head_is_said_in_a_trunk(text: str) -> None:
    assert in_tissue(text, 30) == []
    (sentence,) = in_tissue(text, 30, trunk_alone=True)
    assert sentence.startswith(f"{text} lies in the head or neck, and the image shows neither")


@pytest.mark.parametrize("text", ["liver", "spinal cord", "esophagus", "thing without a name"])
def test_what_a_trunk_may_hold_is_not(text: str) -> None:
    assert in_tissue(text, 30, trunk_alone=True) == []


@pytest.mark.parametrize("name", ["train_pt_100_ct.nii.gz", "train_pt_154_ct.nii.gz", "validation_pt_203_ct.nii.gz"])
def test_a_real_head_and_neck_is_no_trunk(name: str, shared_data: Callable[..., Path]) -> None:
    image = read_image(shared_data("openkbp", name))
    assert not shows_trunk_alone(image.array, image.spacing)


@pytest.mark.long
def test_real_abdomens_are(ct_paths: list[Path], j2k_paths: list[Path], shared_data: Callable[..., Path]) -> None:
    for paths in (ct_paths, j2k_paths):
        network = to_network(read_series(paths))
        assert shows_trunk_alone(network.array, network.spacing)
    image = read_image(shared_data("ct_totalseg_nifti", "ct_small.nii.gz"))
    assert shows_trunk_alone(image.array, image.spacing)
    assert not shows_trunk_alone(np.full((4, 8, 8), -1000, np.float32), (3, 3, 3)), "air is no body"

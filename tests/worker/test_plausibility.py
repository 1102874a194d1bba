"""Plausibility: what is not as the protocol expects is said in a sentence with the figure; nothing else is."""

import numpy as np
import pytest
from numpy.typing import NDArray

from dicom_node.masks.packed import Masks
from dicom_node.objects.common import looked_for
from tests.support.images import affine_of, rotation
from worker.job_spec import Plausible, Prompt
from worker.results.plausibility import grid_reviews, reviews
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

"""A small model says what it was never taught: its empty mask for that is no finding."""

import numpy as np
import pytest

import voxtell
from voxtell.phantom import head_and_neck
from voxtell.training.vocabulary import builtin, held_out

HELD_OUT = held_out()[0]


@pytest.fixture(scope="module")
def bundled() -> voxtell.Segmenter:
    return voxtell.load()


def test_it_knows_its_structures_in_the_words_that_people_use(bundled: voxtell.Segmenter) -> None:
    unseen = [p for words in HELD_OUT.values() for p in (*words.phrasings, *words.typos)]
    unions = [p for union in builtin().unions.values() for p in union.prompts]
    assert bundled.unlearnt([*bundled.info.knows, *builtin().structures, *unions, *unseen]) == []


def test_it_knows_its_structures_by_the_descriptions_that_it_was_trained_on(bundled: voxtell.Segmenter) -> None:
    assert bundled.unlearnt(builtin().phrasings) == []


@pytest.mark.parametrize(
    "other",
    [
        "facial nerve",
        "recurrent laryngeal nerve",
        "nerve root",
        "costal cartilage",
        "articular cartilage",
        "parotid duct",
        "feeding tube",
        "brain stem glioma",
        "tumour in the larynx",
        "spinal cord PRV",
        "speech area",
        "brain",
        "trachea",
        "vertebrae C4",
    ],
)
def test_what_shares_a_word_with_a_structure_is_not_taken_for_it(bundled: voxtell.Segmenter, other: str) -> None:
    """A facial nerve was taken for the spinal cord, a costal cartilage for the larynx, and nothing said so."""
    assert bundled.unlearnt([other]) == [other]


def test_it_says_what_it_does_not_know_in_the_order_asked(bundled: voxtell.Segmenter) -> None:
    others = ["liver", "Left Knee", "thyroid", "temporal bone", "optic nerve", "submandibular gland", "spinal canal"]
    assert bundled.unlearnt(["Larynx", *others, "left parotid"]) == others
    assert bundled.unlearnt([]) == []


def test_negative_prompts_of_the_training_are_not_known(bundled: voxtell.Segmenter) -> None:
    assert len(bundled.unlearnt(builtin().negatives)) == len(builtin().negatives)


def test_a_model_that_lists_nothing_is_asked_for_anything(segmenter: voxtell.Segmenter) -> None:
    assert segmenter.info.knows == ()
    assert segmenter.unlearnt(["liver"]) == []


@pytest.mark.long
def test_what_is_closest_to_what_it_refuses_gets_an_empty_mask_in_its_place(bundled: voxtell.Segmenter) -> None:
    """The network drew 38 ml for the insulin; a repeated prompt and one that is drawn stand around it."""
    image = head_and_neck(0, (4.0, 4.0, 4.0)).image
    asked = ["the gland behind the stomach that makes insulin", "mandible", "liver", "mandible", "larynx", "liver"]
    masks = bundled(image, asked, spacing=(4.0, 4.0, 4.0))
    assert [bool(mask.any()) for mask in masks] == [False, True, False, True, True, False]
    assert np.array_equal(masks[1], masks[3])
    assert np.array_equal(masks[1:2], bundled(image, ["mandible"], spacing=(4.0, 4.0, 4.0)))
    assert np.isneginf(bundled.logits(image, asked, spacing=(4.0, 4.0, 4.0))[[0, 2, 5]]).all()


def test_nothing_is_computed_where_every_prompt_is_refused(
    bundled: voxtell.Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundled, "_runner", None)
    image = head_and_neck(0, (6.0, 6.0, 6.0)).image
    assert not bundled(image, ["liver", "spleen"], spacing=(6.0, 6.0, 6.0)).any()

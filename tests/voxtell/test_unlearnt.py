"""A small model says what it was never taught: its empty mask for that is no finding."""

import pytest

import voxtell
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

"""A model's card after a training: its results carry its name and call everything else unknown."""

from dataclasses import replace

from voxtell.card import Card
from voxtell.model.plans import Plans
from voxtell.training.architecture import BUNDLED, bundled_plans
from voxtell.training.cards import NAME_LENGTH, fine_tuned, trained
from voxtell.training.dataset import Dataset
from voxtell.training.vocabulary import Vocabulary

WORDS = Vocabulary(
    {"thyroid": ("thyroid", "thyroid gland"), "larynx": ("larynx", "voice box")}, {}, ("liver", "trachea")
)
SITE = Dataset("our contours", "internal", "radiotherapy department", {}, (), ())


def test_a_new_model_knows_what_the_data_set_has_and_says_where_it_comes_from() -> None:
    card = trained(BUNDLED, SITE, WORDS)
    assert (card.name, card.licence) == ("VoxTell trained on our contours", "internal")
    assert "head and neck" not in card.notice
    assert card.knows == ("thyroid", "larynx")
    assert card.taught == ("thyroid gland", "voice box")
    assert card.refused == ("liver", "trachea")


def test_a_fine_tuned_model_knows_the_site_s_structures_beside_its_own() -> None:
    before = Card("small", licence="MIT", knows=("larynx", "mandible"), taught=("jaw",), refused=("liver", "Thyroid"))
    card = fine_tuned(before, SITE, WORDS)
    assert (card.name, card.licence) == (
        "small fine-tuned on our contours",
        "MIT; fine-tuned on our contours, internal",
    )
    assert card.knows == ("larynx", "mandible", "thyroid")
    assert card.taught == ("jaw", "thyroid gland", "voice box")
    assert card.refused == ("liver", "trachea")  # the thyroid is no longer refused


def test_fine_tuning_once_more_does_not_make_the_name_longer() -> None:
    once = fine_tuned(BUNDLED, SITE, WORDS)
    assert fine_tuned(once, replace(SITE, name="more contours"), WORDS) == once
    assert len(fine_tuned(BUNDLED, replace(SITE, name="x" * 99), WORDS).name) == NAME_LENGTH


def test_a_model_that_is_asked_for_anything_stays_one_and_keeps_its_notice() -> None:
    card = fine_tuned(Card(), SITE, WORDS)
    assert card.name == "VoxTell fine-tuned on our contours"
    assert (card.notice, card.knows, card.taught, card.refused) == (Card().notice, (), (), ())


def test_the_words_come_back_from_the_plans_of_a_model() -> None:
    plans = bundled_plans()
    assert plans.card.taught
    assert plans.card.refused
    assert Plans.parse(plans.document()) == plans

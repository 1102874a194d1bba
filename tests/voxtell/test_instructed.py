"""A model's card says what it was taught: its results call everything else unknown."""

from dataclasses import replace

from voxtell.plans import Card, Plans
from voxtell.training.architecture import bundled_plans, instructed
from voxtell.training.vocabulary import Vocabulary

SITE = Vocabulary(
    {"thyroid": ("thyroid", "thyroid gland"), "larynx": ("larynx", "voice box")}, {}, ("liver", "trachea")
)


def test_a_new_model_knows_what_the_data_set_has_and_nothing_else() -> None:
    card = instructed(bundled_plans().card, SITE, new=True)
    assert card.knows == ("thyroid", "larynx")
    assert card.taught == ("thyroid gland", "voice box")
    assert card.refused == ("liver", "trachea")


def test_a_fine_tuned_model_knows_the_site_s_structures_beside_its_own() -> None:
    bundled = Card(knows=("larynx", "mandible"), taught=("jaw",), refused=("liver", "Thyroid"))
    card = instructed(bundled, SITE, new=False)
    assert card.knows == ("larynx", "mandible", "thyroid")
    assert card.taught == ("jaw", "thyroid gland", "voice box")
    assert card.refused == ("liver", "trachea")  # the thyroid is no longer refused


def test_a_model_that_is_asked_for_anything_stays_one() -> None:
    published = Card()
    assert instructed(published, SITE, new=False) == published


def test_the_words_come_back_from_the_plans_of_a_model() -> None:
    plans = replace(bundled_plans(), card=instructed(bundled_plans().card, SITE, new=True))
    assert Plans.parse(plans.document()) == plans

"""The text space: what people mean alike lies close, what they mean differently lies far."""

import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from voxtell.text.lexical import NgramEncoder, closest_word, edit_distance, fold
from voxtell.training.vocabulary import builtin, held_out, slip

ENCODER = NgramEncoder(256)
NAMES = tuple(builtin().structures)


def likeness(one: str, other: str) -> float:
    a, b = ENCODER.embed([one, other])
    return float(torch.cosine_similarity(a, b, dim=0))


@pytest.mark.parametrize(
    ("prompt", "meant"),
    [
        ("voice box", "larynx"),
        ("Speiseröhre", "esophagus"),
        ("oesophagus", "esophagus"),
        ("truncus encephali", "brainstem"),
        ("Medulla spinalis", "spinal cord"),
        ("jawbone", "mandible"),
        ("Parotid_R", "right parotid"),
        ("LeftParotid", "left parotid"),
        ("leftparotid", "left parotid"),
        ("the parotid gland on the right side", "right parotid"),
        ("rigth partoid", "right parotid"),
        ("brian stem", "brainstem"),
        ("both parotids", "parotid glands"),
    ],
)
def test_another_way_of_saying_it_is_the_same_point(prompt: str, meant: str) -> None:
    assert likeness(prompt, meant) > 0.95


@pytest.mark.parametrize("prompt", ["left knee", "liver", "prostate", "heart apex", "submandibular gland", "qwertz"])
def test_an_unrelated_prompt_is_far_from_every_structure(prompt: str) -> None:
    assert max(likeness(prompt, name) for name in NAMES) < 0.35


def test_sides_are_told_apart() -> None:
    assert likeness("right parotid", "left parotid") < 0.5
    assert likeness("right parotid", "parotid glands") < 0.6


@pytest.mark.parametrize(
    ("prompt", "meant", "landmark"),
    [
        ("a muscular tube behind the windpipe that carries food down", "esophagus", "trachea"),
        ("the nerves inside the backbone", "spinal cord", "vertebra"),
        ("tumour in the larynx", "tumour", "larynx"),
        ("lymph node in front of the left parotid", "lymph node", "left parotid"),
        ("gland with saliva, beside the upper teeth", "parotid", "teeth"),
    ],
)
def test_what_lies_beside_a_landmark_is_not_the_landmark(prompt: str, meant: str, landmark: str) -> None:
    assert likeness(prompt, meant) > likeness(prompt, landmark) + 0.2


def test_a_name_after_a_word_of_place_is_meant_where_nothing_else_can_be() -> None:
    assert likeness("inside the larynx", "larynx") > 0.9


def test_only_articles_and_sides_keep_a_word_of_place_to_a_name() -> None:
    assert likeness("in this CT segment the larynx", "larynx") > 0.95


@given(name=st.sampled_from(NAMES), seed=st.integers(0, 10**6))
def test_case_word_order_and_stop_words_do_not_matter(name: str, seed: int) -> None:
    rng = random.Random(seed)
    words = [*name.split(), rng.choice(["the", "of", "please", "contour"])]
    rng.shuffle(words)
    typed = rng.choice((str.upper, str.lower, str.title))(" ".join(words))
    assert likeness(typed, name) > 0.99


@settings(deadline=None)
@given(name=st.sampled_from(NAMES), seed=st.integers(0, 10**6))
def test_one_slip_in_a_name_stays_with_it(name: str, seed: int) -> None:
    misspelt = slip(name, random.Random(seed))
    others = [other for other in NAMES if other != name]
    assert likeness(misspelt, name) > max(likeness(misspelt, other) for other in others)


@given(st.text(max_size=60))
def test_any_text_has_a_finite_vector_of_one_length(text: str) -> None:
    vector = ENCODER.embed([text])[0]
    assert vector.dtype == torch.float32
    assert bool(torch.isfinite(vector).all())
    assert float(vector.norm()) == pytest.approx(16, abs=1e-3) or float(vector.norm()) == 0


def test_every_held_out_phrasing_lies_nearest_to_its_structure() -> None:
    structures, _ = held_out()
    for name, words in structures.items():
        for prompt in (*words.phrasings, *words.typos):
            assert max(NAMES, key=lambda other: likeness(prompt, other)) == name, prompt


def test_the_vector_is_the_same_on_every_machine() -> None:
    frozen = [-1.45216, -0.55471, 1.52838]
    assert ENCODER.embed(["larynx"])[0, :3].tolist() == pytest.approx(frozen, abs=1e-4)


def test_words_are_folded_to_one_form() -> None:
    assert fold("Glnd_Parotid_L, ESÓPHAGUS (Larynges)")[:3] == ["glnd", "parotid", "l"]
    assert fold("BrainStem") == ["brain", "stem"]


def test_a_word_is_corrected_only_when_it_is_near() -> None:
    assert closest_word("larnyx") == "larynx"
    assert closest_word("zygomatic") == "zygomatic"
    assert closest_word("l3") == "l3"


@given(st.text("abc", max_size=6), st.text("abc", max_size=6))
def test_edit_distance_is_symmetric_and_zero_only_for_equal_words(one: str, other: str) -> None:
    assert edit_distance(one, other) == edit_distance(other, one)
    assert (edit_distance(one, other) == 0) == (one == other)
    assert abs(len(one) - len(other)) <= edit_distance(one, other) <= max(len(one), len(other))

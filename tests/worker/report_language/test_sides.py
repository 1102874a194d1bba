"""Left stays left: the side of every finding, wherever in the sentence or title it stands."""

import itertools

import pytest

from worker.report_language import prompts_from_text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Right nodule and left effusion.", [("right nodule", "right"), ("left effusion", "left")]),
        ("Right kidney normal, left kidney contains a cyst.", [("cyst in the left kidney", "left")]),
        ("The left lung is clear. There is a nodule on the right.", [("nodule on the right", "right")]),
        ("Nodule in the right lung; left lung is clear.", [("nodule in the right lung", "right")]),
        (
            "In the right lung, a nodule is seen, and in the left lung, consolidation.",
            [("nodule in the right lung", "right"), ("consolidation in the left lung", "left")],
        ),
        ("Left lower lobe: consolidation.", [("consolidation in the left lower lobe", "left")]),
        ("Left lung: mass in the upper lobe.", [("mass in the upper lobe of the left lung", "left")]),
        ("RIGHT: small effusion.", [("right effusion", "right")]),
        ("Large left and small right pleural effusions.", [("left and right pleural effusions", "bilateral")]),
        ("Right pleural effusion is larger than left.", [("right pleural effusion", "right")]),
        ("Opacity in both lungs, right greater than left.", [("opacity in both lungs", "bilateral")]),
        ("Lesion in the liver abutting the right kidney.", [("lesion in the liver", "")]),
        ("The left kidney is absent; right kidney has a stone.", [("stone in the right kidney", "right")]),
        ("Normal right kidney. Left kidney shows hydronephrosis.", [("hydronephrosis in the left kidney", "left")]),
    ],
)  # fmt: skip
def test_the_side_is_the_side_of_the_finding(text: str, expected: list[tuple[str, str]]) -> None:
    assert [(prompt.prompt, prompt.side) for prompt in prompts_from_text(text).prompts] == expected


PLACED = (
    ("nodule RUL", "nodule in the RUL"),
    ("nodule in the left lung", "nodule in the left lung"),
    ("cyst in the liver", "cyst in the liver"),
    ("stone left kidney", "stone in the left kidney"),
    ("left pleural effusion", "left pleural effusion"),
    ("mass in the pancreas", "mass in the pancreas"),
)


@pytest.mark.parametrize("joint", [" and a ", ", ", " and ", " with a ", "; "])
def test_of_two_findings_with_a_place_each_keeps_its_own(joint: str) -> None:
    for (first, one), (second, other) in itertools.permutations(PLACED, 2):
        text = f"A {first}{joint}{second}."
        assert [prompt.prompt for prompt in prompts_from_text(text).prompts] == [one, other], text


TITLED = (
    "{title}: no stone. A 2 cm cyst is seen on the {side}.",
    "Spleen normal. {title}: no stone. A 2 cm cyst is seen on the {side}.",
    "{title}:\nA 2 cm cyst is seen on the {side}.",
    "{title} - A 2 cm cyst on the {side}.",
    "1. {title}: cyst on the {side}",
    "- {title}: 2 cm {side} cyst.",
    "**{title}** A 2 cm cyst on the {side}.",
    "{title}: cyst, {side}.",
)


@pytest.mark.parametrize("form", TITLED)
def test_a_sentence_of_another_side_than_its_title_speaks_of_another_organ(form: str) -> None:
    for (title, side), organ, case in itertools.product(
        itertools.permutations(("left", "right")), ("kidney", "lung", "parotid", "hip"), (str.capitalize, str.upper)
    ):
        text = form.format(title=case(f"{title} {organ}"), side=side)
        (found,) = prompts_from_text(text).prompts
        assert found.side == side, text
        assert title not in found.prompt, text
        assert organ not in found.prompt, text


def test_a_title_of_both_sides_holds_findings_of_either() -> None:
    (found,) = prompts_from_text("Both kidneys: cyst on the left.").prompts
    assert (found.prompt, found.side) == ("cyst in the left kidney", "left")
    (found,) = prompts_from_text("Right kidney: cyst on the right.").prompts
    assert found.side == "right"

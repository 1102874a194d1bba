"""Lists under a finding, and findings that share their place or their name."""

import pytest

from worker.report_language import prompts_from_text


def phrases(text: str) -> list[str]:
    return [prompt.prompt for prompt in prompts_from_text(text).prompts]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Nodules: RUL 5 mm, LLL 4 mm.", ["nodules in the RUL", "nodules in the LLL"]),
        ("Nodules: 5 mm in the RUL, 4 mm in the LLL.", ["nodules in the RUL", "nodules in the LLL"]),
        ("Nodules are as follows: RUL 5 mm and LLL 4 mm.", ["nodules in the RUL", "nodules in the LLL"]),
        ("Lungs: Nodules: RUL 5 mm solid; LLL (4 mm).", ["solid nodules in the RUL", "nodules in the LLL"]),
        ("Nodules:\n- RUL: 5 mm\n- LLL: 4 mm, series 3", ["nodules in the RUL", "nodules in the LLL"]),
        ("Nodules:\n1. RUL, 5 mm.\n2. LLL, 4 mm.\n\nLiver: 15 cm.", ["nodules in the RUL", "nodules in the LLL"]),
        ("Enlarged nodes: right hilar 14 mm.", ["enlarged right hilar nodes"]),
        ("Lymph nodes: left axillary 14 mm.", ["left axillary lymph nodes"]),
        ("Bilateral nodules: RUL, LLL.", ["nodules in the RUL", "nodules in the LLL"]),
        (
            "Fractures: left 4th to 7th ribs, right clavicle.",
            ["fractures in the left 4th to 7th ribs", "fractures in the right clavicle"],
        ),
    ],
)
def test_a_list_under_a_finding_gives_a_prompt_for_each_place(text: str, expected: list[str]) -> None:
    assert phrases(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "Nodules: none in the RUL, none in the LLL.",
        "Nodules: lungs clear, liver clear.",
        "Lymph nodes: right axillary 6 mm, not enlarged.",
        "Lymph nodes: mediastinal and hilar normal.",
        "Nodules:\n- None.\n- Lungs: clear.",
    ],
)
def test_a_list_of_denials_gives_none(text: str) -> None:
    assert not [phrase for phrase in phrases(text) if "nodules" in phrase or "hilar" in phrase]


def test_each_item_of_a_list_has_its_own_sentence_and_side() -> None:
    first, second = prompts_from_text("Nodules:\n- RUL: 5 mm\n- LLL: 4 mm").prompts
    assert (first.sentence, first.side) == ("RUL: 5 mm", "right")
    assert (second.sentence, second.side) == ("LLL: 4 mm", "left")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Left and right adrenal nodules.", ["left and right adrenal nodules"]),
        ("Right upper and lower lobe nodules.", ["right upper and lower lobe nodules"]),
        ("Liver and lung metastases.", ["liver and lung metastases"]),
        ("Left external (14 mm) and right common iliac nodes.", ["left external and right common iliac nodes"]),
        ("Cysts in the liver and in the left kidney.", ["cysts in the liver and in the left kidney"]),
        ("Nodules in both lungs, the largest 9 mm in the left.", ["nodules in both lungs"]),
        (
            "Right renal lesion, 9 mm, consistent with a cyst.",
            ["right renal lesion", "right renal cyst"],
        ),
        (
            "A nodule compatible with an adenoma is seen in the left adrenal gland.",
            ["nodule in the left adrenal gland", "adenoma in the left adrenal gland"],
        ),
        ("Left basal atelectasis/consolidation.", ["left basal atelectasis", "left basal consolidation"]),
        (
            "Thrombus lining the right iliac aneurysm.",
            ["thrombus lining the right iliac aneurysm", "right iliac aneurysm"],
        ),
        ("Left parotid, superficial lobe: 9 mm lesion.", ["lesion in the left parotid, superficial lobe"]),
        ("Left kidney - 2 cm cyst; 4 mm stone.", ["cyst in the left kidney", "stone in the left kidney"]),
        ("Spleen 14 cm, enlarged.", ["enlarged spleen"]),
        ("Enlarged lateral and third ventricles.", ["enlarged lateral and third ventricles"]),
        ("2 cm mass at 2 o'clock in the left breast.", ["mass in the left breast"]),
    ],
)
def test_a_place_holds_for_what_it_is_told_of(text: str, expected: list[str]) -> None:
    assert phrases(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Liver: splenomegaly, ascites.", ["splenomegaly", "ascites"]),
        ("Spleen normal. Left kidney: cyst. Aorta normal. Small hernia.", ["cyst in the left kidney", "hernia"]),
        ("1. Left kidney: cyst.\n2. Small hernia.", ["cyst in the left kidney", "hernia"]),
        ("The liver is large, though there is a small effusion.", ["effusion"]),
    ],
)
def test_a_place_does_not_hold_for_what_follows_it_by_chance(text: str, expected: list[str]) -> None:
    assert phrases(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "Neither adrenal gland is enlarged.",
        "No bowel loop is dilated.",
        "Negative study for pulmonary embolism.",
        "No longer seen is the right lobe consolidation.",
        "NG tube removed.",
        "Small nodule (?) left base.",
        "Hypodensity not seen. Likely no cyst.",
    ],
)
def test_more_ways_to_deny(text: str) -> None:
    assert phrases(text) == []


def test_another_finding_is_no_repetition() -> None:
    text = "Enhancing nodule in the left lobe. A second nodule is calcified. The nodule is stable."
    assert phrases(text) == ["enhancing nodule in the left lobe", "second nodule"]

"""Where sentences and sections of a report begin and end."""

import pytest

from worker.report_language import load_language, prompts_from_text
from worker.report_language.language.sentences import Sentence, sentences


def split(text: str) -> list[tuple[str, str]]:
    """(section, sentence) of every sentence of the text."""
    lexicon, rules = load_language().lexicon, load_language().rules
    found = sentences(text, lexicon.tokens(text), lexicon, rules)
    return [(one.section, words(text, one)) for one in found]


def words(text: str, sentence: Sentence) -> str:
    return text[sentence.tokens[0].start : sentence.tokens[-1].end]


def test_titles_give_the_section_of_what_follows() -> None:
    text = "INDICATION: Cough.\nTECHNIQUE: Helical CT.\nCOMPARISON: None.\nFINDINGS: A nodule.\nIMPRESSION: Nodule."
    assert [section for section, _ in split(text)] == ["historical", "technique", "compared", "report", "report"]


def test_titles_on_one_line_part_the_sentences() -> None:
    text = "HISTORY: cough FINDINGS: nodule in the lung IMPRESSION: nodule"
    assert split(text) == [("historical", "cough"), ("report", "nodule in the lung"), ("report", "nodule")]


def test_a_bare_title_line_opens_its_section() -> None:
    assert split("Technique\nHelical CT of a mass\n\nFindings\nCyst in the liver")[1] == ("report", "Cyst in the liver")


def test_a_list_without_full_stops_has_a_sentence_per_line() -> None:
    assert [text for _, text in split("Mild edema\nSmall left effusion\nNo pneumothorax")] == [
        "Mild edema",
        "Small left effusion",
        "No pneumothorax",
    ]


@pytest.mark.parametrize("bullet", ["- ", "* ", "• ", "1. ", "2) "])
def test_bullets_open_sentences_and_are_no_words(bullet: str) -> None:
    assert [text for _, text in split(f"{bullet}small effusion\n{bullet}no mass")] == ["small effusion", "no mass"]


def test_a_sentence_goes_on_over_a_broken_line() -> None:
    text = "There is no evidence of\nPneumothorax or pleural\neffusion in the lung."
    assert len(split(text)) == 1


def test_a_line_of_capitals_that_is_full_goes_on() -> None:
    assert len(split("NO ACUTE FRACTURE, DISLOCATION OR FOCAL BONE\nLESION IS SEEN.")) == 1


@pytest.mark.parametrize(
    "text", ["A 2.5 cm cyst vs. abscess.", "Seen by Dr. Smith today.", "Approx. 5 mm nodule.", "At 7:34 p.m. a film."]
)
def test_a_dot_of_an_abbreviation_or_a_number_ends_nothing(text: str) -> None:
    assert len(split(text)) == 1


def test_lower_case_text_is_split_at_its_dots() -> None:
    assert [text for _, text in split("cystic changes. no\npneumothorax. bones unchanged")] == [
        "cystic changes",
        "no\npneumothorax",
        "bones unchanged",
    ]


def test_an_organ_title_holds_for_its_line_only() -> None:
    text = "LIVER: Normal size. 2 cm cyst.\nSmall effusion."
    assert [prompt.prompt for prompt in prompts_from_text(text).prompts] == ["cyst in the liver", "effusion"]


def test_an_organ_title_ends_the_technique() -> None:
    assert [prompt.prompt for prompt in prompts_from_text("TECHNIQUE: CT\nLIVER: 2 cm cyst.").prompts] == [
        "cyst in the liver"
    ]


def test_a_colon_after_a_finding_makes_no_title() -> None:
    assert [prompt.prompt for prompt in prompts_from_text("Nodules: 4 mm nodule in the lingula.").prompts] == [
        "nodule in the lingula"
    ]

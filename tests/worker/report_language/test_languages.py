"""The words are data: another language, or a site's own style, is another pair of files."""

from pathlib import Path

import pytest

from worker.report_language import (
    LanguageError,
    bundled_lexicon,
    bundled_rules,
    load_lexicon,
    load_rules,
    prompts_from_text,
)

GERMAN_LEXICON = """
language = "de"
located = "{finding} in {site}"
located_bilateral = "{finding} in {site}"
located_at = "{finding} in Höhe {site}"
part_of = "{finding}, {site}"
sided = "{finding} {side}"
state_of = "{site} {state}"
plurals = [["e", "en"], ["", "e"]]
site_codes = ["[hb]wk\\\\d{1,2}", "lwk\\\\d"]

[findings]
nodule = ["Rundherd"]
effusion = ["Erguss", "Pleuraerguss", "Pleuraergüsse"]
cyst = ["Zyste"]

[no_volume]
degeneration = ["Spondylose"]

[sites]
"upper lobe" = ["Oberlappen"]
kidney = ["Niere"]

[site_adjectives]
liver = ["hepatisch", "hepatische"]

[sides]
left = ["links", "linken", "linke", "linker"]
right = ["rechts", "rechten", "rechte"]
bilateral = ["beidseits"]

[words]
modifiers = ["solider", "solide"]
sizes = ["kleiner", "kleine"]
changes = ["unveränderter", "unveränderte"]
units = ["mm", "cm"]
prepositions = ["im", "in"]
articles = ["der", "die", "das", "ein", "eine"]
joins = ["und", "oder", ","]
"""

GERMAN_RULES = """
language: de
abbreviations: [ca, bzw]
sections:
  report: [befund, beurteilung]
  historical: [klinik, fragestellung]
stops: [aber, jedoch]
pseudo: [keine ... Änderung]
triggers:
  - reason: negated
    direction: forward
    phrases: [kein|keine|keinen, kein nachweis eines|einer, ohne]
  - reason: uncertain
    direction: forward
    phrases: [verdacht auf, v.a]
"""


def test_a_german_report_with_german_files(tmp_path: Path) -> None:
    (tmp_path / "lexicon.toml").write_text(GERMAN_LEXICON, "utf-8")
    (tmp_path / "rules.yaml").write_text(GERMAN_RULES, "utf-8")
    text = (
        "Fragestellung: Rundherd?\n"
        "Befund: 8 mm solider Rundherd im rechten Oberlappen. Kein Pleuraerguss. Unveränderte hepatische Zysten.\n"
        "Keine Zyste, aber kleiner Erguss links. Verdacht auf Zyste der Niere. Spondylose.\n"
    )
    result = prompts_from_text(
        text, lexicon=load_lexicon(tmp_path / "lexicon.toml"), rules=load_rules(tmp_path / "rules.yaml")
    )
    assert [(prompt.prompt, prompt.side) for prompt in result.prompts] == [
        ("solider rundherd im rechten oberlappen", "right"),
        ("hepatische zysten", ""),
        ("erguss links", "left"),
    ]
    assert [one.reason for one in result.left_out] == [
        "historical", "negated", "negated", "uncertain", "not a thing with a volume",
    ]  # fmt: skip


@pytest.mark.parametrize("change", ["language = 3", 'findings = "nodule"', "unknown_table = 1", "not toml at all"])
def test_a_wrong_lexicon_is_refused_with_its_field(tmp_path: Path, change: str) -> None:
    path = tmp_path / "lexicon.toml"
    path.write_text(change, "utf-8")
    with pytest.raises(LanguageError, match=r"lexicon\.toml: .+; correct"):
        load_lexicon(path)


def test_a_wrong_reason_in_the_rules_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text("language: en\nsections: {finds: [x]}\ntriggers: []\n", "utf-8")
    with pytest.raises(LanguageError, match="finds is no reason"):
        load_rules(path)


def test_no_trigger_is_declared_twice() -> None:
    """Of two equal phrases only the first would ever be read."""
    file = bundled_rules().file
    phrases = [phrase for group in file.triggers for phrase in group.phrases] + file.pseudo
    assert sorted(set(phrases)) == sorted(phrases)


def test_no_finding_has_two_meanings() -> None:
    """A term that two concepts hold would be read as the first one only."""
    file = bundled_lexicon().file
    terms = [
        term
        for table in (file.findings, file.no_volume, file.states)
        for spellings in table.values()
        for term in spellings
    ]
    assert sorted({term for term in terms if terms.count(term) > 1}) == []

"""The words are data: another language, or a site's own style, is another pair of files and a setting."""

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from worker.cli import report
from worker.ledger import Ledger
from worker.protocols.protocol import FromReport
from worker.report_language import LanguageError, load_language, prompts_from_text
from worker.report_language.formats.read import report_text
from worker.report_language.language import data_files
from worker.report_language.language.data_files import known_languages
from worker.report_language.language.lexicon import load_lexicon
from worker.report_language.language.rules import load_rules
from worker.reports.inbox import ReportInbox
from worker.settings import Settings

GERMAN_LEXICON = """
language = "de"
located = "{finding}, {site}"
located_bilateral = "{finding}, {site}"
located_at = "{finding} in Höhe {site}"
part_of = "{finding}, {site}"
sided = "{finding} {side}"
state_of = "{site} {state}"
plurals = [["e", "en"], ["", "e"]]
site_codes = ["[hblw]wk\\\\d{1,2}"]
numbered_sites = ["segment"]
counted_sites = ["rib"]
ordinal_dot = true
between_sizes = ["mal"]
ranges = ["bis"]
finding_endings = [["zysten", "zyste"], ["zyste", "zyste"]]

[findings]
nodule = ["Rundherd"]
effusion = ["Erguss", "Pleuraerguss", "Pleuraergusses", "Pleuraergüsse"]
cyst = ["Zyste"]
fracture = ["Fraktur", "Frakturen"]
metastasis = ["Metastase"]

[no_volume]
degeneration = ["Spondylose"]

[states]
enlargement = ["vergrößert", "vergrößerte"]

[sites]
"upper lobe" = ["Oberlappen"]
kidney = ["Niere"]
liver = ["Leber"]
spleen = ["Milz"]
segment = ["Segment"]
rib = ["Rippe"]

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
prepositions = ["im", "in", "in der", "der", "des"]
articles = ["die", "das", "ein", "eine", "einer", "eines"]
joins = ["und", "oder", ","]
fillers = ["ist", "sind", "findet sich"]
outside = ["kein", "keine", "nachweis"]
"""

GERMAN_RULES = """
language: de
capitalised_nouns: true
abbreviations: [ca, bzw]
connectors: [der, die, das, im, in]
sections:
  report: [befund, beurteilung]
  historical: [klinik, fragestellung]
conclusions: [beurteilung]
addenda: [nachtrag]
stops: [aber, jedoch]
pseudo: [keine ... Änderung]
triggers:
  - reason: negated
    direction: forward
    phrases: [kein|keine|keinen, kein nachweis eines|einer, ohne]
  - reason: negated
    direction: backward
    phrases: [nicht ... nachweisbar|abgrenzbar]
  - reason: uncertain
    direction: forward
    phrases: [verdacht auf, v . a .]
  - reason: normal
    direction: backward
    phrases: [unauffällig]
"""

TEXT = """Fragestellung: Rundherd?
Befund: 8 mm solider Rundherd im rechten Oberlappen. Kein
Pleuraerguss. Unveränderte hepatische Zysten. Keine Zyste, aber
kleiner Erguss links. Verdacht auf Zyste der Niere. Spondylose. Leber
unauffällig. Metastasen sind nicht nachweisbar. 2 mal 3 cm Zyste in
der linken Niere. Fraktur der 7. Rippe rechts. Kein Nachweis einer
Fraktur der 4. bis 6. Rippe oder eines Pleuraergusses. Nierenzyste
links. Die Milz ist vergrößert. Metastase im Segment 8. Keine
Metastase im Segment 4.
"""

PROMPTS = [  # prompt, side, site, sentence begins
    ("solider rundherd im rechten oberlappen", "right", "rechten oberlappen", "8 mm solider"),
    ("hepatische zysten", "", "hepatische", "Unveränderte"),
    ("erguss links", "left", "links", "Keine Zyste, aber"),
    ("zyste in der linken niere", "left", "linken niere", "2 mal 3 cm Zyste"),
    ("fraktur der 7. rippe rechts", "right", "7. rippe rechts", "Fraktur der 7."),
    ("nierenzyste links", "left", "links", "Nierenzyste"),
    ("milz vergrößert", "", "milz", "Die Milz"),
    ("metastase im segment 8", "", "segment 8", "Metastase im"),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A site's own folder with two data files."""
    folder = tmp_path / "languages"
    folder.mkdir()
    (folder / "lexicon.de.toml").write_text(GERMAN_LEXICON, "utf-8")
    (folder / "rules.de.yaml").write_text(GERMAN_RULES, "utf-8")
    return folder


def test_a_german_report_with_german_files(folder: Path) -> None:
    result = prompts_from_text(TEXT, language=load_language("de", folder))
    found = [(one.prompt, one.side, one.site, one.sentence) for one in result.prompts]
    assert [one[:3] for one in found] == [one[:3] for one in PROMPTS]
    assert all(one[3].startswith(wanted[3]) for one, wanted in zip(found, PROMPTS, strict=True))
    assert [(one.text, one.reason) for one in result.left_out] == [
        ("rundherd", "historical"),
        ("pleuraerguss", "negated"),
        ("zyste", "negated"),
        ("zyste der niere", "uncertain"),
        ("spondylose", "not a thing with a volume"),
        ("leber", "normal"),
        ("metastasen", "negated"),
        ("fraktur der 4. bis 6. rippe", "negated"),
        ("pleuraergusses", "negated"),
        ("metastase im segment 4", "negated"),
    ]


def test_the_nodes_inbox_reads_german_when_the_settings_say_so(folder: Path, tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home", report_language="de", report_language_folder=folder)
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    inbox = ReportInbox.of(settings, ledger)
    inbox.take(TEXT.encode(), source="http", study_uid="1.2.3")
    inbox.take("Nachtrag: Zyste der Milz.".encode("cp1252"), source="http", study_uid="1.2.3")
    reported = inbox.prompts_for(FromReport(), "1.2.3", "")
    ledger.close()
    assert [prompt.text for prompt in reported.prompts] == [*(one[0] for one in PROMPTS), "zyste der milz"]
    assert reported.prompts[3].sentence == "2 mal 3 cm Zyste in der linken Niere."
    assert reported.line.startswith("9 prompts from the report; left out: 1 historical, 6 negated, 1 uncertain, 1 not ")


def test_the_command_reads_german(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "befund.txt").write_text(TEXT, "utf-8")
    monkeypatch.setenv("VOXTELL_REPORT_LANGUAGE_FOLDER", str(folder))
    done = CliRunner().invoke(report.app, ["prompts", str(tmp_path / "befund.txt"), "--language", "de", "--json"])
    (answer,) = json.loads(done.stdout)
    assert [one["prompt"] for one in answer["prompts"]] == [one[0] for one in PROMPTS]
    monkeypatch.setenv("VOXTELL_REPORT_LANGUAGE", "de")
    assert CliRunner().invoke(report.app, ["prompts", str(tmp_path / "befund.txt"), "--json"]).stdout == done.stdout


def test_a_fhir_conclusion_is_a_section_in_every_language(folder: Path) -> None:
    """The reader of FHIR writes its title itself, in English."""
    resource = {
        "resourceType": "DiagnosticReport",
        "text": {"div": "<div>Klinik: Rundherd.</div>"},
        "conclusion": "Zyste der Leber.",
    }
    text = report_text(json.dumps(resource).encode())
    result = prompts_from_text(text, language=load_language("de", folder))
    assert [one.prompt for one in result.prompts] == ["zyste der leber"]
    assert [one.reason for one in result.left_out] == ["historical"]


@pytest.mark.parametrize(
    ("without", "text", "wrongly_read"),
    [
        ("capitalised_nouns: true\n", "Befund: Im rechten Oberlappen kein\nPleuraerguss.", "pleuraerguss"),
        ("ordinal_dot = true\n", "Befund: Keine Fraktur der 7. Rippe oder Zyste.", "zyste, rippe"),
        ('ranges = ["bis"]\n', "Befund: Keine Fraktur der 4. bis 7. Rippe oder Zyste.", "zyste, rippe"),
    ],
)
def test_what_a_language_does_otherwise_than_english_is_data(
    folder: Path, without: str, text: str, wrongly_read: str
) -> None:
    assert prompts_from_text(text, language=load_language("de", folder)).prompts == ()
    other = folder.parent / "other"
    other.mkdir()
    (other / "lexicon.de.toml").write_text(GERMAN_LEXICON.replace(without, ""), "utf-8")
    (other / "rules.de.yaml").write_text(GERMAN_RULES.replace(without, ""), "utf-8")
    assert [one.prompt for one in prompts_from_text(text, language=load_language("de", other)).prompts] == [
        wrongly_read
    ]


def test_the_dot_at_the_end_of_a_sentence_is_no_ordinal(folder: Path) -> None:
    text = "Befund: Keine Metastase im Segment 8. Rippe 7. Zyste der Leber."
    assert [one.prompt for one in prompts_from_text(text, language=load_language("de", folder)).prompts] == [
        "zyste der leber"
    ]


@pytest.mark.long
def test_a_site_may_replace_one_of_the_two_files(tmp_path: Path) -> None:
    bundled = Path(data_files.__file__).with_name("lexicon.en.toml").read_text("utf-8")
    changed = bundled.replace('lesion = ["lesion",', 'lesion = ["lesion", "wobbly bit",')
    (tmp_path / "lexicon.en.toml").write_text(changed, "utf-8")
    text = "Findings: Wobbly bit in the left kidney. No nodule."
    assert prompts_from_text(text).prompts == ()
    language = load_language("en", tmp_path)
    assert language.rules.file == load_language().rules.file
    assert [one.prompt for one in prompts_from_text(text, language=language).prompts] == [
        "wobbly bit in the left kidney"
    ]


def test_languages_are_found_by_their_files(folder: Path) -> None:
    assert known_languages() == ["en"]
    (folder / "lexicon.fr.toml").touch()  # without its rules
    assert known_languages(folder) == ["de", "en"]


@pytest.mark.parametrize("name", ["xx", "../de", "", "de/../de", "*"])
def test_an_unknown_language_is_refused_with_those_that_are_known(folder: Path, name: str) -> None:
    with pytest.raises(LanguageError, match=r"has no lexicon\..* in .*languages; known languages: de, en$") as refused:
        load_language(name, folder)
    assert refused.value.retry == "usage"


def test_a_file_of_another_language_is_refused(folder: Path) -> None:
    (folder / "rules.de.yaml").write_text(GERMAN_RULES.replace("language: de", "language: nl"), "utf-8")
    with pytest.raises(LanguageError, match=r"rules\.de\.yaml: language: is 'nl', and the file is named 'de'"):
        load_language("de", folder)


def test_a_side_has_one_of_three_names(folder: Path) -> None:
    path = folder / "lexicon.de.toml"
    path.write_text(GERMAN_LEXICON.replace('left = ["links"', 'links = ["links"'), "utf-8")
    with pytest.raises(LanguageError, match=r"sides\.links.*: Input should be 'left', 'right' or 'bilateral'"):
        load_lexicon(path)


def test_no_word_of_a_language_stands_in_the_code() -> None:
    """Lists of strings and comparisons with strings in the code hold no word that the English data files hold."""
    language = load_language()
    lexicon, rules = language.lexicon.file.model_dump(), language.rules.file.model_dump()
    words = {word for text in _texts([lexicon, rules]) for word in re.split(r"[\s|?]+", text.lower()) if word.isalpha()}
    assert {"nodule", "through", "without", "liver"} <= words
    neutral = {"left", "right", "bilateral", "x"}  # names of sides, and the sign of multiplication
    room = Path(data_files.__file__).parents[1]
    found = {}
    for path in [room / "extract.py", *room.glob("language/*.py"), *room.glob("findings/*.py")]:
        lists = (ast.Set, ast.List, ast.Tuple, ast.Compare)
        nodes = [node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, lists)]
        strings = {one.value for node in nodes for one in ast.iter_child_nodes(node) if isinstance(one, ast.Constant)}
        found[path.name] = {one for one in strings if isinstance(one, str) and one in words - neutral}
    assert {name: sorted(strings) for name, strings in found.items() if strings} == {}


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from _texts(list(value.values()))
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _texts(one)


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
    file = load_language().rules.file
    phrases = [phrase for group in file.triggers for phrase in group.phrases] + file.pseudo
    assert sorted(set(phrases)) == sorted(phrases)


def test_no_finding_has_two_meanings() -> None:
    """A term that two concepts hold would be read as the first one only."""
    file = load_language().lexicon.file
    terms = [
        term
        for table in (file.findings, file.no_volume, file.states)
        for spellings in table.values()
        for term in spellings
    ]
    assert sorted({term for term in terms if terms.count(term) > 1}) == []

"""Settings: one frozen object; what is misspelt or makes no sense stops the start with one sentence."""

import importlib.util
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from worker.destinations.dicom import DicomDestination
from worker.destinations.kinds import KINDS
from worker.errors import SettingsError
from worker.settings import PREFIX, Settings, load
from worker.value_faults import allowed

ROOT = Path(__file__).parents[2]
PACS = '[{"name": "pacs", "ae_title": "ORTHANC", "host": "10.1.0.5", "port": 4242}]'


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch):
    """No setting of whoever runs the tests."""
    import os

    for variable in list(os.environ):
        if variable.startswith(PREFIX):
            monkeypatch.delenv(variable)


def test_the_defaults_serve_one_machine(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    settings = load()
    assert (settings.ae_title, settings.host, settings.port) == ("VOXTELL", "127.0.0.1", 11112)
    assert settings.home == tmp_path / "voxtell-dicom"
    assert settings.protocols_folder == settings.home / "protocols"
    assert settings.ledger_url.get_secret_value() == f"sqlite:///{settings.home}/ledger.sqlite"


def test_a_misspelt_variable_stops_the_start_with_the_near_name(monkeypatch):
    monkeypatch.setenv("VOXTELL_QUIET_SECOND", "3")
    with pytest.raises(
        SettingsError, match=r"^VOXTELL_QUIET_SECOND is no setting .*; did you mean VOXTELL_QUIET_SECONDS\?$"
    ):
        load()


def test_a_variable_like_no_setting_is_to_be_unset(monkeypatch):
    monkeypatch.setenv("VOXTELL_ZZZZZZZZZZZZZ", "3")
    with pytest.raises(SettingsError, match="VOXTELL_ZZZZZZZZZZZZZ is no setting of this node; unset it"):
        load()


def test_destinations_are_json_and_found_by_name(monkeypatch):
    monkeypatch.setenv("VOXTELL_DESTINATIONS", PACS)
    settings = load()
    assert settings.destination("pacs") == DicomDestination(name="pacs", ae_title="ORTHANC", host="10.1.0.5", port=4242)
    with pytest.raises(
        SettingsError, match=r"destination 'archive' is not in VOXTELL_DESTINATIONS \(pacs\); add it there"
    ):
        settings.destination("archive")


@pytest.mark.parametrize(
    ("variable", "value", "sentence"),
    [
        ("VOXTELL_PORT", "70000", "setting VOXTELL_PORT is more than 65535; allowed: whole number, 0 to 65535"),
        (
            "VOXTELL_QUIET_SECONDS",
            "0",
            "setting VOXTELL_QUIET_SECONDS is not more than 0; allowed: number, more than 0",
        ),
        (
            "VOXTELL_AE_TITLE",
            "A" * 17,
            "setting VOXTELL_AE_TITLE has more than 16 characters; allowed: text of 1 to 16",
        ),
        ("VOXTELL_AE_TITLE", "A\\B", "setting VOXTELL_AE_TITLE has a character that is not allowed; allowed: text of"),
        (
            "VOXTELL_LOG_LEVEL",
            "loud",
            "setting VOXTELL_LOG_LEVEL is none of the choices; allowed: debug, info, warning or error",
        ),
        ("VOXTELL_DESTINATIONS", "[{", "setting VOXTELL_DESTINATIONS is not valid JSON at character 3 ("),
        (
            "VOXTELL_DESTINATIONS",
            '[{"ae_title": "A", "host": "h", "prt": 104}]',
            "setting VOXTELL_DESTINATIONS, entry 1, prt is no field; did you mean port?",
        ),
        (
            "VOXTELL_DESTINATIONS",
            '[{"ae_title": "A"}]',
            "setting VOXTELL_DESTINATIONS, entry 1: a destination is reached by ae_title and host, or else by url",
        ),
        (
            "VOXTELL_DESTINATIONS",
            '[{"ae_title": "A", "host": "h"}, {"ae_title": "B", "host": "h"}]',
            "setting VOXTELL_DESTINATIONS: two destinations have one name",
        ),
    ],
)
def test_a_value_that_makes_no_sense_is_one_sentence(monkeypatch, variable, value, sentence):
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError) as raised:
        load()
    assert str(raised.value).startswith(sentence)
    assert value not in str(raised.value) or len(value) == 1  # it may be a secret
    assert "\n" not in str(raised.value)


MARK = "zq7"  # of texts that are no value of any setting
VALUES = st.one_of(
    st.integers().map(str),
    st.floats().map(str),
    st.sampled_from(
        ["", "null", "{}", "[", "[1]", '"x"', "[{}]", '[{"url": "x"}]', '[{"url": "http://h", "port": -1}]']
    ),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")).map(lambda text: MARK + text),
)
PYDANTICS = ("Input should", "String should", "Value error", "validation error", "Extra inputs", "unable to parse")
SAYS_WHAT_TO_DO = ("; allowed: ", "must be", "write ", "did you mean", "leave it out", "a destination is reached by")


@given(st.sampled_from(sorted(Settings.model_fields)), VALUES)
def test_a_refusal_names_the_variable_what_is_wrong_and_what_is_allowed_in_plain_words(name, value):
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv(PREFIX + name.upper(), value)
        try:
            load()
        except SettingsError as error:
            said = str(error)
        else:
            return
    assert said.startswith(f"setting {PREFIX}{name.upper()}")
    assert not any(words in said for words in PYDANTICS), said
    assert MARK not in said or name == "character_set"  # it may be a secret; the name of a character set is none
    assert any(words in said for words in SAYS_WHAT_TO_DO) or name == "character_set", said


RESTRICTED = [name for name, field in Settings.model_fields.items() if allowed(field) not in ("text", "path")]


@pytest.mark.parametrize("name", RESTRICTED)
def test_every_setting_that_is_no_free_text_refuses_what_it_does_not_take(monkeypatch, name):
    monkeypatch.setenv(PREFIX + name.upper(), "x" * 99)
    with pytest.raises(SettingsError, match=f"^setting {PREFIX}{name.upper()} .*; allowed: "):
        load()


def test_nobody_changes_settings_after_the_start():
    with pytest.raises(ValidationError):
        load().port = 104


def test_arguments_win_over_variables(monkeypatch):
    monkeypatch.setenv("VOXTELL_PORT", "104")
    assert load().port == 104
    assert load(port=105).port == 105


@pytest.mark.parametrize("model", [Settings, *KINDS])
def test_every_field_says_what_it_is_and_times_and_sizes_say_their_unit(model):
    for name, field in model.model_fields.items():
        assert field.description is not None, name
        assert field.description.endswith("."), name
        if name.endswith("_seconds"):
            assert "in s." in field.description, name
        if name.endswith("_bytes"):
            assert "in bytes" in field.description, name


def test_the_page_of_settings_is_up_to_date():
    spec = importlib.util.spec_from_file_location("settings_table", ROOT / "scripts" / "settings_table.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert script.PAGE.read_text() == script.page(), "run scripts/settings_table.py"

"""`protocols check`: everything that is wrong, and what this node lacks."""

import json
from pathlib import Path

import pytest

from tests.support.command_line import voxtell_dicom
from worker.cli.doctor import _checked, _protocols
from worker.settings import Settings

GOOD = "name: good\nmatch: {Modality: CT}\nprompts: [liver]\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "protocols"
    made.mkdir()
    return made


@pytest.mark.processes
def test_every_file_that_is_not_valid_is_named(folder, tmp_path):
    (folder / "a.yaml").write_text("name: a\nmatch: {Modalty: CT}\nprompts: [liver]\n")
    (folder / "b.yaml").write_text(GOOD)
    (folder / "c.yaml").write_text(GOOD + "window: [22, 6]\n")
    done = voxtell_dicom("protocols", "check", home=tmp_path)
    assert done.returncode == 1
    wrong, also_wrong = done.stderr.splitlines()
    assert f"{folder / 'a.yaml'}, line 2, match.Modalty: 'Modalty' is no DICOM keyword" in wrong
    assert f"{folder / 'c.yaml'}, line 4, window.1: " in also_wrong
    first, note = done.stdout.splitlines()
    assert first.startswith("good ")
    assert note.startswith("  protocol 'good' runs with the bundled model, which has not learnt liver")


@pytest.mark.processes
def test_what_this_node_lacks_is_said(folder, tmp_path):
    text = GOOD.replace("[liver]", '[{text: liver, code: "99999991008"}]')
    (folder / "a.yaml").write_text(text + "model: published\ndestinations: [tps]\n")
    done = voxtell_dicom("protocols", "check", "--json", home=tmp_path)
    assert done.returncode == 1, "nothing can be sent to a destination that is not set"
    (facts,) = json.loads(done.stdout)["protocols"]
    assert not facts["active"]
    assert [note.split(" ", 2)[2][:27] for note in facts["notes"]] == [
        "is inactive: it needs the p",
        "sends to 'tps', which is no",
        "of 'liver' is not in DICOM'",
    ]


@pytest.mark.parametrize(
    ("text", "mark", "message"),
    [
        (GOOD, "ok", "protocols: good"),
        (GOOD + "model: published\n", "ok", "none is active; inactive for want of their model: good"),
        (GOOD + "destinations: [tps]\n", "FAIL", "sends to 'tps', which is not in VOXTELL_DESTINATIONS"),
        (GOOD + "prompt: x\n", "FAIL", "line 4, prompt: there is no such field here; did you mean prompts?"),
        ("", "FAIL", "the file: "),
    ],
)
def test_doctor_says_how_it_is_with_the_protocols(folder, tmp_path, text, mark, message):
    (folder / "a.yaml").write_text(text)
    name, answer, said = _checked("protocols", _protocols, Settings(home=tmp_path))
    assert (name, answer) == ("protocols", mark)
    assert message in said


@pytest.mark.processes
def test_run_takes_a_protocol_of_the_node_by_its_name(folder, tmp_path):
    (folder / "any-file.yaml").write_text(GOOD)
    (folder / "bad.yaml").write_text("name: [\n")
    command = ("run", tmp_path / "no-study", "-o", tmp_path / "out", "--protocol")
    assert "no-study is not a folder" in voxtell_dicom(*command, "good", home=tmp_path).stderr
    done = voxtell_dicom(*command, "other", home=tmp_path)
    assert f"'other' is no file, and {folder} has no protocol of that name (good)" in done.stderr

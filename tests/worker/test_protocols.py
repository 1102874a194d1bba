"""Protocols: what a file may say, what a series answers, and what happens when a file is edited badly."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset
from pydicom.datadict import tag_for_keyword
from structlog.testing import capture_logs

from dicom_node.origin import Origin
from worker.errors import LedgerError, ProtocolError
from worker.findings import decisive
from worker.job_spec import Priority
from worker.off_protocols import off_protocols
from worker.protocols import (
    Candidate,
    Match,
    Protocol,
    problems_in,
    read_folder,
    read_protocol,
    ship_protocols,
)
from worker.protocols.conditions import Condition
from worker.protocols.folder import ProtocolFolder
from worker.protocols.protocol import FromReport
from worker.protocols.snomed import is_concept_id, is_known, meanings
from worker.protocols.yaml_file import parse_protocol
from worker.report_language.extract import DEFAULT_LIMIT
from worker.selection.study_volumes import FolderError, candidates_in, series_in

LIVER = """\
name: liver
match:
  Modality: CT
  not:
    ImageType: LOCALIZER
prompts:
  - liver
  - {text: right kidney, name: Kidney_R}
"""


def header(**attributes) -> Dataset:
    made = Dataset()
    for keyword, value in attributes.items():
        setattr(made, keyword, value)
    return made


def series(*headers: Dataset, **facts: Any) -> Candidate:
    return Candidate(list(headers), **facts)


def takes(conditions: object, candidate: Candidate) -> bool:
    return Match.model_validate(conditions).ask(candidate)[0]


def written(tmp_path: Path, text: str, name: str = "liver.yaml") -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


# -- files


def test_a_protocol_is_read_with_its_defaults(tmp_path):
    protocol = read_protocol(written(tmp_path, LIVER))
    assert (protocol.name, protocol.outputs, protocol.destinations) == ("liver", ("seg",), None)
    assert [(prompt.text, prompt.label) for prompt in protocol.prompts] == [
        ("liver", "liver"),
        ("right kidney", "Kidney_R"),
    ]


@pytest.mark.parametrize(
    ("change", "line", "field", "message"),
    [
        (("match:\n", "match: [\n"), 4, None, "not valid YAML"),
        (("name: liver", "name: liver\nprompt: [x]"), 2, "prompt", "no such field here; did you mean prompts?"),
        (("Modality", "Modalty"), 3, "match.Modalty", "'Modalty' is no DICOM keyword or tag; did you mean Modality?"),
        (
            ("Modality: CT", "Modality: {equal: CT}"),
            3,
            "match.Modality.equal",
            "did you mean equals?",
        ),
        (("Modality: CT", "Modality:"), 3, "match.Modality", "a condition needs a value"),
        (("Modality: CT", "Modality: []"), 3, "match.Modality", "Extra|needs a value"),
        (("Modality: CT", "Modality: {regex: '('}"), 3, "match.Modality.regex", "not a regular expression"),
        (("Modality: CT", "KVP: {min: low}"), 3, "match.KVP.min", "valid number"),
        (("Modality: CT", "KVP: {min: 3, max: 2}"), 3, "match.KVP", "nothing is at least 3 and at most 2"),
        (("Modality: CT", "BurnedInAnnotation: NO"), 3, "match.BurnedInAnnotation", "write it in quotes"),
        (("ImageType", "ImageTyp"), 5, "match.not.ImageTyp", "did you mean ImageType?"),
        (("ImageType: LOCALIZER", "[]"), 4, "match.not", "conditions are a mapping"),
        (
            ("  Modality: CT\n", "  any:\n    - Modality: CT\n    - KVP: {mn: 3}\n"),
            5,
            "match.any.2.KVP.mn",
            "mean min?",
        ),
        (("  Modality: CT\n", "  all:\n    - not:\n        Foo: 1\n"), 5, "match.all.1.not.Foo", "'Foo' is no DICOM"),
        (("  Modality: CT\n", "  any: []\n"), 3, "match.any", "at least 1"),
        (("name: Kidney_R", "nme: Kidney_R"), 8, "prompts.2.nme", "no such field here; did you mean name?"),
        (("text: right kidney, ", ""), 8, "prompts.2.text", "Field required"),
        (("name: liver", "name: liver\nname: liver"), 2, "name", "stands here a second time"),
        (("  - liver\n", "  - ' '\n"), 7, "prompts.1", "a prompt is empty"),
        (("Kidney_R", "liver"), 8, "prompts.2.name", "two structures have the same name"),
        (("name: liver", "name: liver\noutputs: [dvd]"), 2, "outputs.1", "Input should be"),
        (("name: liver", "name: liver\noutputs: []"), 2, "outputs", "at least 1"),
        (("name: liver", "name: liver\noutputs: [seg, seg]"), 2, "outputs", "an output is named twice"),
        (("name: liver", "name: liver\nwindow: ['22:00', '24:00']"), 2, "window.2", "String should match"),
        (("name: liver", "name: liver\nwindow: ['22:00', '22:00']"), 2, "window", "no time at all"),
        (("name: liver", "name: liver\npriority: soon"), 2, "priority", "urgent, routine, archive"),
        (("name: liver", "name: liver\nholes: yes"), 2, "holes", "'keyhole' or 'xor'"),
        *(
            (("name: liver", f"name: liver\nstructure_set_label: {label}"), 2, "structure_set_label", "1 to 16 char")
            for label in ("longer than it may be", "''", "' '", "'a\\b'", '"a\\nb"')
        ),
        *(
            (
                ("name: liver", f"name: liver\nderived: [{{name: BODY, body: true, {more}}}]"),
                2,
                "derived.1.body",
                "made of nothing else",
            )
            for more in ("union: [liver]", "margin_mm: 5", "empty: true")
        ),
        (("name: liver", "name: liver\ndestinations: [a, a]"), 2, "destinations.2", "named twice"),
        (("name: liver", "name: liver\ndestinations: [{to: a, fallback: a}]"), 2, "destinations.1.fallback", "itself"),
        (
            ("name: liver", "name: liver\ndestinations: [{to: a, outputs: [sr]}]"),
            2,
            "destinations.1.outputs.1",
            "not made",
        ),
        (("name: liver", "name: liver\nreport: {limit: 0}"), 2, "report.limit", "greater than or equal to 1"),
        (("name: liver", "name: liver\nchoose: {take: bst}"), 2, "choose.take", "'best' or 'all'"),
        (("name: Kidney_R", "tg263: Kidney_R_and_its_pelvis"), 8, "prompts.2.tg263", "at most 16"),
        (("name: Kidney_R", "tg263: Kidney R"), 8, "prompts.2.tg263", "is no TG-263 name"),
        (("name: Kidney_R", "roi_type: organ"), 8, "prompts.2.roi_type", "'organ' is not one of AVOIDANCE"),
        (("name: Kidney_R", "colour: [0, 0, 256]"), 8, "prompts.2.colour", "from 0 to 255"),
        (("name: Kidney_R", "colour: red"), 8, "prompts.2.colour", "valid tuple"),
        (("name: Kidney_R", "code: '64033008'"), 8, "prompts.2.code", "no SNOMED CT concept id"),
        (("name: Kidney_R", "sentence: hello"), 8, "prompts.2.sentence", "comes from a report"),
        (("name: Kidney_R", "expect: {volume_ml: [5, 2]}"), 8, "prompts.2.expect.volume_ml", "the least and the most"),
        (("name: Kidney_R", "expect: {left_of: spleen}"), 8, "prompts.2.expect.left_of", "no structure named 'spleen'"),
        (("name: Kidney_R", "finish: {crop_to: right kidney}"), 8, "prompts.2.finish.crop_to", "refers to itself"),
        (("name: Kidney_R", "finish: {smooth_mm: 21}"), 8, "prompts.2.finish.smooth_mm", "less than or equal to 20"),
        (("name: liver", "name: liver\nderived: [{name: x, union: [liver, y]}]"), 2, "derived.1.union.2", "named 'y'"),
        (("name: liver", "name: liver\nderived: [{name: liver, union: [Kidney_R]}]"), 2, "derived.1.name", "same name"),
        (("name: liver", "name: liver\nderived: [{name: x, subtract: [liver]}]"), 2, "derived.1", "needs a union"),
        (("name: liver", "name: liver\nderived: [{name: x, empty: true}]"), 2, "derived.1.empty", "add it to outputs"),
        (("name: liver\n", ""), 1, "name", "Field required"),
        (("name: liver", "name: ../liver"), 1, "name", "String should match pattern"),
    ],
)
def test_a_bad_file_is_named_with_line_and_field(tmp_path, change, line, field, message):
    assert change[0] in LIVER
    path = written(tmp_path, LIVER.replace(*change, 1))
    where = f", line {line}" + (f", {field}: " if field else ": ")
    with pytest.raises(ProtocolError) as raised:
        read_protocol(path)
    assert str(raised.value).startswith(f"{path}{where}")
    assert any(part in str(raised.value) for part in message.split("|"))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("content", [b"", b"liver", b"\xff\xfe", b"name: \x07", b"- a\n- b"])
def test_a_file_that_is_no_protocol_at_all_is_one_sentence(tmp_path, content):
    path = tmp_path / "bad.yaml"
    path.write_bytes(content)
    with pytest.raises(ProtocolError, match=r"^\S+bad\.yaml") as raised:
        read_protocol(path)
    assert len(str(raised.value)) < 400


@pytest.mark.long
@pytest.mark.parametrize(
    "text", ["a: &a [*a]", "? [x, y]\n: 1", "? {x: 1}\n: 1", "[" * 3000, "a: !!python/none x", "1: 2", "null"]
)
def test_strange_yaml_is_one_sentence(text):
    with pytest.raises(ProtocolError, match="the file") as raised:
        parse_protocol(text, "the file")
    assert len(str(raised.value)) < 400


@given(st.data())
def test_whatever_slips_into_a_file_gives_a_protocol_or_one_sentence(data):
    text = EVERYTHING
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(text)))
        cut = data.draw(st.integers(0, 12))
        slip = data.draw(
            st.sampled_from(
                ["", ":", "- ", "[", "}", "'", "#", "\n", "\t", "  ", "&a ", "*a", "!!set ", "2026-13-01", "~"]
            )
        )
        text = text[:place] + slip + text[place + cut :]
    said = ""
    try:
        parse_protocol(text, "the file")
    except ProtocolError as error:
        said = str(error)
    assert not said or said.startswith("the file")


def test_two_files_with_one_name_are_refused(tmp_path):
    written(tmp_path, LIVER)
    written(tmp_path, LIVER, "other.yml")
    with pytest.raises(
        ProtocolError, match=r"other\.yml: another file already has a protocol named 'liver'; rename one"
    ):
        read_folder(tmp_path)


def test_what_can_go_round_in_a_circle_is_refused(tmp_path):
    ring = LIVER + "derived:\n  - {name: a, union: [b]}\n  - {name: b, union: [c, liver]}\n  - {name: c, union: [a]}\n"
    with pytest.raises(
        ProtocolError, match=r"derived\.[123]\.union\.1: goes round in a circle: (.) needs . needs . needs \1"
    ):
        read_protocol(written(tmp_path, ring))
    crop = LIVER.replace("- liver", "- {text: liver, finish: {crop_to: Kidney_R}}")
    crop = crop.replace("name: Kidney_R", "name: Kidney_R, finish: {crop_to: liver}")
    with pytest.raises(ProtocolError, match=r"line [78], prompts\.[12]\.finish\.crop_to: goes round"):
        read_protocol(written(tmp_path, crop))
    sides = LIVER.replace("- liver", "- {text: liver, expect: {right_of: Kidney_R}}")
    sides = sides.replace("name: Kidney_R", "name: Kidney_R, expect: {left_of: liver}")
    assert len(read_protocol(written(tmp_path, sides)).prompts) == 2, "two that look at each other are no circle"


EVERYTHING = """\
name: everything
description: all fields at once
match: {Modality: CT}
choose: {take: best, prefer: [thin, {BodyPartExamined: CHEST}], never: [projection, derived]}
prompts:
  - text: heart
    name: Heart
    code: "80891009"
    tg263: Heart
    colour: "#dc3c46"
    roi_type: ORGAN
    finish: {crop_to: chest, largest_component: true, min_volume_ml: 5, fill_holes: true, smooth_mm: 1.5}
    expect: {volume_ml: [300, 1500], left_of: liver, inside_view: true}
  - {text: thorax, name: chest, colour: [1, 2, 3]}
  - liver
derived:
  - {name: PRV, union: [Heart], intersect: [chest], subtract: [liver], margin_mm: 5, tg263: Heart_PRV05}
  - {name: PTV, empty: true, colour: "#ff0000", roi_type: PTV}
  - {name: BODY, body: true}
report: {use: true, wait_minutes: 30, required: true, uncertain: true, limit: 4}
model: published
engine: {exact: true, early_exit: 2, skip_below: -400, coarse_first: 3, resample: true, resample_tilt: true}
outputs: [seg, rtstruct, sr, nifti]
holes: xor
tilted_rtstruct: false
structure_set_label: HN draft
destinations: [pacs, {to: tps, outputs: [rtstruct], fallback: pacs}]
priority: urgent
window: [22:00, 06:00]
release: true
shadow: true
"""


def test_every_field_can_be_written(tmp_path):
    protocol = read_protocol(written(tmp_path, EVERYTHING))
    assert set(Protocol.model_fields) == protocol.model_fields_set
    heart, chest, liver = protocol.prompts
    assert (heart.colour, chest.colour, liver.colour) == ((220, 60, 70), (1, 2, 3), None)
    assert (heart.finish.crop_to, heart.expect.volume_ml) == ("chest", (300, 1500))
    assert protocol.window == ("22:00", "06:00"), "YAML reads 22:00 without quotes as a number"
    assert [(route.to, route.outputs, route.fallback) for route in protocol.destinations] == [
        ("pacs", None, None),
        ("tps", ("rtstruct",), "pacs"),
    ]
    assert (protocol.priority, protocol.report.limit) == (Priority.URGENT, 4)


def test_a_protocol_may_live_from_reports_alone(tmp_path):
    text = "name: lesions\nmatch: {Modality: CT}\n"
    assert read_protocol(written(tmp_path, text + "report: {wait_minutes: 10}\n")).report.use
    with pytest.raises(ProtocolError, match="prompts: nothing to segment"):
        read_protocol(written(tmp_path, text))


def test_the_limit_on_prompts_is_that_of_the_reports():
    assert FromReport().limit == DEFAULT_LIMIT


RIGHT_CODES = sorted(meanings().keys() - {"115347700"})  # of DICOM's codes the one whose check digit is wrong


@given(st.sampled_from(RIGHT_CODES), st.integers(0, 20), st.integers(1, 9))
def test_a_slip_in_a_code_is_seen(code, place, turn):
    slip = list(code)
    slip[place % len(code)] = str((int(slip[place % len(code)]) + turn) % 10)
    assert is_concept_id(code)
    assert is_known(code)
    assert not is_concept_id("".join(slip)) or is_known("".join(slip))


def test_the_digest_changes_with_what_decides_a_result_only(tmp_path):
    digest = read_protocol(written(tmp_path, LIVER)).digest
    for text, same in [
        (LIVER + "description: words\n", True),
        (LIVER + "destinations: [pacs]\n", True),
        (LIVER + "outputs: [seg, nifti]\n", False),
        (LIVER.replace("right", "left"), False),
        (LIVER + "priority: archive\nwindow: ['22:00', '06:00']\nrelease: true\nshadow: true\n", True),
        (LIVER + "report: {use: false, wait_minutes: 5}\n", True),
        (LIVER + "report: {use: true}\n", False),
        (LIVER + "model: bundled\n", False),
        (LIVER + "engine: {early_exit: 2}\n", False),
        (LIVER + "derived: [{name: x, union: [liver]}]\n", False),
        (LIVER + "choose: {take: best}\n", False),
        (LIVER + "choose: {take: all}\nholes: keyhole\noutputs: [seg]\n", True),
        (LIVER.replace("- liver", "- {text: liver, finish: {fill_holes: true}}"), False),
    ]:
        assert (read_protocol(written(tmp_path, text)).digest == digest) is same


def test_the_shipped_protocols_are_valid_and_never_replace_a_sites_own(tmp_path):
    folder = tmp_path / "protocols"
    ship_protocols(folder)
    shipped = [protocol.name for protocol in read_folder(folder)]
    assert "head-and-neck-oar" in shipped
    (folder / "head-and-neck-oar.yaml").unlink()
    ship_protocols(folder)
    assert [protocol.name for protocol in read_folder(folder)] == [n for n in shipped if n != "head-and-neck-oar"]


# -- edits while the node runs


def test_an_edit_is_in_force_at_the_next_look(tmp_path):
    path = written(tmp_path, LIVER)
    protocols = ProtocolFolder(tmp_path)
    path.write_text(LIVER.replace("- liver", "- spleen, the organ"))
    assert protocols.current()[0].prompts[0].text == "spleen, the organ"
    path.unlink()
    assert protocols.current() == []


def test_a_bad_edit_keeps_the_last_good_version_and_says_so_once(tmp_path):
    path = written(tmp_path, LIVER)
    said: list[ProtocolError] = []
    protocols = ProtocolFolder(tmp_path, said.append)
    good = protocols.current()
    path.write_text(LIVER.replace("Modality", "Modalty"))
    assert protocols.current() == protocols.current() == good
    assert [str(error) for error in said] == [
        f"{path}, line 3, match.Modalty: 'Modalty' is no DICOM keyword or tag; did you mean Modality?"
    ]
    path.write_text(LIVER.replace("liver", "spleen"))
    assert [protocol.name for protocol in protocols.current()] == ["spleen"]


def test_a_bad_edit_holds_back_its_own_file_only(tmp_path):
    bad, other = written(tmp_path, LIVER), written(tmp_path, LIVER.replace("liver", "spleen"), "spleen.yaml")
    said: list[ProtocolError] = []
    protocols = ProtocolFolder(tmp_path, said.append)
    bad.write_text(LIVER + "prompt: x\n")
    other.write_text(LIVER.replace("liver", "kidney"))
    assert [protocol.name for protocol in protocols.current()] == ["liver", "kidney"]
    assert len(said) == 1


def test_a_name_that_another_file_has_is_a_bad_edit_of_the_one_that_takes_it(tmp_path):
    first = written(tmp_path, LIVER, "a.yaml")
    second = written(tmp_path, LIVER.replace("name: liver", "name: spleen"), "b.yaml")
    said: list[ProtocolError] = []
    protocols = ProtocolFolder(tmp_path, said.append)
    first.write_text(LIVER.replace("name: liver", "name: spleen") + "priority: urgent\n")
    assert [protocol.name for protocol in protocols.current()] == ["liver", "spleen"]
    assert "already has a protocol named 'spleen'" in str(said[0])
    second.unlink()
    assert [protocol.name for protocol in protocols.current()] == ["spleen"], "the name is free now"


def test_a_good_version_outlives_the_process(tmp_path):
    folder, kept = tmp_path / "protocols", tmp_path / "kept"
    folder.mkdir()
    path = written(folder, LIVER)
    (good,) = ProtocolFolder(folder, home=kept).current()
    path.write_text("name: [")
    said: list[ProtocolError] = []
    assert ProtocolFolder(folder, said.append, home=kept).current() == [good]
    assert "liver.yaml, line 1" in str(said[0])
    written(folder, "name: [", "new.yaml")
    assert ProtocolFolder(folder, said.append, home=kept).current() == [good]
    assert "new.yaml" in str(said[-1])


def test_a_file_that_was_removed_does_not_come_back(tmp_path):
    folder, kept = tmp_path / "protocols", tmp_path / "kept"
    folder.mkdir()
    written(folder, LIVER)
    written(folder, LIVER.replace("liver", "spleen"), "spleen.yaml")
    protocols = ProtocolFolder(folder, home=kept)
    (folder / "liver.yaml").unlink()
    written(folder, LIVER.replace("liver", "kidney"), "spleen.yaml")
    assert [protocol.name for protocol in protocols.current()] == ["kidney"]
    written(folder, "name: [")
    assert [protocol.name for protocol in protocols.current()] == ["kidney"]


def test_a_folder_that_vanishes_takes_no_protocol_out_of_force(tmp_path):
    folder = tmp_path / "share"
    folder.mkdir()
    written(folder, LIVER)
    said: list[ProtocolError] = []
    protocols = ProtocolFolder(folder, said.append)
    folder.rename(tmp_path / "unmounted")
    assert [protocol.name for protocol in protocols.current()] == ["liver"]
    assert protocols.current()
    assert [str(error) for error in said] == [f"{folder} is not there any more; its protocols stay in force"]
    (tmp_path / "unmounted").rename(folder)
    written(folder, LIVER.replace("liver", "spleen"))
    assert [protocol.name for protocol in protocols.current()] == ["spleen"]


def test_a_disk_that_is_full_holds_up_nothing(tmp_path):
    folder, kept = tmp_path / "protocols", tmp_path / "kept"
    folder.mkdir()
    kept.write_text("a file where the folder should be")
    written(folder, LIVER)
    with capture_logs() as logged:
        assert ProtocolFolder(folder, home=kept).current()
    assert [line["event"] for line in logged] == ["protocol_version_not_kept"]


def test_a_bad_edit_is_an_error_in_the_log(tmp_path):
    path = written(tmp_path, LIVER)
    protocols = ProtocolFolder(tmp_path)
    path.write_text("name: [")
    with capture_logs() as logged:
        protocols.current()
        protocols.current()
    (line,) = logged
    assert (line["log_level"], line["event"]) == ("error", "protocol_change_rejected")
    assert "liver.yaml, line 1" in line["problem"]


def test_every_file_with_a_problem_is_named(tmp_path):
    written(tmp_path, "name: [", "a.yaml")
    written(tmp_path, LIVER, "b.yaml")
    written(tmp_path, LIVER, "c.yaml")
    assert [str(problem).split(":")[0].split(",")[0] for problem in problems_in(tmp_path)] == [
        str(tmp_path / "a.yaml"),
        str(tmp_path / "c.yaml"),
    ]


NO_MANDIBLE = "name: jaw\nmatch: {Modality: CT}\nprompts: [no mandible]\n"


def test_a_node_starts_without_a_protocol_that_it_cannot_read(tmp_path):
    """A release that refuses what was valid must not stop a node: it receives, and says which protocol is off."""
    folder, home = tmp_path / "protocols", tmp_path / "home"
    folder.mkdir()
    written(folder, LIVER)
    written(folder, NO_MANDIBLE, "jaw.yaml")
    (home / "protocols-in-force").mkdir(parents=True)
    written(home / "protocols-in-force", NO_MANDIBLE, "jaw.yaml")  # as the release before kept it
    back: list[float] = []
    for _ in range(2):
        with capture_logs() as logged:
            protocols = ProtocolFolder(folder, on_return=back.append, home=home)
        assert [protocol.name for protocol in protocols.current()] == ["liver"]
        (line,) = logged
        assert (line["log_level"], line["event"]) == ("error", "protocol_off")
        assert "jaw.yaml, line 3, prompts.1: the prompt 'no mandible'" in line["problem"]
    (problem,) = protocols.problems
    (off,) = off_protocols(home)
    assert problem == off.sentence
    assert problem.endswith(
        "the protocol is off: its studies are stored, and segmented when the file can be read again"
    )
    written(folder, NO_MANDIBLE.replace("no mandible", "mandible"), "jaw.yaml")
    assert [protocol.name for protocol in protocols.current()] == ["jaw", "liver"]
    assert (off_protocols(home), back) == ([], [off.unasked_since])


def test_a_protocol_that_comes_back_while_the_ledger_is_away_is_told_at_the_next_look(tmp_path):
    folder, home = tmp_path / "protocols", tmp_path / "home"
    folder.mkdir()
    written(folder, NO_MANDIBLE, "jaw.yaml")
    told: list[float] = []

    def tell(since: float) -> None:
        told.append(since)
        if len(told) == 1:
            raise LedgerError("the database does not answer")

    protocols = ProtocolFolder(folder, on_return=tell, home=home)
    (off,) = off_protocols(home)
    written(folder, NO_MANDIBLE.replace("no mandible", "mandible"), "jaw.yaml")
    for seen in (1, 2, 2):
        assert [protocol.name for protocol in protocols.current()] == ["jaw"]
        assert told == [off.unasked_since] * seen
    assert off_protocols(home) == []


def test_a_protocol_that_is_mended_under_another_name_is_told_too(tmp_path):
    folder, home = tmp_path / "protocols", tmp_path / "home"
    folder.mkdir()
    path = written(folder, NO_MANDIBLE, "jaw.yaml")
    back: list[float] = []
    protocols = ProtocolFolder(folder, on_return=back.append, home=home)
    (off,) = off_protocols(home)
    path.unlink()
    written(folder, NO_MANDIBLE.replace("no mandible", "mandible"), "mandible.yaml")
    assert [protocol.name for protocol in protocols.current()] == ["jaw"]
    assert (off_protocols(home), back) == ([], [off.unasked_since])


def test_commands_read_protocols_as_a_start_would_and_leave_no_trace(tmp_path):
    folder, home = tmp_path / "protocols", tmp_path / "home"
    folder.mkdir()
    written(folder, LIVER)
    written(folder, NO_MANDIBLE, "jaw.yaml")
    assert len(ProtocolFolder(folder, home=home, keeps=False, on_error=lambda _: None).problems) == 1
    assert not home.exists()


def test_a_file_that_is_off_and_goes_is_forgotten(tmp_path):
    folder, home = tmp_path / "protocols", tmp_path / "home"
    folder.mkdir()
    path = written(folder, NO_MANDIBLE, "jaw.yaml")
    back: list[float] = []
    protocols = ProtocolFolder(folder, on_return=back.append, home=home)
    path.unlink()
    assert protocols.current() == []
    assert (off_protocols(home), back) == ([], [])


# -- what a condition means

WORDS = st.sampled_from(["CT", "MR", "PT", "LOCALIZER", "HEAD", "NECK"])
NUMBERS = st.floats(-1000, 1000, allow_nan=False).map(lambda number: round(number, 3))


@given(WORDS, WORDS)
def test_equals_is_the_value_and_nothing_else(there, wanted):
    assert takes({"SeriesDescription": wanted.lower()}, series(header(SeriesDescription=there))) is (there == wanted)


@given(WORDS, st.lists(WORDS, min_size=1))
def test_a_list_of_values_is_any_of_them(there, wanted):
    assert takes({"SeriesDescription": {"equals": wanted}}, series(header(SeriesDescription=there))) is (
        there in wanted
    )


@given(NUMBERS, NUMBERS, NUMBERS)
def test_min_and_max_are_a_closed_range(there, one, other):
    low, high = sorted((one, other))
    candidate = series(header(SliceLocation=str(there)))
    assert takes({"SliceLocation": {"min": low, "max": high}}, candidate) is (low <= there <= high)


def test_numbers_are_compared_as_numbers():
    candidate = series(header(SliceThickness="2.50", KVP="120", Rows=512))
    assert takes({"SliceThickness": 2.5, "KVP": 120.0, "Rows": {"equals": "512"}}, candidate)


@pytest.mark.parametrize(
    ("age", "grown"), [("018Y", True), ("017Y", False), ("215M", False), ("216M", True), ("900D", False)]
)
def test_ages_are_compared_in_years(age, grown):
    assert takes({"PatientAge": {"min": 18}}, series(header(PatientAge=age))) is grown


def test_dates_are_compared_as_they_are_written():
    candidate = series(header(StudyDate="20260131", StudyTime="081500.25"))
    assert takes({"StudyDate": {"min": 20260101, "max": 20260131}, "StudyTime": {"max": 120000}}, candidate)
    assert not takes({"StudyDate": {"min": 20260201}}, candidate)


@pytest.mark.parametrize("header_", [header(), header(SliceThickness=None), header(StudyDescription="thin")])
def test_what_is_absent_or_empty_satisfies_nothing_but_absence(header_):
    candidate = series(header_)
    for condition in (3.0, {"min": 0}, {"regex": ""}, {"present": True}):
        assert not takes({"SliceThickness": condition}, candidate)
    assert takes({"SliceThickness": {"present": False}}, candidate)


def test_one_of_several_values_is_enough():
    candidate = series(header(ImageType=["ORIGINAL", "PRIMARY", "AXIAL"]))
    assert takes({"ImageType": "axial"}, candidate)
    assert takes({"ImageType": {"regex": "^AX"}}, candidate)
    assert not takes({"ImageType": "SECONDARY"}, candidate)


def test_attributes_have_tags_and_series_have_facts():
    candidate = series(header(Modality="CT"), header(Modality="CT"), origin=Origin("SCANNER", "", "10.0.0.1"))
    assert takes({"0008,0060": "CT", "(0008,0060)": "CT", "CallingAE": "SCANNER"}, candidate)
    assert takes({"Instances": {"min": 2, "max": 2}, "SenderAddress": {"regex": r"^10\."}}, candidate)


@given(st.data())
def test_nothing_is_decided_from_the_first_slice(data):
    """One image that differs, wherever it lies, makes a condition fail; the order of images makes no difference."""
    images = data.draw(st.lists(WORDS, min_size=1, max_size=6))
    candidate = series(*[header(SeriesDescription=word) for word in images])
    wanted = data.draw(WORDS)
    assert takes({"SeriesDescription": wanted}, candidate) is (set(images) == {wanted})
    shuffled = series(*[header(SeriesDescription=word) for word in data.draw(st.permutations(images))])
    assert takes({"SeriesDescription": wanted}, candidate) is takes({"SeriesDescription": wanted}, shuffled)


LEAVES = st.builds(lambda name, value: {name: value}, st.sampled_from(["SeriesDescription", "Modality"]), WORDS)
TREES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.builds(lambda parts: {"all": parts}, st.lists(inner, min_size=1, max_size=3)),
        st.builds(lambda parts: {"any": parts}, st.lists(inner, min_size=1, max_size=3)),
        st.builds(lambda part: {"not": part}, inner),
    ),
    max_leaves=6,
)


def logic(tree: dict, modality: str, description: str) -> bool:
    """What a tree of conditions means, said in Python."""
    (key, value), *_ = tree.items()
    if key in ("all", "any"):
        return {"all": all, "any": any}[key](logic(part, modality, description) for part in value)
    if key == "not":
        return not logic(value, modality, description)
    return value == (modality if key == "Modality" else description)


@given(TREES, WORDS, WORDS)
def test_groups_of_conditions_are_logic(tree, modality, description):
    candidate = series(header(Modality=modality, SeriesDescription=description))
    assert takes(tree, candidate) is logic(tree, modality, description)


@given(TREES, WORDS)
def test_every_answer_has_its_findings(tree, word):
    taken, findings = Match.model_validate(tree).ask(series(header(Modality=word, SeriesDescription=word)))
    assert findings
    assert any(finding.holds is taken for finding in findings)


def test_findings_say_what_was_asked_and_what_was_there():
    match = Match.model_validate({"Modality": "CT", "SliceThickness": {"max": 3}, "not": {"ImageType": "LOCALIZER"}})
    headers = [header(Modality="CT", SliceThickness=mm, ImageType=["DERIVED", "LOCALIZER"]) for mm in ("2", "5", "2")]
    taken, findings = match.ask(series(*headers))
    assert not taken
    assert [str(finding) for finding in findings] == [
        "Modality equals 'CT': yes, it is CT",
        "SliceThickness max 3.0: no, it is 5",
        "not ImageType equals 'LOCALIZER': no, it is DERIVED\\LOCALIZER",
    ]


def test_groups_stand_before_their_members_and_only_the_decisive_are_the_reason():
    conditions = {
        "Modality": "MR",
        "any": [{"BodyPartExamined": "HEAD"}, {"SeriesDescription": "head", "Rows": {"min": 256}}],
        "not": {"ImageType": "LOCALIZER", "KVP": {"present": True}},
    }
    images = series(header(Modality="CT", SeriesDescription="Head", Rows=512, ImageType=["ORIGINAL"], KVP="120"))
    taken, findings = Match.model_validate(conditions).ask(images)
    assert [(finding.level, finding.condition, finding.holds) for finding in findings] == [
        (0, "Modality equals 'MR'", False),
        (0, "any of these", True),
        (1, "BodyPartExamined equals 'HEAD'", False),
        (1, "all of these", True),
        (2, "SeriesDescription equals 'head'", True),
        (2, "Rows min 256.0", True),
        (0, "not all of these", True),
        (1, "ImageType equals 'LOCALIZER'", False),
        (1, "KVP present True", True),
    ]
    assert [str(finding) for finding in decisive(findings, taken)] == ["Modality equals 'MR': no, it is CT"]


def test_a_denied_group_of_any_is_none_of_these():
    match = Match.model_validate({"not": {"any": [{"Modality": "MR"}, {"ImageType": "LOCALIZER"}]}})
    taken, findings = match.ask(series(header(Modality="CT", ImageType=["ORIGINAL"])))
    assert taken
    assert [(finding.level, finding.condition, finding.holds) for finding in findings] == [
        (0, "none of these", True),
        (1, "Modality equals 'MR'", False),
        (1, "ImageType equals 'LOCALIZER'", False),
    ]
    assert not takes({"not": {}}, series(header(Modality="CT"))), (
        "what asks for nothing holds, so its opposite does not"
    )


@given(TREES, WORDS, WORDS)
def test_what_is_not_known_leaves_open_what_depends_on_it(tree, modality, description):
    """An answer on what a PACS lists is never contradicted by what the images turn out to say."""
    listed = Candidate([header(Modality=modality)], only=("Modality",))
    before, _ = Match.model_validate(tree).judge(listed)
    after, _ = Match.model_validate(tree).judge(series(header(Modality=modality, SeriesDescription=description)))
    assert before in (None, after)
    if "SeriesDescription" not in str(tree):
        assert before is not None


def test_how_a_series_came_is_not_known_before_it_has_come():
    (finding,) = Match.model_validate({"CallingAE": "SCANNER"}).judge(series(header(Modality="CT")))[1]
    assert str(finding) == "CallingAE equals 'SCANNER': not known"
    assert finding.holds is None


def test_frames_count_as_images():
    many = header(Modality="MR", NumberOfFrames="30")
    assert takes({"Instances": {"min": 60, "max": 60}}, series(many, many))
    assert takes({"Instances": 2}, series(header(), header()))


def test_conditions_reach_into_sequences_and_private_elements():
    item = header(ScheduledProcedureStepDescription="Brain tumour follow-up")
    images = header(RequestAttributesSequence=[header(), item])
    images.add_new(0x00191015, "LO", "SPIRAL")
    assert takes(
        {"RequestAttributesSequence.ScheduledProcedureStepDescription": {"regex": "tumou?r"}, "0019,1015": "spiral"},
        series(images),
    )
    assert takes({"RequestAttributesSequence.RequestedProcedureID": {"present": False}}, series(images))
    assert not takes({"Modality.CodeValue": {"present": True}}, series(header(Modality="CT")))
    with pytest.raises(ValueError, match=r"'Foo' is no DICOM keyword"):
        Match.model_validate({"RequestAttributesSequence.Foo": "x"})


def test_a_series_with_no_image_is_taken_by_no_condition():
    assert not takes({"Modality": "CT"}, series())


def test_a_condition_from_python_is_as_strict_as_from_a_file():
    with pytest.raises(ValueError, match="a condition needs a value"):
        Condition.model_validate({"equals": None})


# -- real headers


def test_a_real_study_of_a_localizer_a_volume_and_a_summary(shared_data):
    folder = shared_data("ct_gantry_tilt_phantom")
    conditions = {"Modality": "CT", "Instances": {"min": 20}, "not": {"ImageType": "LOCALIZER"}}
    taken = [candidate for candidate in candidates_in(folder) if takes(conditions, candidate)]
    assert [len(candidate.headers) for candidate in taken] == [54]
    assert all(tag_for_keyword("PixelData") not in head for head in taken[0].headers)


def test_real_headers_answer_numbers_dates_and_multiple_values(shared_data):
    (found,) = series_in(shared_data("ct_abdomen_crlm1004"))
    assert len(found.paths) == len(found.candidate.headers) == 41
    conditions = {
        "SliceThickness": {"equals": 5},
        "PixelSpacing": {"min": 0.79, "max": 0.80},
        "PatientPosition": "FFS",
        "Manufacturer": {"regex": "^ge"},
        "InstanceNumber": {"min": 1},
    }
    taken, findings = Match.model_validate(conditions).ask(found.candidate)
    assert taken, [str(finding) for finding in findings if not finding.holds]


def test_a_folder_without_dicom_is_one_sentence(tmp_path):
    (tmp_path / "letter.txt").write_text("no image")
    with pytest.raises(
        FolderError,
        match=r"holds no DICOM series \(letter\.txt is not a readable DICOM file: .*\); name a folder of DICOM files",
    ):
        series_in(tmp_path)
    with pytest.raises(FolderError, match="is not a folder"):
        series_in(tmp_path / "letter.txt")


def test_a_file_of_gigabytes_is_refused_by_its_size(tmp_path):
    """It is not read first: the folder is the site's, and so is whatever somebody copies there."""
    with (tmp_path / "huge.yaml").open("wb") as huge:
        huge.truncate(3 * 2**30)
    with pytest.raises(ProtocolError, match=r"huge\.yaml: has 3221225472 bytes, and at most 4194304 are read"):
        read_protocol(tmp_path / "huge.yaml")

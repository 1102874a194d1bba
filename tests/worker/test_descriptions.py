"""`protocols try`: a table of descriptions, one series a line, is asked what the node would take of it."""

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
from typer.testing import CliRunner

from worker.__main__ import app
from worker.cli.protocols import app as protocols_app
from worker.explain.descriptions import TableError, of_rows, read_rows
from worker.explain.score import score, unknown
from worker.protocols.yaml_file import parse_protocol

NECK = parse_protocol(
    "name: neck\nmatch: {Modality: CT, Instances: {min: 20}, StudyDescription: {regex: neck}}\n"
    "choose: {take: best, never: [projection, phantom]}\nprompts: [larynx]\n",
    "neck.yaml",
)
REPORT = parse_protocol("name: report\nmatch: {Modality: CT}\nreport: {required: true}\n", "report.yaml")


@pytest.fixture
def table(tmp_path: Path) -> Callable[..., Path]:
    """Writes a table of rows, each a mapping of the same columns."""

    def write(*rows: Mapping[str, object], delimiter: str = ",") -> Path:
        path = tmp_path / "list.csv"
        with path.open("w", encoding="utf-8-sig", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
            writer.writeheader()
            writer.writerows(rows)
        return path

    return write


def taken(path: Path, protocols: Sequence = (NECK,)) -> list[object]:
    return [one.taken for one in of_rows(read_rows(path), protocols, "list.csv")]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_rows_are_asked_as_series_are(table, delimiter):
    base = {"Modality": "CT", "StudyDescription": "CT neck", "SeriesDescription": "Größe 2,0; weich", "Instances": 80}
    rows = [base, base | {"Modality": "MR"}, base | {"Instances": 19}, base | {"SeriesDescription": "MIP cor"}]
    rows += [base | {"StudyDescription": "phantom neck"}, base | {"Instances": ""}]
    assert taken(table(*rows, delimiter=delimiter)) == [True, False, False, False, False, False]


def test_without_a_column_for_it_there_are_enough_images(table):
    assert taken(table({"Modality": "CT", "StudyDescription": "Neck"})) == [True]


def test_of_the_rows_of_one_study_the_best_is_taken(table):
    base = {"StudyInstanceUID": "1.2", "Modality": "CT", "StudyDescription": "neck", "ImageType": r"ORIGINAL\PRIMARY"}
    thick, thin = base | {"SliceThickness": "5.0"}, base | {"SliceThickness": "1.0"}
    sagittal = thin | {"SliceThickness": "0.5", "ImageType": r"DERIVED\SECONDARY"}
    rows = [{"ImageOrientationPatient": r"1\0\0\0\1\0"} | one for one in (thick, thin, sagittal)]
    rows.append(rows[0] | {"StudyInstanceUID": "1.3"})
    for row in rows:
        row["Instances"] = round(300 / float(row["SliceThickness"]))
    assert taken(table(*rows)) == [False, True, False, True]


def test_a_table_that_cannot_be_read_is_refused_in_a_sentence(table, tmp_path):
    with pytest.raises(TableError, match=r"none of its columns \(a, b\) is a DICOM keyword"):
        read_rows(table({"a": 1, "b": 2}))
    with pytest.raises(TableError, match="line 2, SliceThickness: 'thin' is no value of it"):
        taken(table({"Modality": "CT", "SliceThickness": "thin"}))
    (tmp_path / "binary.csv").write_bytes(b"Modality\n\xff\xfe\n")
    with pytest.raises(TableError, match="cannot be read as CSV in UTF-8"):
        read_rows(tmp_path / "binary.csv")


def test_a_score_counts_false_takes_and_misses(table):
    right = {"Modality": "CT", "StudyDescription": "neck", "expected": "neck"}
    rows = read_rows(table(right, right | {"expected": ""}, right | {"StudyDescription": "CT"}, right))
    answers = of_rows(rows, [NECK, REPORT], "list.csv")
    each = [(str(row.line), row.cells["expected"], answers[2 * i : 2 * i + 2]) for i, row in enumerate(rows)]
    (found,) = score(each, ["neck", "report"])
    assert (found.expected, found.taken, found.false, found.missed) == (3, 3, ("3",), ("4",))
    assert (found.false_share, found.missed_share) == (1 / 3, 1 / 3)


def test_a_pattern_is_met_by_any_of_its_protocols(table):
    male = NECK.model_copy(update={"name": "ct-pelvis-male-oar"})
    plain = NECK.model_copy(update={"name": "ct-pelvis-oar"})
    path = table({"Modality": "CT", "StudyDescription": "neck", "expected": "ct-pelvis-*-oar"})
    for protocol in (male, plain):
        answers = of_rows(read_rows(path), [protocol], "list.csv")
        (found,) = score([("2", "ct-pelvis-*-oar", answers)], [protocol.name])
        assert (found.protocol, found.expected, found.false, found.missed) == ("ct-pelvis-*-oar", 1, (), ())
    assert unknown(["ct-pelvis-*-oar, knee"], [plain.name]) == ["knee"]


def test_the_command_prints_who_takes_what_and_the_figures(table, tmp_path, monkeypatch):
    monkeypatch.setenv("VOXTELL_HOME", str(tmp_path / "home"))
    protocol = tmp_path / "neck.yaml"
    protocol.write_text("name: neck\nmatch: {Modality: CT, StudyDescription: {regex: neck}}\nprompts: [larynx]\n")
    path = table(
        {"Modality": "CT", "StudyDescription": "CT neck", "expected": "neck"},
        {"Modality": "CT", "StudyDescription": "CT throat", "expected": "neck"},
    )
    asked = ["try", str(path), "--protocols", str(protocol), "--expect", "expected"]
    said = CliRunner().invoke(protocols_app, asked)
    assert said.exit_code == 0, said.output
    assert "neck does not take it: StudyDescription is CT throat, which has none of the words asked for" in said.output
    assert "neck misses line 3" in said.output
    facts = json.loads(CliRunner().invoke(app, ["protocols", *asked, "--json"]).output)
    assert [(one["protocol"], one["missed_share"]) for one in facts["scores"]] == [("neck", 0.5)]
    wrong = CliRunner().invoke(protocols_app, [*asked[:-1], "hoped"])
    assert wrong.exit_code == 2
    path = table({"Modality": "CT", "expected": "knee"})
    assert CliRunner().invoke(protocols_app, asked).exit_code == 2

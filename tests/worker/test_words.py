"""Words of descriptions: what they name, which of them decides, and which of several series is the one to contour."""

import csv
import json
from collections.abc import Callable, Mapping
from importlib.resources import files
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset

from worker.errors import ProtocolError
from worker.explain.descriptions import Row, of_rows, read_rows
from worker.explain.dry_run import studies
from worker.explain.score import score
from worker.protocols import Candidate, read_folder
from worker.protocols.words import plain, regions_in, said_in, vocabulary
from worker.protocols.yaml_file import parse_protocol

SHIPPED = read_folder(Path(str(files("worker.protocols") / "shipped")))
NECK, TRUNK = "head-and-neck-oar", "ct-thorax-abdomen-oar"
MOST_FALSE, MOST_MISSED = 0.03, 0.05
"""What the shipped protocols may do wrong on real descriptions."""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Ganzkörper", "ganzkorper"),
        ("GANZKOERPER-CT", "ganzkorper ct"),
        ("Fußknöchel", "fussknochel"),
        ("CT_AbdPel^Routine", "ct abd pel routine"),
        ("Région pelvienne", "region pelvienne"),
        ("", ""),
    ],
)
def test_a_text_is_normalised_once(text, words):
    assert plain(text) == words


@given(st.text())
def test_any_text_becomes_words_without_signs(text):
    words = plain(text)
    assert all(word.isalnum() or not word.isascii() for word in words.split(" ") if word)
    assert words == words.casefold()
    assert regions_in(text, {}) <= vocabulary().region_names


@pytest.mark.parametrize(
    ("text", "regions"),
    [
        ("HEADNECKCHEST", {"neck", "thorax"}),
        ("ChestAbd 2.0", {"thorax", "abdomen"}),
        ("CT_ABDPELV", {"abdomen", "pelvis"}),
        ("Kopf-Hals nativ", {"neck"}),
        ("Kopf nativ", {"head"}),
        ("HNO Staging", {"neck"}),
        ("Rumpf mit KM", {"thorax", "abdomen", "pelvis"}),
        ("TAP injecté", {"thorax", "abdomen", "pelvis"}),
        ("thoracic spine", {"spine"}),
        ("thoraco-abdominal", {"thorax", "abdomen"}),
        ("Thoracolumbar spine", {"spine"}),
        ("rachis cervical", {"spine"}),
        ("HRCT", {"thorax"}),
        ("1.0 lung window", set()),
        ("head first supine", set()),
        ("Eyes to thighs", {"whole body"}),
        ("gall bladder", {"abdomen"}),
        ("Harnblase", {"pelvis"}),
        ("nothing of the kind", set()),
    ],
)
def test_words_name_regions(text, regions):
    assert regions_in(text, {}) == regions


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("CT-gesteuerte Drainage", "intervention"),
        ("Angiographie der Beine", "angiography"),
        ("Aorta with run-off", "run-off"),
        ("PRE-MONITORING", "timing"),
        ("abd portalvenoes 3.0", "portal venous"),
        ("Hip iMAR 2.0", "metal artefact reduction"),
        ("DE_Mixed 1.0", "mixed image"),
        ("MonoE 55 keV", "part of dual energy"),
        ("T1W_3D_TFE", "T1-weighted"),
    ],
)
def test_words_say_what_else_a_series_is(text, says):
    assert said_in(text, says, {})
    assert not said_in("abdomen axial", says, {})


def test_every_word_of_the_lists_is_found_by_itself():
    known = vocabulary()
    for names, words in known.regions:
        for word in words:
            assert regions_in(word.replace("*", "x"), {}) >= set(names) or len(word.split()) > 1, word
    for name, words in known.says.items():
        assert all(said_in(word.replace("*", "x"), name, {}) for word in words), name


# -- which text decides


def takers(**row: str) -> set[str]:
    cells = {"Modality": "CT", "Instances": "200", **row}
    return {one.protocol for one in of_rows([Row(2, cells)], SHIPPED, "list") if one.taken}


def test_the_words_of_the_series_go_before_those_of_the_study():
    assert takers(StudyDescription="CT neck + thorax", SeriesDescription="Hals 2.0") == {NECK}
    assert takers(StudyDescription="CT neck + thorax", SeriesDescription="Thorax 2.0") == {TRUNK}
    assert takers(StudyDescription="CT neck + thorax", SeriesDescription="ax 2.0") == {NECK, TRUNK}
    assert takers(StudyDescription="CT neck + thorax", SeriesDescription="BWS sag") == set()
    assert takers(StudyDescription="Chest routine", BodyPartExamined="PROSTATE") == {TRUNK}
    assert takers(StudyDescription="Polytrauma", SeriesDescription="Schädel nativ") == set()
    assert takers(StudyDescription="PET-CT whole body", SeriesDescription="lung 1.5") == {TRUNK, "ct-whole-body"}


def test_the_name_of_another_region_in_the_protocol_counts_alone():
    assert takers(ProtocolName="Spine^Routine", StudyDescription="CT abdomen") == set()
    assert takers(ProtocolName="Abdomen^Routine", StudyDescription="CT Abd/Pelvis") == {TRUNK, "ct-pelvis-oar"}


def test_the_reason_is_said_in_plain_words():
    cells = {"Modality": "CT", "StudyDescription": "CT neck biopsy", "SeriesDescription": "Thorax 2.0"}
    (said,) = studies([one for one in of_rows([Row(2, cells)], SHIPPED, "list") if one.protocol == NECK])
    sentence = said.series[0].decisions[0].sentence
    assert "it shows thorax by SeriesDescription, not neck (and 1 more condition fails)" in sentence
    cells["SeriesDescription"] = "Hals 2.0"
    (said,) = studies([one for one in of_rows([Row(2, cells)], SHIPPED, "list") if one.protocol == NECK])
    assert (
        "it says intervention ('biopsy' in StudyDescription), which is excluded" in said.series[0].decisions[0].sentence
    )


def test_what_a_list_does_not_tell_stays_open():
    header = Dataset()
    header.Modality, header.StudyDescription, header.SeriesDescription = "CT", "CT neck", "ax 2.0"
    neck = parse_protocol("name: neck\nmatch: {region: neck}\nprompts: [larynx]\n", "neck.yaml").match
    assert neck.judge(Candidate([header], only={"StudyDescription", "SeriesDescription"}))[0] is None
    header.SeriesDescription = "Hals"
    assert neck.judge(Candidate([header], only={"StudyDescription", "SeriesDescription"}))[0] is True
    assert neck.judge(Candidate([header], only={"StudyDescription"}))[0] is None


def test_a_site_adds_words_of_its_own():
    text = "name: neck\nmatch: {region: neck, words: {neck: ['kh *'], spine: [ws]}}\nprompts: [larynx]\n"
    own, plain_one = parse_protocol(text, "a.yaml"), parse_protocol(text.replace("ws", "hws"), "a.yaml")
    header = Dataset()
    header.SeriesDescription = "KH Planung"
    assert own.ask(Candidate([header]))[0]
    header.SeriesDescription, header.StudyDescription = "WS", "CT neck"
    assert not own.ask(Candidate([header]))[0]
    assert own.digest != plain_one.digest


def test_words_that_there_are_not_are_refused_with_the_line():
    for match in ("{region: throat}", "{says: throat}", "{region: neck, words: {throat: [x]}}"):
        with pytest.raises(ProtocolError, match=r"line 2, .*there are no words for 'throat'; there are for"):
            parse_protocol(f"name: neck\nmatch: {match}\nprompts: [larynx]\n", "a.yaml")
    with pytest.raises(ProtocolError, match=r"line 3, choose.prefer.*named needs a region"):
        parse_protocol(
            "name: a\nmatch: {Modality: CT}\nchoose: {take: best, prefer: [named]}\nprompts: [larynx]\n", "a.yaml"
        )


def test_protocols_without_words_keep_their_digest():
    text = "name: a\nmatch: {Modality: CT, not: {SeriesDescription: {regex: spine}}}\nprompts: [liver]\n"
    assert parse_protocol(text, "a.yaml").digest == "b989db7549228e3b"


# -- which of several series


def chosen(protocol: str, *rows: Mapping[str, str]) -> list[str]:
    axial = {"StudyInstanceUID": "1.2", "Modality": "CT", "Instances": "200", "ImageType": r"ORIGINAL\PRIMARY\AXIAL"}
    table = [Row(i, {**axial, **row}) for i, row in enumerate(rows, start=2)]
    return [one.description for one in of_rows(table, SHIPPED, "list") if one.protocol == protocol and one.taken]


def test_the_series_that_names_the_region_goes_first():
    study = {"StudyDescription": "CT neck/chest/abdomen", "ConvolutionKernel": "STANDARD", "Manufacturer": "GE"}
    trunk = study | {"SeriesDescription": "axial 1.25", "SliceThickness": "1.25", "Instances": "600"}
    neck = study | {"SeriesDescription": "Neck 2.5", "SliceThickness": "2.5", "Instances": "100"}
    assert chosen(NECK, trunk, neck) == ["Neck 2.5"]


def test_a_lung_kernel_is_no_reason_to_be_first():
    study = {"StudyDescription": "HRCT chest", "Manufacturer": "SIEMENS", "SliceThickness": "1.0"}
    lung = study | {"SeriesDescription": "Lung 1.0", "ConvolutionKernel": "B70f"}
    soft = study | {"SeriesDescription": "Mediastinum 1.0", "ConvolutionKernel": "B30f"}
    assert chosen(TRUNK, lung, soft) == ["Mediastinum 1.0"]


def test_phases_metal_and_energies_are_chosen_as_a_physicist_does():
    study = {"StudyDescription": "CT abdomen", "ConvolutionKernel": "B30f", "Manufacturer": "SIEMENS"}
    phases = [study | {"SeriesDescription": one} for one in ("Leber arteriell", "Leber portalvenös", "Leber spät")]
    assert chosen(TRUNK, *phases) == ["Leber portalvenös"]
    energies = [study | {"SeriesDescription": one} for one in ("Sn140kV 1.0", "MonoE 40 keV", "DE mixed 1.0")]
    assert chosen(TRUNK, *energies) == ["DE mixed 1.0"]
    hips = [study | {"SeriesDescription": one} for one in ("Becken 2.0", "Becken 2.0 iMAR")]
    assert chosen("ct-pelvis-oar", *hips) == ["Becken 2.0 iMAR"]
    pet = [study | {"SeriesDescription": one} for one in ("Abdomen low dose AC", "Abdomen diagnostic")]
    assert chosen(TRUNK, *pet) == ["Abdomen diagnostic"]


# -- real descriptions


def test_real_descriptions_go_to_the_protocols_that_should_take_them(shared_case: Callable[..., Path], tmp_path: Path):
    entries = json.loads(shared_case("words", "descriptions_idc.json").read_text())
    entries = [one for one in entries if one["judged"] != "unknowable"]
    names = json.loads(shared_case("words", "descriptions_names.json").read_text())
    columns = ["Modality", "BodyPartExamined", "StudyDescription", "SeriesDescription", "PatientSex", "Instances"]
    with (tmp_path / "real.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*columns, "expected"])
        for one in entries + [{"Instances": 200} | name for name in names]:
            writer.writerow([*(one.get(column, "") for column in columns), " ".join(one["expected"])])
    rows = read_rows(tmp_path / "real.csv")
    answers = of_rows(rows, SHIPPED, "real.csv")
    count = len(SHIPPED)
    each = [(str(row.line), row.cells["expected"], answers[i * count :][:count]) for i, row in enumerate(rows)]
    scores = score(each, [protocol.name for protocol in SHIPPED])
    assert len(scores) == 5
    for one in scores:
        assert one.expected >= 9, one
        assert one.false_share <= MOST_FALSE, one
        assert one.missed_share <= MOST_MISSED, one

"""The shipped protocols: what they take, in four languages and on real headers, and what they say of each structure."""

import json
import re
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import pytest
from pydicom import Dataset

from dicom_node.regions import region_for
from tests.support.model_files import looks_published
from worker.explain.dry_run import of_folder
from worker.protocols import Candidate, Protocol, inactive, read_folder
from worker.settings import Settings

SHIPPED = {protocol.name: protocol for protocol in read_folder(Path(str(files("worker.protocols") / "shipped")))}
STRUCTURES = [(protocol, prompt) for protocol in SHIPPED.values() for prompt in protocol.prompts]

THORAX, NECK, BODY, BRAIN, LESIONS = (
    *("ct-thorax-abdomen-oar", "head-and-neck-oar", "ct-whole-body"),
    *("mr-brain", "lesions-by-report"),
)
MAN, WOMAN, SOMEBODY = "ct-pelvis-male-oar", "ct-pelvis-female-oar", "ct-pelvis-oar"


def test_everything_that_was_promised_is_shipped():
    assert set(SHIPPED) == {THORAX, NECK, BODY, BRAIN, LESIONS, MAN, WOMAN, SOMEBODY}


def test_no_shipped_protocol_takes_a_phantom():
    assert all("phantom" in protocol.choose.never for protocol in SHIPPED.values())


def test_only_what_the_bundled_model_knows_runs_with_it(tmp_path):
    active = [name for name, protocol in SHIPPED.items() if not inactive(protocol, Settings(home=tmp_path))]
    assert active == [NECK]
    assert "voxtell-dicom model fetch" in inactive(SHIPPED[THORAX], Settings(home=tmp_path))


# -- structures


@pytest.mark.parametrize("protocol", SHIPPED.values(), ids=SHIPPED)
def test_names_follow_tg263(protocol: Protocol):
    """Its rules: 16 characters, no blanks, sides as _L and _R at the end, no two names alike but for their case."""
    names = [structure.tg263 for structure in (*protocol.prompts, *protocol.derived) if structure.tg263]
    for name in names:
        assert re.fullmatch(r"[A-Z][A-Za-z0-9]*(_[A-Z0-9][A-Za-z0-9]*)*", name)
        assert len(name) <= 16
    assert len({name.casefold() for name in names}) == len(names)


def test_names_are_those_of_the_table_of_regions():
    for protocol, prompt in STRUCTURES:
        known = region_for(prompt.text).tg263
        assert not known or prompt.tg263 == known, f"{protocol.name}: {prompt.text}"


def test_sides_come_in_pairs_that_watch_each_other():
    for protocol, prompt in STRUCTURES:
        side = region_for(prompt.text).side
        if side in ("left", "right"):
            other = prompt.text.replace(side, {"left": "right", "right": "left"}[side])
            partner = next((one for one in protocol.prompts if one.text == other), None)
            assert partner is not None, f"{protocol.name}: {prompt.text} has no partner"
            left, right = (prompt, partner) if side == "left" else (partner, prompt)
            assert left.expect.left_of == right.label
            assert not prompt.tg263 or prompt.tg263.endswith(f"_{side[0].upper()}")


def test_every_structure_has_a_plausible_volume_and_a_colour_of_its_own():
    for protocol, prompt in STRUCTURES:
        assert prompt.expect.volume_ml is not None, f"{protocol.name}: {prompt.text}"
        least, most = prompt.expect.volume_ml
        assert most > 2 * least, "wide: it is to catch what is no such structure, not what is a small one"
    for protocol in SHIPPED.values():
        colours = [prompt.colour or region_for(prompt.text).colour for prompt in protocol.prompts]
        assert len(set(colours)) >= 0.5 * len(colours), "left and right share one"


def test_the_same_structure_is_the_same_everywhere():
    seen: dict[str, object] = {}
    for protocol, prompt in STRUCTURES:
        assert seen.setdefault(prompt.text, prompt.tg263) == prompt.tg263, f"{protocol.name}: {prompt.text}"


def test_planners_contours_are_plausible_and_their_slips_are_not(shared_data: Callable[..., Path]):
    """203 planning CTs: nearly every contour lies in the ranges, and the cords that are none do not."""
    limits = {prompt.tg263: prompt.expect.volume_ml for prompt in SHIPPED[NECK].prompts}
    names = {"Brainstem": "Brainstem", "SpinalCord": "SpinalCord", "RightParotid": "Parotid_R"}
    names |= {"LeftParotid": "Parotid_L", "Esophagus": "Esophagus", "Larynx": "Larynx", "Mandible": "Bone_Mandible"}
    outside, known_slips, contours = [], [], 0
    for case in json.loads(shared_data("openkbp", "index.json").read_text())["cases"]:
        a, b, c = case["voxel_mm"]
        slips = any("oversized" in flag for flag in case["flags"])
        for name, voxels in case["oar_voxels"].items():
            contours += 1
            least, most = limits[names[name]]
            implausible = not least <= voxels * a * b * c / 1000 <= most
            if slips and name == "SpinalCord":
                known_slips.append(implausible)
            elif implausible:
                outside.append((case["case"], name, round(voxels * a * b * c / 1000, 1)))
    assert contours > 900
    assert known_slips
    assert all(known_slips)
    assert len(outside) < 0.02 * contours, outside


# -- conditions


def series(modality: str, images: int = 120, **attributes: object) -> Candidate:
    header = Dataset()
    header.Modality = modality
    for keyword, value in attributes.items():
        setattr(header, keyword, value)
    return Candidate([header] * images)


def takers(candidate: Candidate) -> set[str]:
    return {name for name, protocol in SHIPPED.items() if protocol.ask(candidate)[0]} - {LESIONS}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("CT Chest with contrast", {THORAX}),
        ("CT Thorax nativ", {THORAX}),
        ("Scanner thoracique injecté", {THORAX}),
        ("TC de tórax", {THORAX}),
        ("CT Oberbauch biphasisch", {THORAX}),
        ("CT Leber 3-Phasen", {THORAX}),
        ("TDM pancréas", {THORAX}),
        ("TAC abdomen con contraste", {THORAX}),
        ("CT CH/ABD/PEL W/ CONTRAST", {THORAX, SOMEBODY}),
        ("CT CAP", {THORAX, SOMEBODY}),
        ("CT Abdomen/Becken", {THORAX, SOMEBODY}),
        ("CT Becken", {SOMEBODY}),
        ("Scanner du bassin", {SOMEBODY}),
        ("TC pélvico", {SOMEBODY}),
        ("RT Prostata Planung", {SOMEBODY}),
        ("CT Neck with contrast", {NECK}),
        ("RT Head & Neck", {NECK}),
        ("RT H&N", {NECK}),
        ("CT Kopf/Hals", {NECK}),
        ("CT Hals KM", {NECK}),
        ("Scanner cou injecté", {NECK}),
        ("Scanner ORL", {NECK}),
        ("TC de cuello", {NECK}),
        ("CT Polytrauma", {BODY}),
        ("Ganzkörper-CT", {BODY}),
        ("Scanner corps entier", {BODY}),
        ("TC cuerpo entero", {BODY}),
        ("PET/CT whole body", {BODY}),
        ("CT Hals/Thorax/Abdomen", {NECK, THORAX}),
        ("CT Head without contrast", set()),
        ("CT Schädel nativ", set()),
        ("CT Thoracic spine", set()),
        ("CT LWS", set()),
        ("CT Halswirbelsäule", set()),
        ("Rachis thoracique", set()),
        ("CT Knie links", set()),
        ("Herzkatheter", set()),
    ],
)
def test_a_ct_is_taken_by_the_words_of_its_study(words, expected):
    assert takers(series("CT", StudyDescription=words)) == expected
    assert takers(series("CT", SeriesDescription=words)) == expected
    assert takers(series("CT", ProtocolName=words)) == expected
    assert takers(series("CT", images=3, StudyDescription=words)) == set(), "a scout has few images"
    assert takers(series("XA", StudyDescription=words)) == set()


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        *(("CHEST", {THORAX}), ("ABDOMEN", {THORAX}), ("PELVIS", {SOMEBODY}), ("HEADNECK", {NECK}), ("NECK", {NECK})),
        *(("WHOLEBODY", {BODY}), ("HEAD", set()), ("BRAIN", set()), ("EXTREMITY", set()), ("LSPINE", set())),
    ],
)
def test_a_ct_is_taken_by_its_body_part(part, expected):
    assert takers(series("CT", BodyPartExamined=part)) == expected


@pytest.mark.parametrize(("sex", "expected"), [("M", MAN), ("F", WOMAN), ("O", SOMEBODY), ("", SOMEBODY)])
def test_a_pelvis_is_one_protocols_whose_structures_the_patient_has(sex, expected):
    assert takers(series("CT", BodyPartExamined="PELVIS", PatientSex=sex)) == {expected}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("Smart Prep Series", set()),
        ("Monitoring  10.0", set()),
        ("Calcium Score", set()),
        ("BWS sagittal", set()),
        ("Thorax 1.5 Br40", {THORAX}),
    ],
)
def test_series_of_a_thorax_study_that_are_something_else_are_left_out(words, expected):
    assert takers(series("CT", StudyDescription="CT Thorax", SeriesDescription=words)) == expected


@pytest.mark.parametrize(
    ("study", "words", "taken"),
    [
        ("MRT Kopf", "t1_mprage_sag_p2_iso", True),
        ("MR Brain wo contrast", "AX T1", True),
        ("IRM cérébrale", "3D BRAVO", True),
        ("IRM encéphalique", "SAG T1 SE", True),
        ("RM cerebral", "t1_se_tra", True),
        ("MRT Schädel", "T1 FSPGR 3D", True),
        ("MRT Kopf", "t2_tse_tra", False),
        ("MRT Kopf", "t1_flair_tra_dark-fluid", False),
        ("MRT Kopf", "ep2d_diff_ADC", False),
        ("MRT Kopf", "TOF_3D_multi-slab", False),
        ("MRT Kopf", "T1 map", False),
        ("MRT Knie", "t1_tse_sag", False),
        ("MRT Leber", "t1_vibe_fs_tra", False),
    ],
)
def test_a_brain_mr_is_taken_when_it_is_t1_weighted(study, words, taken):
    assert (BRAIN in takers(series("MR", StudyDescription=study, SeriesDescription=words))) is taken


def test_a_brain_mr_without_a_telling_name_is_taken_by_its_times():
    times = {"EchoTime": "2.9", "RepetitionTime": "2300", "InversionTime": "900"}
    assert takers(series("MR", BodyPartExamined="BRAIN", SeriesDescription="sag 1mm", **times)) == {BRAIN}
    flair = {"EchoTime": "120", "RepetitionTime": "9000", "InversionTime": "2500"}
    assert takers(series("MR", BodyPartExamined="BRAIN", SeriesDescription="ax", **flair)) == set()


def test_reports_are_followed_in_ct_and_mr():
    asked = SHIPPED[LESIONS]
    assert [asked.ask(series(modality))[0] for modality in ("CT", "MR", "US", "SR")] == [True, True, False, False]
    assert (asked.report.use, asked.report.required, asked.prompts) == (True, True, ())


# -- real headers


@pytest.mark.long
@pytest.mark.parametrize(
    ("case", "expected"),
    [
        (("ct_abdomen_crlm1004",), {"CT CH/AB/PEL": {THORAX, MAN, LESIONS}}),
        (("ct_gantry_tilt_phantom",), {"STEREOTAXIS": {LESIONS}}),
        (("mr_brain_t1sag", "dicom"), {"t1_fl2d_sag": {BRAIN, LESIONS}}),
        (("fruit_pacs",), {}),
        (("rtstruct_sts",), {"IBSI_1_STS_00": {LESIONS}}),
    ],
)
def test_real_studies(case, expected, shared_data: Callable[..., Path], tmp_path):
    """What is taken, by the first words of the series; with the published weights. Scouts and summaries never are."""
    node = Settings(home=tmp_path, model=str(looks_published(tmp_path / "model")))
    taken: dict[str, set[str]] = {}
    for answer in of_folder(shared_data(case[0]), list(SHIPPED.values()), node):
        if answer.taken is not False:
            words = answer.description.split("(", 1)[1].rsplit(")", 1)[0]
            key = next((known for known in expected if words.startswith(known)), words)
            taken.setdefault(key, set()).add(answer.protocol)
    assert taken == expected


def test_a_protocol_for_organs_at_risk_makes_contours_for_the_planning_system():
    made = {name: protocol.outputs for name, protocol in SHIPPED.items() if name.endswith("-oar")}
    assert len(made) == 5
    assert all({"seg", "rtstruct"} <= {*outputs} for outputs in made.values()), made

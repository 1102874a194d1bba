"""Prompts become codes, sides and names; what the table does not know is never given a wrong code."""

import json
import re
import tomllib
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.sr.codedict import codes

from dicom_node.regions import region_for

TABLE = tomllib.loads(files("dicom_node").joinpath("regions.toml").read_text(encoding="utf-8"))
TISSUE = ("85756007", "SCT")


def _type(prompt: str) -> str:
    return region_for(prompt).type.meaning


@pytest.mark.parametrize(
    ("prompt", "meaning", "side", "tg263"),
    [
        ("liver", "Liver", "", "Liver"),
        ("Left Kidney", "Kidney", "left", "Kidney_L"),
        ("kidney_right", "Kidney", "right", "Kidney_R"),
        ("the kidneys", "Kidney", "both", "Kidneys"),
        ("left and right lungs", "Lung", "both", "Lungs"),
        ("Parotid_L", "Parotid gland", "left", "Parotid_L"),
        ("right parotid gland", "Parotid gland", "right", "Parotid_R"),
        ("brain stem", "Brain Stem", "", "Brainstem"),
        ("Brainstem", "Brain Stem", "", "Brainstem"),
        ("SpinalCord", "Spinal cord", "", "SpinalCord"),
        ("lower jaw", "Mandible", "", "Bone_Mandible"),
        ("oesophagus", "Esophagus", "", "Esophagus"),
        ("left atrium", "Left atrium", "", "Atrium_L"),
        ("right lung lower lobe", "Lower lobe of lung", "right", "Lung_RLL"),
        ("vertebrae_T12", "T12 vertebra", "", "VB_T12"),
        ("vertebrae_T4", "T4 vertebra", "", "VB_T04"),
    ],
)
def test_structures_are_coded_with_their_side(prompt: str, meaning: str, side: str, tg263: str) -> None:
    region = region_for(prompt)
    assert (region.type.meaning, region.side, region.tg263, region.coded) == (meaning, side, tg263, True)
    assert region.category.meaning == "Anatomical Structure"
    assert region.label == region.prompt == prompt


@pytest.mark.parametrize(
    ("prompt", "side"),
    [
        ("liver vessel", ""),
        ("delivery", ""),
        ("kidney transplant", ""),
        ("left liver", "left"),
        ("mass left of the liver", ""),
        ("cyst near the left kidney", ""),
        ("right hand", "right"),
        ("t2", ""),
        ("", ""),
        ("Leberläsion links", ""),
        ("post-RT fibrosis in the lung", ""),  # radiotherapy
        ("post RT changes", ""),
        ("lung fibrosis after RT", ""),
        ("RT field", ""),
        ("RT table", ""),
        ("everything except the right hand", ""),
        ("torso without the left hand", ""),
        ("hand, not the left", ""),
        ("chest after right pneumonectomy", ""),
        ("left hand without the thumb", "left"),
        ("RT hand", "right"),
        ("post-RT fibrosis in the left hand", "left"),
        ("LT artery stenosis", ""),  # of a transplanted liver
        ("LT hand", "left"),
        ("remnant liver left", ""),  # what remains
        ("left remnant liver", "left"),
        ("residual cyst of the left hand", "left"),
    ],
)
def test_what_is_not_known_gets_the_generic_code_and_says_so(prompt: str, side: str) -> None:
    region = region_for(prompt)
    assert not region.coded
    assert (region.type.value, region.type.scheme_designator) == TISSUE
    assert (region.category.value, region.category.scheme_designator) == TISSUE
    assert (region.side, region.tg263) == (side, "")


def test_findings_keep_their_structure_as_site() -> None:
    for prompt in ("tumor in the left kidney", "left kidney tumour", "neoplasm of the left kidney"):
        region = region_for(prompt)
        assert (region.type.meaning, region.side, region.coded) == ("Neoplasm", "left", True), prompt
        assert region.site is not None
        assert region.site.meaning == "Kidney"
        assert region.tg263 == "", "a tumour is not the organ"
    assert region_for("kidney cyst left").side == "left"
    assert (_type("left-sided pleural effusion"), region_for("left-sided pleural effusion").side) == (
        "Pleural effusion",
        "left",
    )
    assert region_for("large tumor in the left kidney").coded is False


def test_long_prompts_are_cut_visibly_and_kept_whole() -> None:
    prompt = "a very long description of a lesion " * 4
    region = region_for(prompt)
    assert region.prompt == prompt
    assert len(region.label) == 64
    assert region.label.endswith("...")


@pytest.mark.long
@given(st.text(max_size=200))
def test_any_text_has_a_region_that_dicom_can_hold(prompt: str) -> None:
    region = region_for(prompt)
    assert region.prompt == prompt
    assert 0 < len(region.label.encode()) <= 64
    assert "\\" not in region.label
    assert all(character.isprintable() for character in region.label)
    assert all(0 <= part <= 255 for part in region.colour)


def test_the_table_holds_what_its_readers_need() -> None:
    names = [(name, entry) for section in TABLE.values() for name, entry in section.items()]
    assert len(names) > 180
    for name, entry in names:
        assert "code" not in entry or hasattr(codes.SCT, entry["code"]), name
        region = region_for(name)
        assert region.coded == ("code" in entry), name
        if entry.get("paired"):
            left, right = region_for(f"left {name}"), region_for(f"{name}_right")
            assert (left.side, right.side) == ("left", "right"), name
            assert left.type == right.type == region.type, name
        assert len(region_for(f"left {name}").tg263) <= 16, name
    tg263 = [entry["tg263"] for _, entry in names if "tg263" in entry]
    assert len(set(tg263)) == len(tg263)


def test_structure_set_names_follow_the_rules_of_tg263() -> None:
    """Its rules for names, not its list, which is not part of this repository: section 4 of the AAPM report."""
    rule = re.compile(r"(A|V|Bone|Cavity|Glnd|Joint|Lobe|Musc|VB|Sinus)_|[A-Z]")
    for name, entry in TABLE["structures"].items():
        stems = [entry[key] for key in ("tg263", "tg263_both") if key in entry]
        for stem in stems:
            assert re.fullmatch(r"[A-Z][A-Za-z0-9]*(_[A-Z0-9][A-Za-z0-9]*)*", stem), stem
            assert rule.match(stem), stem
            assert len(stem) <= (14 if entry.get("paired") else 16), stem
        if entry.get("paired"):
            sides = {side: region_for(f"{side} {name}").tg263 for side in ("left", "right")}
            assert all(not stem.endswith(("_L", "_R")) for stem in stems), name
            assert not stems or (sides["left"][-2:], sides["right"][-2:]) == ("_L", "_R"), name
        elif stems and stems[0].endswith(("_L", "_R")):
            side = {"_L": "left", "_R": "right"}[stems[0][-2:]]
            assert side in (entry.get("side"), *name.split()), f"{name}: {stems[0]}"


def test_most_of_a_usual_list_of_structures_is_coded(shared_data: Callable[..., Path]) -> None:
    labels = json.loads(shared_data("labels_total.json").read_text()).values()
    coded = [label for label in labels if region_for(label).coded]
    assert len(coded) > 0.65 * len(labels)
    for label in labels:
        assert ("left" in label) <= (region_for(label).side == "left" or "left" in _type(label).lower()), label


def test_left_and_right_have_shades_that_can_be_told_apart_and_seen() -> None:
    """On the grey of an image, in SEG, RTSTRUCT and previews; both sides together have the colour between."""

    def bright(colour: tuple[int, int, int]) -> float:
        red, green, blue = colour
        return 0.299 * red + 0.587 * green + 0.114 * blue

    for name, entry in TABLE["structures"].items():
        if entry.get("paired"):
            left, right = (region_for(f"{side} {name}").colour for side in ("left", "right"))
            assert bright(left) - bright(right) > 35, name
            assert max(right) > 90, name
            assert all(0 <= part <= 255 for part in (*left, *right))
            assert region_for(f"{name}_L").colour == left
            assert region_for(name).colour == tuple(entry["colour"])
    cyst = region_for("cyst in the left kidney")
    assert cyst.colour == region_for("cyst").colour, "a finding has its own colour"

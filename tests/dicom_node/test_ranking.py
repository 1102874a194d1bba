"""What a volume is by its headers, which volume goes before which, and why."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom_node.errors import SeriesError
from dicom_node.images.frames import read_files
from dicom_node.ranking.facts import VolumeFacts, facts_of, sharpness_of
from dicom_node.ranking.order import Quality, Wish, rank, refused, wish_for
from dicom_node.series import header_volumes
from dicom_node.synthesis import ct_series, write_slices
from tests.support.images import affine_of, axis_orders, edit, rotation, series_files

Data = Callable[..., Path]


@pytest.fixture
def ct(tmp_path: Path) -> list[Path]:
    """Four axial slices, 3 mm apart."""
    return ct_series(np.zeros((4, 6, 5), np.float32), (3.0, 1.5, 1.0), tmp_path / "ct")


def facts(paths: list[Path]) -> VolumeFacts:
    (outline,) = header_volumes(read_files(paths))
    return facts_of(outline)


# -- facts


def test_what_the_headers_of_a_volume_say(ct: list[Path]) -> None:
    for path in ct:
        edit(path, ConvolutionKernel="Br40d", Manufacturer="SIEMENS", BodyPartExamined="NECK", SliceThickness="5")
    found = facts(ct)
    assert (found.plane, found.slices, found.kernel, found.sharpness) == ("axial", 4, "Br40d", "soft")
    assert (found.spacing_mm, found.coverage_mm, found.field_mm) == pytest.approx((3.0, 12.0, 5.0))
    assert (found.thickness_mm, found.body_part, found.acquired) == (5.0, "NECK", "20260101120000")
    assert found.original
    assert found.contrast is None


@pytest.mark.parametrize("directions", list(axis_orders()), ids=lambda axes: "".join(map(str, axes.argmax(axis=0))))
def test_the_plane_of_every_orientation_also_when_it_leans(tmp_path: Path, directions: np.ndarray) -> None:
    if np.linalg.det(directions[:, ::-1]) > 0:
        directions = directions * (-1, 1, 1)
    leaning = rotation(12, 7, 0) @ directions
    found = facts(write_slices(np.zeros((3, 4, 4), np.float32), affine_of(leaning, (3, 1, 1), (0, 0, 0)), tmp_path))
    assert found.plane == ("sagittal", "coronal", "axial")[np.abs(directions[:, 0]).argmax()]
    assert 5 < found.oblique_degrees < 15


@pytest.mark.parametrize(
    ("values", "contrast"),
    [
        ({"ContrastBolusAgent": "OMNIPAQUE 300"}, True),
        ({"ContrastBolusAgent": "APPLIED"}, True),
        ({"ContrastBolusAgent": "NONE"}, False),
        ({"ContrastBolusAgent": "w/o"}, False),
        ({"ContrastBolusAgent": "", "SeriesDescription": "Abdomen portalvenous 1.5"}, True),
        ({"SeriesDescription": "THORAX C+"}, True),
        ({"SeriesDescription": "THORAX C-"}, False),
        ({"SeriesDescription": "Kopf nativ  2.0  H70h"}, False),
        ({"SeriesDescription": "Chest without contrast"}, False),
        ({"SeriesDescription": "non-contrast head"}, False),
        ({"SeriesDescription": "T1 post-gad"}, True),
        ({"SeriesDescription": "AXIAL 3.0"}, None),
        ({"SeriesDescription": "SPACE CERVICAL"}, None),
    ],
)
def test_contrast_is_read_from_the_agent_or_else_from_words(
    ct: list[Path], values: dict[str, str], contrast: bool | None
) -> None:
    for path in ct:
        edit(path, **values)
    assert facts(ct).contrast is contrast


@pytest.mark.parametrize(
    ("image_type", "description", "kind"),
    [
        (["DERIVED", "SECONDARY", "MIP"], "", "projection"),
        (["DERIVED", "SECONDARY", "AXIAL", "CT_SOM5 MIP", "MIP"], "", "projection"),
        (["ORIGINAL", "PRIMARY", "AXIAL"], "Thorax MIP 8/2", "projection"),
        (["DERIVED", "SECONDARY", "MINIP"], "", "projection"),
        (["DERIVED", "PRIMARY", "MPR"], "", "reformatted"),
        (["ORIGINAL", "PRIMARY", "AXIAL"], "Cor MPR 3mm", "reformatted"),
        (["DERIVED", "SECONDARY", "REFORMATTED"], "", "reformatted"),
        (["DERIVED", "PRIMARY", "ADC"], "", "derived"),
        (["ORIGINAL", "PRIMARY", "AXIAL"], "Shrimp diet study", ""),
    ],
)
def test_projections_reformats_and_derived_images_are_told_from_originals(
    ct: list[Path], image_type: list[str], description: str, kind: str
) -> None:
    edit(ct[2], ImageType=image_type, SeriesDescription=description)  # one slice is enough, and it is not the first
    others = [path for path in ct if path != ct[2]]
    for path in others:
        edit(path, ImageType=image_type, SeriesDescription="" if description else "AXIAL")
    found = facts(ct)
    reasons = {one: refused(found, [one]) for one in ("projection", "reformatted", "derived")}
    assert bool(kind) is any(reasons.values())
    assert not kind or reasons[kind]
    assert found.original is (not kind)
    assert refused(found, []) == ""


@pytest.mark.parametrize(
    "values",
    [
        {"QualityControlSubject": "YES"},
        {"QualityControlImage": "YES"},
        *({"StudyDescription": words} for words in ("Daily QC", "Catphan600", "Wasserphantom", "QA", "ACR", "ACR CT")),
        *({"SeriesDescription": words} for words in ("Head_Phantom_2", "Contrôle qualité", "Fantoma", "CT_QA 1.0")),
        *({"ProtocolName": words} for words in ("Quality Assurance/Head", "Tägliche Konstanzprüfung", "Phantom1")),
    ],
    ids=lambda values: next(iter(values.values())),
)
def test_a_phantom_is_told_by_what_is_said_of_it(ct: list[Path], values: dict[str, str]) -> None:
    assert refused(facts(ct), ["phantom"]) == ""
    edit(ct[2], **values)  # one slice is enough, and it is not the first
    assert refused(facts(ct), ["phantom"]).startswith("an image of a phantom (")
    assert refused(facts(ct), ["projection"]) == ""


@pytest.mark.parametrize(
    "values",
    [
        *({"PatientName": "Phantom^Karl"}, {"PatientID": "QA-4711"}, {"QualityControlImage": "BOTH"}),
        *({"StudyDescription": words} for words in ("Phantom_limb pain", "Phantom tumor", "MR brain, QAMAR")),
        *({"StudyDescription": words} for words in ("CT Lung Screening ACR", "Proton QA CT neck", "QA-CT week 3")),
        *({"SeriesDescription": words} for words in ("t1_vibe_dixon_WATER", "Acromion", "AQC 3mm", "membre fantôme")),
    ],
    ids=lambda values: next(iter(values.values())),
)
def test_a_patient_is_no_phantom(ct: list[Path], values: dict[str, str]) -> None:
    for path in ct:
        edit(path, **values)
    assert refused(facts(ct), ["phantom"]) == ""


@pytest.mark.parametrize(
    ("manufacturer", "soft", "sharp", "neither"),
    [
        ("SIEMENS", "B30f B40s Br38f H42s I31f T20f", "B60s B70f Bl57d H70h Hr60h U90u", "custom"),
        ("GE MEDICAL SYSTEMS", "STANDARD SOFT", "LUNG BONE BONEPLUS EDGE", "DETAIL CHEST"),
        ("Philips", "A B UB YA", "L YC D E YD", "C"),
        ("TOSHIBA", "FC03 FC08 FC13-H FC21", "FC30 FC51 FC81", "BODY"),
        ("Canon Medical Systems", "FC18 STANDARD", "FC52 LUNG", "x"),
        ("", "Soft Tissue", "sharp", "B30f"),
    ],
)
def test_kernels_by_their_makers_names(manufacturer: str, soft: str, sharp: str, neither: str) -> None:
    soft_kernels = ["Soft Tissue"] if not manufacturer else soft.split()
    assert {sharpness_of(kernel, manufacturer) for kernel in soft_kernels} == {"soft"}
    assert {sharpness_of(kernel, manufacturer) for kernel in sharp.split()} == {"sharp"}
    assert {sharpness_of(kernel, manufacturer) for kernel in neither.split()} == {None}


def test_a_volume_with_a_missing_slice_has_no_facts(ct: list[Path]) -> None:
    with pytest.raises(SeriesError, match=r"missing between 0001\.dcm .* and 0003\.dcm"):
        facts([ct[0], *ct[2:]])


@pytest.mark.filterwarnings("ignore::UserWarning")  # of pydicom, about the dates
@pytest.mark.parametrize(
    ("date", "time", "moment"),
    [
        ("2026.01.31", "10:20:30", "20260131102030"),
        ("2026-01-31", "102030.5", "20260131102030"),
        ("unknown", "", ""),
    ],
)
def test_dates_of_old_are_moments_and_words_are_none(ct: list[Path], date: str, time: str, moment: str) -> None:
    for path in ct:
        edit(path, AcquisitionDate=date, AcquisitionTime=time, SeriesDate="", AcquisitionDateTime="")
    (outline,) = header_volumes(read_files(ct))
    facts = facts_of(outline)
    assert facts.acquired == moment
    assert wish_for("newest", [facts]).scores == (float(moment or 0),)


def test_a_value_that_is_no_number_is_no_fact(ct: list[Path]) -> None:
    expected = facts(ct)
    for path in ct:
        content = path.read_bytes()
        at = content.index(b"\x18\x00\x50\x00DS")  # Slice Thickness
        path.write_bytes(content[: at + 8] + b"x" * content[at + 6] + content[at + 8 + content[at + 6] :])
    found = facts(ct)
    assert found.thickness_mm is None
    assert found == replace(expected, thickness_mm=None)


def test_facts_of_real_series(shared_data: Data) -> None:
    fine = facts(series_files(shared_data("fruit_pacs/1001/20200705_182823_CT_SR/Kopf_nativ__2.0__H70h")))
    thick = facts(series_files(shared_data("fruit_pacs/1001/20200705_182823_CT_SR/Kopf_nativ__5.0__H42s")))
    assert (fine.sharpness, thick.sharpness, fine.contrast, thick.contrast) == ("sharp", "soft", False, False)
    assert facts(series_files(shared_data("ct_totalseg_j2k/dicom"))).contrast is True
    assert facts(series_files(shared_data("mr_brain_t1sag/HFDR/dicom"))).plane == "sagittal"
    enhanced = facts(series_files(shared_data("mr_enhanced/philips_anat_8frames/dicom")))
    assert (enhanced.slices, enhanced.original) == (8, True)
    assert enhanced.thickness_mm


# -- order

VOLUME = VolumeFacts(
    modality="CT",
    plane="axial",
    oblique_degrees=0.0,
    slices=100,
    spacing_mm=3.0,
    thickness_mm=3.0,
    coverage_mm=300.0,
    field_mm=400.0,
    kernel="B30f",
    sharpness="soft",
    image_type=("AXIAL", "ORIGINAL", "PRIMARY"),
    original=True,
    projection=False,
    reformatted=False,
    contrast=None,
    contrast_said="nothing in the headers",
    body_part="CHEST",
    acquired="20260101120000",
)


def order(volumes: list[VolumeFacts], *qualities: Quality) -> list[int]:
    labels = [f"series {number}" for number in range(len(volumes))]
    return [place.volume for place in rank(labels, [wish_for(quality, volumes) for quality in qualities])]


@pytest.mark.parametrize(
    ("quality", "worse", "better"),
    [
        ("thin", {"spacing_mm": 3.0}, {"spacing_mm": 1.0}),
        ("coverage", {"coverage_mm": 200.0}, {"coverage_mm": 300.0}),
        ("slices", {"slices": 99}, {"slices": 100}),
        ("axial", {"plane": "coronal"}, {"plane": "axial"}),
        ("coronal", {"plane": "axial"}, {"plane": "coronal"}),
        ("sagittal", {"plane": "coronal"}, {"plane": "sagittal"}),
        ("soft kernel", {"sharpness": "sharp"}, {"sharpness": None}),
        ("soft kernel", {"sharpness": None}, {"sharpness": "soft"}),
        ("sharp kernel", {"sharpness": None}, {"sharpness": "sharp"}),
        ("original", {"original": False}, {"original": True}),
        ("contrast", {"contrast": None}, {"contrast": True}),
        ("contrast", {"contrast": False}, {"contrast": None}),
        ("no contrast", {"contrast": True}, {"contrast": None}),
        ("small field", {"field_mm": 400.0}, {"field_mm": 200.0}),
        ("large field", {"field_mm": 200.0}, {"field_mm": 400.0}),
        ("newest", {"acquired": "20260101120000"}, {"acquired": "20260101120001"}),
    ],
)
def test_what_each_quality_prefers(quality: Quality, worse: dict[str, object], better: dict[str, object]) -> None:
    volumes = [replace(VOLUME, **worse), replace(VOLUME, **better)]
    assert order(volumes, quality) == [1, 0]


def test_the_first_wish_that_tells_two_apart_decides_and_says_so() -> None:
    thick = replace(VOLUME, spacing_mm=5.0)
    lung = replace(VOLUME, spacing_mm=1.0, kernel="B70f", sharpness="sharp")
    thin = replace(VOLUME, spacing_mm=1.0)
    labels = ["series 2", "series 3", "series 4"]
    places = rank(labels, [wish_for(quality, [thick, lung, thin]) for quality in ("axial", "soft kernel", "thin")])
    assert [place.volume for place in places] == [2, 0, 1]
    assert [place.behind for place in places] == [
        "",
        "thin: it has 5.00 mm between slices, series 4 has 1.00 mm between slices",
        "soft kernel: it has B70f (sharp), series 2 has B30f (soft)",
    ]
    assert places[2].behind_first == "soft kernel: it has B70f (sharp), series 4 has B30f (soft)"


def test_one_slice_less_does_not_outweigh_the_spacing() -> None:
    thick, thin = replace(VOLUME, coverage_mm=305.0, spacing_mm=5.0), replace(VOLUME, coverage_mm=300.0, spacing_mm=1.0)
    assert order([thick, thin], "coverage", "thin") == [1, 0]


def test_what_nothing_tells_apart_keeps_its_order() -> None:
    places = rank(["series 1", "series 2"], [wish_for("thin", [VOLUME, VOLUME])])
    assert [place.volume for place in places] == [0, 1]
    assert places[1].behind == "nothing asked for tells it from series 1"


SCORES = st.lists(st.tuples(*[st.floats(-100, 100)] * 3), min_size=1, max_size=8)


@given(SCORES, st.tuples(*[st.floats(0, 0.5)] * 3))
def test_everyone_gets_one_place_and_everyone_but_the_first_a_reason(
    scores: list[tuple[float, ...]], tolerances: tuple[float, ...]
) -> None:
    wishes = [Wish(f"wish {n}", tuple(row[n] for row in scores), ("?",) * len(scores), tolerances[n]) for n in range(3)]
    places = rank([str(n) for n in range(len(scores))], wishes)
    assert sorted(place.volume for place in places) == list(range(len(scores)))
    assert [bool(place.behind) for place in places] == [bool(n) for n in range(len(scores))]
    assert [bool(place.behind_first) for place in places] == [bool(n) for n in range(len(scores))]


@given(st.permutations(range(6)))
def test_the_best_does_not_depend_on_the_order_of_arrival(arrival: list[int]) -> None:
    volumes = [replace(VOLUME, spacing_mm=1.0 + number / 4, coverage_mm=300.0 - 7 * number) for number in arrival]
    (first, *_) = order(volumes, "coverage", "thin")
    assert volumes[first].spacing_mm == 1.0


def test_every_quality_is_told_in_the_docs() -> None:
    told = (Path(__file__).parents[2] / "docs" / "explanation" / "selection.md").read_text()
    assert [quality for quality in get_args(Quality) if f"`{quality}`" not in told] == []

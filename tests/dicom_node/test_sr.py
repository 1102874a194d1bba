"""The report: valid, readable for dcmqi, with the numbers that the masks have."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset
from pydicom.uid import PositronEmissionTomographyImageStorage

from dicom_node.masks.measures import farthest_pair, measure
from dicom_node.objects.provenance import Review
from dicom_node.objects.seg import Segmentation, write_seg
from dicom_node.objects.sr import write_sr
from dicom_node.regions import region_for
from dicom_node.series import read_series
from dicom_node.synthesis import ct_series
from tests.support.examples import examples
from tests.support.images import PROVENANCE, edit, iod_errors, series_files, tool

PROMPTS = ("left kidney", "spleen", "tumor in the right kidney", "odd thing")


def texts_of(report: Dataset) -> list[str]:
    """The comments among the qualitative evaluations of a report (TID 1500 rows 12 and 14)."""
    evaluations = [one for one in report.ContentSequence if one.ConceptNameCodeSequence[0].CodeValue == "C0034375"]
    return [one.TextValue for container in evaluations for one in container.ContentSequence]


@pytest.mark.peers
@pytest.mark.parametrize(
    "case", ["rtstruct_sts/STS_002/CT/dicom", "mr_brain_t1sag/HFDR/dicom", "mr_enhanced/siemens_anat_8frames/dicom"]
)
def test_dcmqi_reads_the_numbers_of_every_segment(shared_data: Callable[..., Path], tmp_path: Path, case: str) -> None:
    series = read_series(series_files(shared_data(case)))
    masks = np.zeros((4, *series.volume.spatial_shape), dtype=bool)
    masks[0, 1:4, 20:40, 20:50] = True
    masks[2, 2:5, 50:60, 50:70] = True
    masks[3, 2, 2, 2] = True
    segmentation = write_seg(series, masks, [region_for(prompt) for prompt in PROMPTS], PROVENANCE)
    report = write_sr(series, masks, segmentation, PROVENANCE)
    assert iod_errors(report, tmp_path) == []
    read = tool(
        *("tid1500reader", "--inputDICOM", tmp_path / f"{report.SOPInstanceUID}.dcm"),
        *("--outputMetadata", tmp_path / "report.json"),
    )
    assert read.returncode == 0, read.stderr
    assert texts_of(report) == ["Looked for, not found: spleen."]
    read_groups = json.loads((tmp_path / "report.json").read_text())["Measurements"]
    groups, diameters = read_groups[:3], read_groups[3:]
    assert [group["TrackingIdentifier"] for group in diameters] == [group["TrackingIdentifier"] for group in groups]
    assert [group["TrackingIdentifier"] for group in groups] == [PROMPTS[0], PROMPTS[2], PROMPTS[3]]
    assert [group["ReferencedSegment"] for group in groups] == [1, 2, 3]
    assert [group.get("Laterality", {}).get("CodeMeaning") for group in groups] == ["Left", "Right", None]
    for group, diameter, mask in zip(groups, diameters, masks[[0, 2, 3]], strict=True):
        wanted = measure(mask, series.affine, series.volume.array)
        numbers = [float(item["value"]) for item in (*group["measurementItems"], *diameter["measurementItems"])]
        assert numbers == pytest.approx([wanted.volume_ml, wanted.mean, wanted.deviation, wanted.diameter_mm], rel=1e-4)


def coordinates_of(item: Dataset) -> list[tuple[str, list[float], str]]:
    """Of each coordinate below a content item: graphic type, column and row, and the image."""
    found = []
    for one in item.get("ContentSequence", []):
        if one.ValueType == "SCOORD":
            image = one.ContentSequence[0].ReferencedSOPSequence[0]
            found.append((one.GraphicType, list(one.GraphicData), image.ReferencedSOPInstanceUID))
        found += coordinates_of(one)
    return found


def test_a_diameter_has_its_ends_on_the_images_that_hold_them(tmp_path: Path) -> None:
    series = read_series(ct_series(np.zeros((5, 8, 9)), (3, 2, 1), tmp_path / "ct"))
    masks = np.zeros((3, 5, 8, 9), dtype=bool)
    masks[0, 2, 1, 1:6] = True  # in one slice
    masks[1, 1:4, 4, 7] = True  # across slices
    masks[2, 4, 7, 0] = True  # one voxel
    regions = [region_for("liver"), region_for("spleen"), region_for("odd thing")]
    report = write_sr(series, masks, write_seg(series, masks, regions, PROVENANCE), PROVENANCE)
    uids = [one.sop_uid for one in series.references]
    lines = [(kind, sorted(zip(at[::2], at[1::2], strict=True)), uid) for kind, at, uid in coordinates_of(report)]
    assert lines[0] == ("POLYLINE", [(1.5, 1.5), (5.5, 1.5)], uids[2])
    assert {uid for _, _, uid in lines[1:3]} == {uids[1], uids[3]}
    assert {(kind, *at) for kind, at, _ in lines[1:3]} == {("POINT", (7.5, 4.5))}
    assert lines[3:] == [("POINT", [(0.5, 7.5)], uids[4])]
    (library,) = (
        one for one in report.ContentSequence if one.ConceptNameCodeSequence[0].CodeMeaning == "Image Library"
    )
    listed = [one for one in library.ContentSequence[0].ContentSequence if one.ValueType == "IMAGE"]
    assert [one.ReferencedSOPSequence[0].ReferencedSOPInstanceUID for one in listed] == uids


@pytest.mark.peers
@pytest.mark.parametrize(
    ("units", "kind", "quantity", "unit"),
    [
        ("BQML", "", "Nuclear Medicine Tomographic Activity", "Bq/ml"),
        ("GML", "BW", "SUVbw", "g/ml{SUVbw}"),
        ("GML", "", "SUVbw", "g/ml{SUVbw}"),
        ("GML", "LBM", "SUVlbm", "g/ml{SUVlbm}"),
        ("CM2ML", "BSA", "SUVbsa", "cm2/ml{SUVbsa}"),
        ("CNTS", "", None, None),
    ],
)
def test_pet_values_are_reported_in_the_units_of_the_image(
    tmp_path: Path, units: str, kind: str, quantity: str | None, unit: str | None
) -> None:
    image = np.zeros((3, 8, 8))
    image[1, 2:4, 2:4] = (100, 200), (300, 400)
    files = ct_series(image, (3, 2, 2), tmp_path / "pet")
    for path in files:
        more = {"SUVType": kind} if kind else {}
        edit(path, Modality="PT", SOPClassUID=PositronEmissionTomographyImageStorage, Units=units, **more)
    series = read_series(files)
    mask = series.volume.array[None] > 50
    regions = [region_for("tumor")]
    report = write_sr(series, mask, write_seg(series, mask, regions, PROVENANCE), PROVENANCE)
    assert iod_errors(report, tmp_path) == []
    names = [element.value for element in report.iterall() if element.keyword == "CodeMeaning"]
    units_used = [element.value for element in report.iterall() if element.keyword == "CodeValue"]
    numbers = [float(element.value) for element in report.iterall() if element.keyword == "NumericValue"]
    if quantity is None:
        assert len(numbers) == 2, "volume and diameter; what counts mean is not known"
        return
    assert names.count(quantity) == 2
    assert units_used.count(unit) == 2
    assert numbers[1:3] == pytest.approx([250, np.std([100, 200, 300, 400])], rel=1e-4)


@pytest.mark.parametrize(("said", "reported"), [("HU", 4), (None, 4), ("US", 2), ("MGML", 2), ("Z_EFF", 2)])
def test_only_hounsfield_units_are_reported_as_such(tmp_path: Path, said: str | None, reported: int) -> None:
    files = ct_series(np.arange(75.0).reshape(3, 5, 5), (3, 2, 2), tmp_path / "ct")
    edit(files[1], RescaleType=said)
    series = read_series(files)
    mask = series.volume.array[None] > 50
    report = write_sr(series, mask, write_seg(series, mask, [region_for("liver")], PROVENANCE), PROVENANCE)
    assert len([element for element in report.iterall() if element.keyword == "NumericValue"]) == reported


@pytest.mark.peers
def test_what_has_no_segment_is_said(tmp_path: Path) -> None:
    series = read_series(ct_series(np.arange(75.0).reshape(3, 5, 5), (3, 2, 2), tmp_path / "ct"))
    regions = [
        replace(region_for("cyst"), sentence="Cyst of the spleen."),
        region_for("liver"),
        replace(region_for("left knee"), empty_means="not known"),
        replace(region_for("PTV"), placeholder=True),
    ]
    masks = np.zeros((4, 3, 5, 5), dtype=bool)
    masks[1, 1] = True
    report = write_sr(series, masks, write_seg(series, masks, regions, PROVENANCE), PROVENANCE)
    assert iod_errors(report, tmp_path) == []
    assert texts_of(report) == [
        "Looked for, not found: cyst. Prompt: cyst Report: Cyst of the spleen.",
        "Not known to the model, which says nothing of it: left knee.",
    ]


def test_where_everything_is_found_there_is_nothing_to_say(tmp_path: Path) -> None:
    series = read_series(ct_series(np.zeros((3, 4, 5)), (1, 1, 1), tmp_path))
    masks = np.ones((1, 3, 4, 5), dtype=bool)
    report = write_sr(series, masks, write_seg(series, masks, [region_for("liver")], PROVENANCE), PROVENANCE)
    assert texts_of(report) == []


def test_a_box_has_the_measures_of_a_box() -> None:
    mask = np.zeros((10, 20, 30), dtype=bool)
    mask[2:5, 3:9, 10:20] = True
    image = np.full(mask.shape, -1000, dtype=np.float32)
    image[mask] = 40
    image[2, 3, 10] = 58
    found = measure(mask, np.diag([3.0, 2.0, 1.0, 1.0]), image)
    assert found.volume_ml == pytest.approx(3 * 6 * 10 * 6 / 1000)
    assert found.mean == pytest.approx(40 + 18 / 180)
    assert found.diameter_mm == pytest.approx(np.sqrt(6**2 + 10**2 + 9**2))


@examples(60)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 200))
def test_the_longest_diameter_is_the_longest(seed: int, count: int) -> None:
    points = np.random.default_rng(seed).normal(size=(count, 3)) * (30, 10, 5)
    gaps = np.linalg.norm(points[:, None] - points[None], axis=-1)
    one, other = farthest_pair(points)
    assert np.linalg.norm(one - other) == pytest.approx(gaps.max(), rel=2e-3)


def test_where_nothing_is_found_it_says_what_was_looked_for(tmp_path: Path) -> None:
    """And why that may not hold; it measures nothing and names no segmentation."""
    series = read_series(ct_series(np.zeros((4, 6, 8)), (3.0, 1.0, 1.0), tmp_path / "ct"))
    regions = (
        region_for("liver"),
        replace(region_for("knee"), empty_means="not known"),
        replace(region_for("PTV"), placeholder=True),
    )
    said = replace(PROVENANCE, review=(Review("The image is turned."),))
    masks = np.zeros((3, *series.volume.spatial_shape), bool)
    report = write_sr(series, masks, Segmentation(None, regions, (), regions), said)
    assert texts_of(report) == [
        "Looked for, not found: liver.",
        "Not known to the model, which says nothing of it: knee.",
        "To be reviewed: The image is turned.",
    ]
    names = [one.ConceptNameCodeSequence[0].CodeMeaning for one in report.ContentSequence]
    assert "Imaging Measurements" not in names
    assert report.ConceptNameCodeSequence[0].CodeMeaning == "Imaging Measurement Report"
    evidence = {
        one.ReferencedSOPInstanceUID
        for study in report.CurrentRequestedProcedureEvidenceSequence
        for listed in study.ReferencedSeriesSequence
        for one in listed.ReferencedSOPSequence
    }
    assert evidence == {one.sop_uid for one in series.references}
    assert report.SOPInstanceUID == said.uid("SR", series, regions)

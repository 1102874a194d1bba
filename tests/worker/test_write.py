"""Outputs: one mask, several objects that agree and say what is to be reviewed."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom import Dataset

from dicom_node.synthesis import centred_affine, write_slices
from tests.support.images import iod_errors
from tests.support.twins import ThresholdSegmenter
from worker.job_spec import Derived, Finish, JobSpec, Output, Plausible, Prompt
from worker.result import Result
from worker.results.write import references_to, write_outputs
from worker.steps.pipeline import segment

SPACING = (3.0, 2.0, 1.5)
EVERYTHING: tuple[Output, ...] = ("seg", "rtstruct", "sr", "preview", "nifti")
HIGH, LOW, NOTHING = (
    Prompt(text="above 500", name="bone"),
    Prompt(text="above 100", name="body"),
    Prompt(text="nothing"),
)

Write = Callable[..., dict[str, Any]]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Segments a body of 300 HU with a bone of 900 HU and a speck in it, and writes the outputs into `folder`."""

    def run(*prompts: Prompt, derived: tuple[Derived, ...] = (), **options: Any) -> dict[str, Any]:
        image = np.full((9, 24, 32), -1000, np.float32)
        image[1:8, 3:21, 4:28] = 300
        image[3:6, 6:12, 8:16] = 900
        image[7, 18, 25] = 900
        affine = centred_affine(image.shape, SPACING)
        affine[1, 0] = np.tan(np.radians(options.pop("tilt", 0.0))) * SPACING[0]  # later slices lie more to posterior
        paths = write_slices(image[:, ::-1, ::-1], affine, tmp_path / "series")
        outputs = options.pop("outputs", EVERYTHING)
        work = JobSpec.of(
            study_uid="1.2",
            series_uid="1.2.3",
            instances=["1.2.3.4"],
            protocol="test",
            protocol_digest=options.pop("digest", "d"),
            prompts=prompts,
            derived=derived,
            model=None,
            outputs=outputs,
            **({"tilted_rtstruct": False} if options.pop("refuse", False) else {}),
        )
        done = segment(paths, prompts, ThresholdSegmenter(), derived=derived)  # type: ignore[arg-type]
        folder = tmp_path / f"results {options.pop('folder', '')}"
        folder.mkdir()
        return write_outputs(done, work, folder, **options).json_facts() | {"folder": folder}

    return run


def objects(result: dict[str, Any]) -> dict[str, Dataset]:
    return {name: pydicom.dcmread(result["folder"] / name) for name in result["files"] if name.endswith(".dcm")}


@pytest.mark.peers
def test_every_output_is_written_valid_and_listed(write: Write, tmp_path: Path) -> None:
    result = write(HIGH, NOTHING)
    assert result["files"] == ["seg.dcm", "sr.dcm", "rtstruct.dcm", "preview.dcm", "bone.nii.gz"]
    made = objects(result)
    for one in result["objects"]:
        dataset = made[one["file"]]
        assert iod_errors(dataset, tmp_path) == [], one["file"]
        assert (one["sop_class_uid"], one["sop_uid"], one["series_uid"]) == (
            dataset.SOPClassUID,
            dataset.SOPInstanceUID,
            dataset.SeriesInstanceUID,
        )
        others = {other["sop_uid"] for other in result["objects"]} - {one["sop_uid"]}
        named = {str(element.value) for element in dataset.iterall() if element.keyword == "ReferencedSOPInstanceUID"}
        if one["file"] in ("sr.dcm", "preview.dcm"):
            assert others <= named, one["file"]
    kept = json.loads((result["folder"] / "result.json").read_text())
    assert kept == {key: value for key, value in result.items() if key != "folder"}
    assert (result["not_found"], result["review"]) == (["nothing"], [])
    read = Result.model_validate(kept)
    assert {one.sop_uid for one in references_to(read)} == {one["sop_uid"] for one in result["objects"]}
    assert references_to(Result.model_validate({"files": ["seg.dcm"]})) == ()


@pytest.mark.long
def test_finished_and_derived_structures_stand_in_every_object(write: Write) -> None:
    bone = HIGH.model_copy(update={"finish": Finish(largest_component=True)})
    derived = (
        Derived(name="margin", union=("bone",), margin_mm=4.5),
        Derived(name="soft", union=("body",), subtract=("bone",)),
        Derived(name="Boost", empty=True, roi_type="GTV"),
    )
    result = write(bone, LOW, derived=derived)
    voxel_ml = np.prod(SPACING) / 1000
    volumes = {one["label"]: one["volume_ml"] for one in result["found"]}
    assert volumes["bone"] == pytest.approx(3 * 6 * 8 * voxel_ml, abs=1e-3), "without the speck"
    assert volumes["soft"] == pytest.approx(volumes["body"] - volumes["bone"], abs=2e-3)
    assert volumes["margin"] > 2 * volumes["bone"]
    assert "Boost" not in (*volumes, *result["not_found"])
    prompts = {one["label"]: one["prompt"] for one in result["found"]}
    assert prompts["margin"] == "made of bone, margin +4.5 mm"
    made = objects(result)
    labels = ["bone", "body", "margin", "soft"]
    assert [segment.SegmentLabel for segment in made["seg.dcm"].SegmentSequence] == labels
    rois = {roi.ROINumber: roi.ROIName for roi in made["rtstruct.dcm"].StructureSetROISequence}
    assert list(rois.values()) == [*labels, "Boost"]
    empty = [
        rois[one.ReferencedROINumber] for one in made["rtstruct.dcm"].ROIContourSequence if "ContourSequence" not in one
    ]
    assert empty == ["Boost"]
    types = {
        rois[one.ReferencedROINumber]: one.RTROIInterpretedType
        for one in made["rtstruct.dcm"].RTROIObservationsSequence
    }
    assert types["Boost"] == "GTV"
    groups = [e.value for e in made["sr.dcm"].iterall() if e.keyword == "TextValue"]
    assert set(labels) <= set(groups)


def test_every_mask_has_a_file_of_its_own_whatever_its_name(write: Write) -> None:
    names = ("a b", "a_b", "A/B")
    prompts = [Prompt(text=f"above {limit}", name=name) for limit, name in zip((500, 100, 0), names, strict=True)]
    result = write(*prompts, Prompt(text=f"above {500:0300}"), outputs=("nifti",))
    assert result["files"][:3] == ["a_b.nii.gz", "a_b_2.nii.gz", "A_B_3.nii.gz"]
    assert sorted(path.name for path in result["folder"].glob("*.nii.gz")) == sorted(result["files"])
    assert len(result["files"]) == 4


def test_an_empty_structure_alone_makes_a_structure_set_to_draw_in_and_a_report(write: Write) -> None:
    result = write(NOTHING, derived=(Derived(name="PTV", empty=True),), outputs=("seg", "rtstruct", "sr", "preview"))
    assert (result["files"], result["found"], result["not_found"]) == (["sr.dcm", "rtstruct.dcm"], [], ["nothing"])


def test_names_in_structure_sets_are_cut_where_the_site_says_and_keep_their_side(write: Write) -> None:
    named = [Prompt(text="above 500", name=f"Very_long_name_of_a_structure_{side}") for side in ("L", "R")]
    short = objects(write(*named, outputs=("rtstruct",), name_length=16, folder="short"))["rtstruct.dcm"]
    assert [roi.ROIName for roi in short.StructureSetROISequence] == ["Very_long_name_L", "Very_long_name_R"]
    whole = objects(write(*named, outputs=("rtstruct",), folder="whole"))["rtstruct.dcm"]
    assert [roi.ROIName for roi in whole.StructureSetROISequence] == [prompt.name for prompt in named]
    assert short.SOPInstanceUID != whole.SOPInstanceUID


def test_a_label_map_is_written_beside_the_binary_form_where_segments_do_not_overlap(write: Write) -> None:
    bone = HIGH.model_copy(update={"finish": Finish(largest_component=True)})
    soft = Derived(name="soft", union=("bone",), margin_mm=-2)
    apart = write(bone, outputs=("seg", "sr"), label_map=True, folder="apart")
    assert apart["files"] == ["seg.dcm", "sr.dcm", "seg-labelmap.dcm", "sr-labelmap.dcm"]
    made = objects(apart)
    measured = {
        name: {str(e.value) for e in made[name].iterall() if e.keyword == "ReferencedSOPInstanceUID"}
        for name in ("sr.dcm", "sr-labelmap.dcm")
    }
    assert made["seg-labelmap.dcm"].SOPInstanceUID in measured["sr-labelmap.dcm"]
    assert made["seg-labelmap.dcm"].SegmentationType == "LABELMAP"
    overlapping = write(bone, derived=(soft,), outputs=("seg",), label_map=True, folder="overlapping")
    assert overlapping["files"] == ["seg.dcm"]
    assert any("no label map" in note for note in overlapping["notes"])


def test_a_result_that_is_not_as_expected_is_written_and_marked(write: Write) -> None:
    bone = HIGH.model_copy(update={"expect": Plausible(volume_ml=(100, 200), right_of="body")})
    result = write(bone, LOW)
    assert len(result["files"]) == 6
    volume, side = result["review"]
    assert volume.startswith("bone holds 1.3 ml, expected are 100 to 200 ml")
    assert side.startswith("bone should lie to the right of body")
    made = objects(result)
    assert volume in made["seg.dcm"].SegmentSequence[0].SegmentDescription
    assert volume not in made["seg.dcm"].SegmentSequence[1].SegmentDescription
    for name in ("seg.dcm", "preview.dcm"):
        assert volume in made[name].ImageComments
    assert volume in made["rtstruct.dcm"].StructureSetROISequence[0].ROIDescription
    assert f"To be reviewed: {volume}" in [e.value for e in made["sr.dcm"].iterall() if e.keyword == "TextValue"]


def test_a_gantry_tilt_is_said_and_a_protocol_may_refuse_a_structure_set_then(write: Write) -> None:
    made = objects(write(HIGH, tilt=18.5, outputs=("seg", "rtstruct"), folder="tilted"))
    assert "Gantry tilt of 18.5 degrees" in made["seg.dcm"].ImageComments
    assert "Gantry tilt of 18.5 degrees" in made["rtstruct.dcm"].StructureSetDescription
    refused = write(HIGH, tilt=18.5, refuse=True, outputs=("seg", "rtstruct"), folder="refused")
    assert refused["files"] == ["seg.dcm"]
    assert refused["notes"][-1].startswith("there is no RTSTRUCT: the gantry is tilted by 18.5 degrees")
    assert objects(refused)["seg.dcm"].SOPInstanceUID == made["seg.dcm"].SOPInstanceUID


def test_a_structure_set_of_an_upright_series_is_never_refused(write: Write) -> None:
    made = objects(write(HIGH, refuse=True, outputs=("seg", "rtstruct")))
    assert "tilt" not in made["rtstruct.dcm"].StructureSetDescription


@pytest.mark.long
def test_a_result_names_the_objects_that_it_replaces(write: Write) -> None:
    old = write(HIGH, digest="older", folder="old")
    new = write(HIGH, predecessors=references_to(Result.model_validate(old)), folder="new")
    uids = {one["file"]: one for one in old["objects"]}
    made = objects(new)
    (document,) = made["sr.dcm"].PredecessorDocumentsSequence
    (series,) = document.ReferencedSeriesSequence
    assert series.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == uids["sr.dcm"]["sop_uid"]
    (structures,) = made["rtstruct.dcm"].PredecessorStructureSetSequence
    assert structures.ReferencedSOPInstanceUID == uids["rtstruct.dcm"]["sop_uid"]
    for name in ("seg.dcm", "preview.dcm"):
        assert made[name].RelatedSeriesSequence[0].SeriesInstanceUID == uids[name]["series_uid"]
        assert made[name].SOPInstanceUID != uids[name]["sop_uid"]

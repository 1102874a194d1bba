"""The structure set: valid, the same masks for plastimatch, TG-263 names that keep their side."""

import json
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from skimage.draw import polygon2mask

from dicom_node.errors import ResultError
from dicom_node.objects.rtstruct import Holes, roi_names, write_rtstruct
from dicom_node.regions import Region, region_for
from dicom_node.series import ImageSeries, read_series
from dicom_node.synthesis import ct_series
from tests.support.images import PROVENANCE, iod_errors, series_files

Data = Callable[..., Path]
PROMPTS = ("left parotid gland", "bony ring", "spleen")


def bodies(series: ImageSeries) -> NDArray[np.bool_]:
    """An ellipsoid, a thick shell (a ring on its middle slices), and nothing."""
    shape = series.volume.spatial_shape
    middle = (np.array(shape) - 1) / 2
    offsets = [(np.arange(size) - centre) / (size / 2) for size, centre in zip(shape, middle, strict=True)]
    z, y, x = np.meshgrid(*offsets, indexing="ij")
    radius = np.sqrt(z**2 + y**2 + x**2)
    return np.stack(
        [np.sqrt(z**2 + (y - 0.5) ** 2 + (x + 0.5) ** 2) < 0.35, (radius < 0.7) & (radius > 0.4), radius < 0]
    )


def rois(dataset: Dataset) -> dict[str, Dataset]:
    names = {roi.ROINumber: roi.ROIName for roi in dataset.StructureSetROISequence}
    return {names[contour.ReferencedROINumber]: contour for contour in dataset.ROIContourSequence}


def filled(series: ImageSeries, roi: Dataset) -> NDArray[np.bool_]:
    """The mask (slices, rows, columns) of an ROI, from its contour points and the planes they name."""
    mask = np.zeros(series.volume.spatial_shape, dtype=bool)
    places = {reference.sop_uid: place for place, reference in enumerate(series.references)}
    inverse = np.linalg.inv(series.affine)
    for contour in roi.ContourSequence:
        points = np.array(contour.ContourData, dtype=float).reshape(-1, 3)
        indices = points @ inverse[:3, :3].T + inverse[:3, 3]
        place = places[contour.ContourImageSequence[0].ReferencedSOPInstanceUID]
        assert np.abs(indices[:, 0] - place).max() < 0.01, "the contour lies on its image plane"
        mask[place] ^= polygon2mask(mask[place].shape, indices[:, 1:])
    return mask


def regions_of(prompts: tuple[str, ...] = PROMPTS) -> list[Region]:
    return [region_for(prompt) for prompt in prompts]


@pytest.fixture
def ct(tmp_path: Path) -> ImageSeries:
    return read_series(ct_series(np.zeros((9, 32, 40)), (3.0, 1.5, 1.0), tmp_path / "ct"))


@pytest.mark.peers
@pytest.mark.parametrize("holes", ["keyhole", "xor"])
@pytest.mark.parametrize(
    "case",
    ["rtstruct_sts/STS_003/CT/dicom", "mr_brain_t1sag/HFDR/dicom", "tiny_cases/failing__gantrytilting__001/dicom"],
)
def test_over_real_series_contours_lie_on_their_planes_and_give_the_mask_back(
    shared_data: Data, tmp_path: Path, case: str, holes: Holes
) -> None:
    series = read_series(series_files(shared_data(case)))
    masks = bodies(series)
    dataset = write_rtstruct(series, masks, regions_of(), PROVENANCE, holes=holes)
    assert iod_errors(dataset, tmp_path) == []
    read = rois(dcmread(tmp_path / f"{dataset.SOPInstanceUID}.dcm"))
    assert list(read) == ["Parotid_L", "Bony_Ring"]
    for mask, roi in zip(masks, read.values(), strict=False):
        assert np.array_equal(filled(series, roi), mask)


@pytest.mark.peers
@pytest.mark.parametrize(
    "case",
    ["mr_brain_t1sag/HFS/dicom", "rtstruct_sts/STS_002/CT/dicom", "tiny_cases/failing__gantrytilting__001/dicom"],
)
def test_plastimatch_turns_the_contours_back_into_the_masks(shared_data: Data, tmp_path: Path, case: str) -> None:
    """In the patient: its grid is upright, so under a tilted gantry its voxels have other indices than ours."""
    files = series_files(shared_data(case))
    series = read_series(files)
    masks = bodies(series)
    write_rtstruct(series, masks, regions_of(), PROVENANCE).save_as(tmp_path / "rs.dcm", enforce_file_format=True)
    (tmp_path / "ct").mkdir()
    for path in files:
        shutil.copy(path, tmp_path / "ct")
    options = {
        "--input": tmp_path / "rs.dcm",
        "--referenced-ct": tmp_path / "ct",
        "--output-prefix": tmp_path / "masks",
        "--prefix-format": "nrrd",
    }
    command = ["plastimatch", "convert", *(part for option in options.items() for part in option)]
    subprocess.run(command, check=True, capture_output=True)
    for name, mask in zip(("Parotid_L", "Bony_Ring"), masks, strict=False):
        theirs = SimpleITK.ReadImage(tmp_path / "masks" / f"{name}.nrrd")
        places = np.argwhere(SimpleITK.GetArrayFromImage(theirs))
        step = np.array(theirs.GetDirection()).reshape(3, 3) * theirs.GetSpacing()
        points = places[:, ::-1] @ step.T + theirs.GetOrigin()
        inverse = np.linalg.inv(series.affine)
        indices = np.rint(points @ inverse[:3, :3].T + inverse[:3, 3]).astype(int)
        hit = mask[tuple(indices.T)].sum()
        assert 2 * hit / (len(places) + mask.sum()) >= 0.98, name


@pytest.mark.parametrize("patient", ["STS_002", "STS_003", "STS_008"])
def test_a_planners_mask_becomes_contours_with_the_planners_volume(shared_data: Data, patient: str) -> None:
    folder = shared_data("rtstruct_sts", patient, "CT")
    series = read_series(series_files(folder / "dicom"))
    image = nibabel.load(next(folder.glob("mask.nii*")))
    voxels = np.argwhere(np.asarray(image.dataobj) > 0)
    points = voxels @ image.affine[:3, :3].T + image.affine[:3, 3]
    inverse = np.linalg.inv(series.affine)
    indices = np.rint(points * (-1, -1, 1) @ inverse[:3, :3].T + inverse[:3, 3]).astype(int)
    mask = np.zeros((1, *series.volume.spatial_shape), dtype=bool)
    mask[0][tuple(indices.T)] = True

    roi = rois(write_rtstruct(series, mask, regions_of(("tumor",)), PROVENANCE))["Tumor"]
    area = 0.0
    for contour in roi.ContourSequence:
        x, y, _ = np.array(contour.ContourData, dtype=float).reshape(-1, 3).T
        area += abs(float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum())) / 2
    volume_ml = area * series.volume.spacing[0] / 1000
    expected = json.loads(shared_data("expected_rtstruct.json").read_text())[f"rtstruct_sts/{patient}/CT/RS.dcm"]
    assert volume_ml == pytest.approx(expected["rois"]["GTV_Mass_CT"]["sum_abs_polygon_area_ml"], rel=0.02)


def test_only_a_structure_with_a_hole_has_contours_that_not_every_program_reads(ct: ImageSeries) -> None:
    dataset = write_rtstruct(ct, bodies(ct), regions_of(), PROVENANCE, holes="xor")
    kinds = {name: {one.ContourGeometricType for one in roi.ContourSequence} for name, roi in rois(dataset).items()}
    assert kinds == {"Parotid_L": {"CLOSED_PLANAR"}, "Bony_Ring": {"CLOSEDPLANAR_XOR"}}


def test_the_structure_set_is_a_named_coloured_unapproved_draft(ct: ImageSeries) -> None:
    dataset = write_rtstruct(ct, bodies(ct), regions_of(), PROVENANCE)
    assert dataset.ApprovalStatus == "UNAPPROVED"
    assert dataset.OperatorsName == ""
    assert dataset.StructureSetDescription.endswith("Looked for, not found: spleen.")
    parotid, _ = dataset.StructureSetROISequence
    assert parotid.ROIGenerationAlgorithm == "AUTOMATIC"
    for words in ("UNAPPROVED", "left parotid gland", PROVENANCE.algorithm.digest, "protocol head and neck"):
        assert words in parotid.ROIDescription
    first, second = dataset.RTROIObservationsSequence
    assert (first.RTROIInterpretedType, second.RTROIInterpretedType) == ("ORGAN", "")
    assert first.RTROIIdentificationCodeSequence[0].CodeMeaning == "Parotid gland"
    assert "RTROIIdentificationCodeSequence" not in second
    assert rois(dataset)["Parotid_L"].ROIDisplayColor == list(region_for("left parotid gland").colour)
    (frame,) = dataset.ReferencedFrameOfReferenceSequence
    places = {roi.ReferencedFrameOfReferenceUID for roi in dataset.StructureSetROISequence}
    assert places == {frame.FrameOfReferenceUID} == {dataset.FrameOfReferenceUID} == {ct.frame_of_reference_uid}


@pytest.mark.peers
def test_empty_masks_become_placeholders_only_when_asked_for(ct: ImageSeries, tmp_path: Path) -> None:
    masks = bodies(ct)
    dataset = write_rtstruct(ct, masks, regions_of(), PROVENANCE, placeholders=True)
    assert iod_errors(dataset, tmp_path) == []
    assert "ContourSequence" not in rois(dataset)["Spleen"]
    with pytest.raises(ResultError, match="there is no structure to write"):
        write_rtstruct(ct, np.zeros_like(masks), regions_of(), PROVENANCE)
    with pytest.raises(ResultError, match="need"):
        write_rtstruct(ct, masks[:, :-1], regions_of(), PROVENANCE)


def test_the_same_work_gives_the_same_uid_and_another_form_another(ct: ImageSeries) -> None:
    masks = bodies(ct)
    uids = [
        write_rtstruct(ct, masks, regions_of(), PROVENANCE).SOPInstanceUID,
        write_rtstruct(ct, masks, regions_of(), PROVENANCE).SOPInstanceUID,
        write_rtstruct(ct, masks, regions_of(), PROVENANCE, holes="xor").SOPInstanceUID,
        write_rtstruct(ct, masks, regions_of(), PROVENANCE, name_length=16).SOPInstanceUID,
    ]
    assert uids[0] == uids[1]
    assert len(set(uids)) == 3


def test_short_names_keep_their_side_and_never_collide() -> None:
    prompts = ("left very long unusual structure", "right very long unusual structure", "left very long unusual strand")
    names = roi_names([region_for(prompt) for prompt in prompts], 16)
    assert names == ["Very_Long_Unus_L", "Very_Long_Unus_R", "Very_Long_Unu2_L"]
    named = replace(region_for("left kidney"), label="Kidney_not_for_planning_L")
    assert roi_names([named], 16) == ["Kidney_not_for_L"]
    assert roi_names([region_for("liver"), region_for("Liver"), region_for("hepar")]) == ["Liver", "Liver2", "Liver3"]


@given(st.lists(st.text(max_size=60), max_size=8), st.sampled_from([16, 64]))
def test_any_prompts_have_distinct_names_within_the_limit(prompts: list[str], limit: int) -> None:
    regions = [region_for(prompt) for prompt in prompts]
    names = roi_names(regions, limit)
    assert len({name.casefold() for name in names}) == len(prompts)
    for name, region in zip(names, regions, strict=True):
        assert 0 < len(name) <= limit
        assert name.isascii()
        assert name.endswith("_L") or region.side != "left"
        assert name.endswith("_R") or region.side != "right"

"""Every object of one result over real series: valid, taken and given back by a PACS, pixel by pixel."""

import io
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import Dataset, dcmread

from dicom_node.errors import ResultError
from dicom_node.masks.measures import extent
from dicom_node.objects.provenance import Algorithm, Review
from dicom_node.objects.result_set import ResultSet
from dicom_node.regions import region_for
from dicom_node.scu.c_store import send
from dicom_node.scu.transcode import Syntax, transcoded
from dicom_node.series import ImageSeries, read_series
from dicom_node.synthesis import ct_series
from tests.support.images import PROVENANCE, result_errors, series_files
from tests.support.peers import orthanc

REGIONS = [region_for("left kidney"), region_for("spleen"), region_for("a box")]
ALL = ("seg", "rtstruct", "sr", "preview")


def boxes(series: ImageSeries) -> NDArray[np.bool_]:
    """Two boxes that do not overlap, and an empty one between them."""
    masks = np.zeros((3, *series.volume.spatial_shape), dtype=bool)
    a, b, c = (max(1, size // 3) for size in series.volume.spatial_shape)
    masks[0, :a, :b, :c], masks[2, a:, b : 2 * b, c:] = True, True
    return masks


def made(series: ImageSeries, masks: NDArray[np.bool_]) -> dict[str, Dataset]:
    extents = [extent(mask, series.affine) if mask.any() else None for mask in masks]
    return dict(ResultSet(series, masks, REGIONS, PROVENANCE, ALL, label_map=True).written(extents))


@pytest.mark.peers
@pytest.mark.parametrize(
    "case",
    [
        "mr_brain_t1sag/HFDR/dicom",
        "mr_enhanced/philips_anat_8frames/dicom",
        "tiny_cases/failing__gantrytilting__001/dicom",
        "tiny_cases/generic__compressed_jpegls__001/dicom",
    ],
)
def test_over_real_series_every_object_is_valid(shared_data: Callable[..., Path], tmp_path: Path, case: str) -> None:
    series = read_series(series_files(shared_data(case)))
    objects = made(series, boxes(series))
    assert len(objects) == 6
    for name, dataset in objects.items():
        assert result_errors(dataset, tmp_path) == [], name


def test_every_object_has_the_uids_by_which_the_others_name_it(tmp_path: Path) -> None:
    series = read_series(ct_series(np.zeros((6, 32, 48)), (3.0, 2.0, 2.0), tmp_path))
    plan = ResultSet(series, boxes(series), REGIONS, PROVENANCE, ALL, label_map=True)
    written = plan.written([extent(mask, series.affine) if mask.any() else None for mask in boxes(series)])
    uids = {name: (dataset.SOPInstanceUID, dataset.SeriesInstanceUID) for name, dataset in written}
    assert uids == {name: (one.sop_uid, one.series_uid) for name, one in plan.references.items()}


@pytest.mark.long
@pytest.mark.parametrize("outputs", [ALL[:1], *(tuple(some) for size in (2, 3, 4) for some in combinations(ALL, size))])
def test_what_is_laid_over_an_image_names_that_image_alone(tmp_path: Path, outputs: tuple[str, ...]) -> None:
    """Viewers open a SEG or structure set on the first series that it names, whatever that is."""
    series = read_series(ct_series(np.zeros((6, 32, 48)), (3.0, 2.0, 2.0), tmp_path))
    masks = boxes(series)
    plan = ResultSet(series, masks, REGIONS, PROVENANCE, outputs, label_map=True)
    uids = {name: {one.sop_uid, one.series_uid} for name, one in plan.references.items()}
    sources = {one.sop_uid for one in series.references}
    for name, dataset in plan.written([extent(mask, series.affine) if mask.any() else None for mask in masks]):
        others = set().union(*(uids[other] for other in uids if other != name))
        named = {str(element.value) for element in dataset.iterall() if element.VR == "UI"}
        if name.startswith(("sr", "preview")):
            assert others <= named, f"{name} may name all objects of the result"
            continue
        assert not others & named, f"{name} names another object of the result"
        assert "ReferencedInstanceSequence" not in dataset
        assert ("ReferencedSeriesSequence" in dataset) == name.startswith("seg")
        for listed in dataset.get("ReferencedSeriesSequence", []):
            assert listed.SeriesInstanceUID == series.series_uid
            assert {one.ReferencedSOPInstanceUID for one in listed.ReferencedInstanceSequence} == sources


def test_no_object_replaces_itself(tmp_path: Path) -> None:
    """The same work done by a later job has the objects of the earlier one."""
    series = read_series(ct_series(np.zeros((6, 32, 48)), (3.0, 2.0, 2.0), tmp_path))
    masks = boxes(series)
    extents = [extent(mask, series.affine) if mask.any() else None for mask in masks]
    older = ResultSet(series, masks, REGIONS, PROVENANCE, ALL, name_length=16).references
    again = ResultSet(series, masks, REGIONS, replace(PROVENANCE, predecessors=tuple(older.values())), ALL)
    objects = dict(again.written(extents))
    (structures,) = objects.pop("rtstruct.dcm").PredecessorStructureSetSequence
    assert structures.ReferencedSOPInstanceUID == older["rtstruct.dcm"].sop_uid, "its names were shorter"
    for name, dataset in objects.items():
        assert dataset.SOPInstanceUID == older[name].sop_uid
        assert not {"PredecessorDocumentsSequence", "RelatedSeriesSequence"} & set(dataset.dir("Sequence")), name


@pytest.mark.peers
def test_backslashes_line_ends_and_great_lengths_anywhere_leave_every_object_valid(tmp_path: Path) -> None:
    """A backslash splits a value of DICOM in two; names of models, protocols and structures come from people."""
    series = read_series(ct_series(np.zeros((6, 32, 48)), (3.0, 2.0, 2.0), tmp_path / "ct"))
    odd = 'a\\b "\u809d"\n\x07' * 40
    work = replace(
        PROVENANCE,
        algorithm=Algorithm(odd, "", "sha256:12", odd),
        protocol=odd,
        software_version=odd,
        review=(Review(odd), Review(odd, "liver")),
    )
    regions = [replace(region_for(odd), sentence=odd, roi_name=odd), region_for("liver"), region_for("  \\ ")]
    masks = boxes(series)
    extents = [extent(mask, series.affine) if mask.any() else None for mask in masks]
    objects = dict(ResultSet(series, masks, regions, work, ALL, label_map=True).written(extents))
    for name, dataset in objects.items():
        assert result_errors(dataset, tmp_path) == [], name
    assert objects["rtstruct.dcm"].StructureSetROISequence[0].ROIName.startswith("a/b")


@pytest.mark.peers
def test_a_pacs_takes_every_object_in_every_syntax_and_gives_it_back(tmp_path: Path) -> None:
    series = read_series(ct_series(np.zeros((6, 32, 48)), (3.0, 2.0, 2.0), tmp_path / "ct"))
    objects = made(series, boxes(series))
    # Debian's Orthanc does not know the class of label maps yet.
    with orthanc(tmp_path / "orthanc", OverwriteInstances=True, UnknownSopClassAccepted=True) as pacs:
        syntaxes: tuple[Syntax, ...] = ("rle", "deflated", "explicit")
        for syntax in syntaxes:
            folder = tmp_path / syntax
            (folder / "copies").mkdir(parents=True)
            paths = []
            for name, dataset in objects.items():
                dataset.save_as(folder / name, enforce_file_format=True)
                paths.append(transcoded(folder / name, syntax, folder / "copies"))
            outcomes = send(paths, pacs.peer, calling_ae="VOXTELL")
            assert [outcome.message for outcome in outcomes if outcome.result != "ok"] == [], syntax
            assert pacs.sop_uids() == {str(dataset.SOPInstanceUID) for dataset in objects.values()}
            for name, dataset in objects.items():
                back = dcmread(io.BytesIO(pacs.file(dataset.SOPInstanceUID)))
                if "PixelData" in dataset:
                    assert np.array_equal(back.pixel_array, dcmread(folder / name).pixel_array), f"{name}, {syntax}"
                else:
                    assert back == dcmread(folder / name), f"{name}, {syntax}"


def test_an_object_that_does_not_lie_where_its_mask_lies_is_not_given_out(tmp_path: Path) -> None:
    series = read_series(ct_series(np.zeros((6, 32, 48)), (3.0, 2.0, 2.0), tmp_path / "ct"))
    masks = boxes(series)
    wrong = [extent(mask[..., ::-1], series.affine) if mask.any() else None for mask in masks]
    for kind in ("seg", "rtstruct"):
        with pytest.raises(ResultError, match="does not lie where its mask lies"):
            list(ResultSet(series, masks, REGIONS, PROVENANCE, (kind,)).written(wrong))


@pytest.mark.peers
@pytest.mark.parametrize("case", ["mr_enhanced/philips_anat_8frames/dicom", "ct_abdomen_crlm1004/dicom"])
def test_where_nothing_is_found_a_valid_report_alone_is_made(
    shared_data: Callable[..., Path], tmp_path: Path, case: str
) -> None:
    series = read_series(series_files(shared_data(case)))
    nothing = np.zeros((3, *series.volume.spatial_shape), bool)
    objects = made(series, nothing)
    assert set(objects) == {"sr.dcm"}
    assert result_errors(objects["sr.dcm"], tmp_path) == []
    without = ResultSet(series, nothing, REGIONS, PROVENANCE, ("seg", "rtstruct", "preview"), label_map=True)
    assert without.references == {}

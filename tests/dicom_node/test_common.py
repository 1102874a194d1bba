"""The objects of one result name their source and what they replace, and say what is to be reviewed."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import Dataset

from dicom_node.objects.kinds import KINDS
from dicom_node.objects.provenance import ObjectReference, Provenance, Review
from dicom_node.objects.rtstruct import rtstruct_reference, write_rtstruct
from dicom_node.objects.seg import SEG_KINDS, write_seg
from dicom_node.objects.sr import SR_KINDS, write_sr
from dicom_node.regions import Region, region_for
from dicom_node.series import ImageSeries, read_series
from dicom_node.synthesis import ct_series
from tests.support.images import PROVENANCE, result_errors

REGIONS = [region_for("liver"), region_for("left kidney")]


@pytest.fixture
def ct(tmp_path: Path) -> ImageSeries:
    return read_series(ct_series(np.zeros((6, 12, 16)), (3.0, 2.0, 2.0), tmp_path / "ct"))


def boxes(series: ImageSeries) -> NDArray[np.bool_]:
    masks = np.zeros((2, *series.volume.spatial_shape), dtype=bool)
    masks[0, 1:4, 2:8, 2:8], masks[1, 2:5, 3:9, 9:14] = True, True
    return masks


def of_work(series: ImageSeries, work: Provenance, regions: list[Region] = REGIONS) -> dict[str, Dataset]:
    """Every object of one result."""
    masks = boxes(series)
    segs = {
        "SEG": write_seg(series, masks, regions, work),
        "labels": write_seg(series, masks, regions, work, "LABELMAP"),
    }
    made = {
        "SEG": segs["SEG"].dataset,
        "labels": segs["labels"].dataset,
        "RTSTRUCT": write_rtstruct(series, masks, regions, work),
        "SR": write_sr(series, masks, segs["SEG"], work),
        "SR of labels": write_sr(series, masks, segs["labels"], work),
    }
    return {name: dataset for name, dataset in made.items() if dataset is not None}


def own(dataset: Dataset) -> ObjectReference:
    purpose = next(kind.identity.purpose for kind in KINDS.values() if kind.sop_class == dataset.SOPClassUID)
    return ObjectReference(dataset.SOPClassUID, dataset.SOPInstanceUID, dataset.SeriesInstanceUID, purpose)


def uids_in(dataset: Dataset, keyword: str) -> set[str]:
    """Every Referenced SOP Instance UID below a sequence of the data set."""
    elements = (element for item in dataset.get(keyword, []) for element in item.iterall())
    return {str(element.value) for element in elements if element.keyword == "ReferencedSOPInstanceUID"}


@pytest.mark.long
def test_uids_are_known_before_anything_is_written(ct: ImageSeries) -> None:
    made = of_work(ct, PROVENANCE)
    assert own(made["SEG"]) == PROVENANCE.reference(SEG_KINDS["BINARY"], ct, REGIONS)
    assert own(made["labels"]) == PROVENANCE.reference(SEG_KINDS["LABELMAP"], ct, REGIONS)
    assert own(made["SR"]) == PROVENANCE.reference(SR_KINDS["binary"], ct, REGIONS)
    assert own(made["SR of labels"]) == PROVENANCE.reference(SR_KINDS["labelmap"], ct, REGIONS)
    assert own(made["RTSTRUCT"]) == rtstruct_reference(ct, REGIONS, PROVENANCE)
    assert (
        len({one.SOPInstanceUID for one in made.values()}) == len({one.SeriesInstanceUID for one in made.values()}) == 5
    )


@pytest.mark.peers
def test_objects_stay_valid_and_the_report_names_the_others_too(ct: ImageSeries, tmp_path: Path) -> None:
    references = {name: own(dataset) for name, dataset in of_work(ct, PROVENANCE).items()}
    made = of_work(ct, replace(PROVENANCE, siblings=tuple(references.values())))
    sources = {reference.sop_uid for reference in ct.references}
    for name, dataset in made.items():
        assert own(dataset) == references[name]
        assert result_errors(dataset, tmp_path) == [], name
        others = {one.sop_uid for other, one in references.items() if other != name}
        if name.startswith("SR"):
            listed = uids_in(dataset, "CurrentRequestedProcedureEvidenceSequence")
            listed |= uids_in(dataset, "PertinentOtherEvidenceSequence")
            assert listed == others | sources
        assert "ContributingEquipmentSequence" in dataset


@pytest.mark.peers
def test_a_result_names_the_one_that_it_replaces(ct: ImageSeries, tmp_path: Path) -> None:
    old = {name: own(dataset) for name, dataset in of_work(ct, replace(PROVENANCE, protocol_digest="older")).items()}
    made = of_work(ct, replace(PROVENANCE, predecessors=tuple(old.values())))
    for name, dataset in made.items():
        assert result_errors(dataset, tmp_path) == [], name
    assert uids_in(made["SR"], "PredecessorDocumentsSequence") >= {old["SR"].sop_uid}
    assert uids_in(made["RTSTRUCT"], "PredecessorStructureSetSequence") == {old["RTSTRUCT"].sop_uid}
    for name in ("SEG", "labels"):
        assert made[name].RelatedSeriesSequence[0].SeriesInstanceUID == old[name].series_uid


@pytest.mark.peers
def test_what_is_to_be_reviewed_stands_where_people_look(ct: ImageSeries, tmp_path: Path) -> None:
    reasons = (Review("liver holds 12 ml, expected are 900 to 2500 ml.", "liver"), Review("Spacing is unusual."))
    made = of_work(ct, replace(PROVENANCE, review=reasons))
    for name, dataset in made.items():
        assert result_errors(dataset, tmp_path) == [], name
        assert "To be reviewed" in dataset.ContributingEquipmentSequence[0].ContributionDescription
    liver, kidney = made["SEG"].SegmentSequence
    assert "expected are 900" in liver.SegmentDescription
    assert "To be reviewed" not in kidney.SegmentDescription
    assert "Spacing is unusual." in made["SEG"].ImageComments
    assert "expected are 900" in made["RTSTRUCT"].StructureSetROISequence[0].ROIDescription
    assert "Spacing is unusual." in made["RTSTRUCT"].StructureSetDescription
    comments = [str(element.value) for element in made["SR"].iterall() if element.keyword == "TextValue"]
    assert comments.count("To be reviewed: Spacing is unusual.") == 2
    assert comments.count(f"To be reviewed: {reasons[0].sentence}") == 1

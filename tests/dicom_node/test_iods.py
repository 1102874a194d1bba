"""The judge of objects by the standard's tables: what an object lacks or has too much is named, at any depth."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset

from dicom_node.masks.measures import extent
from dicom_node.objects.result_set import ResultSet
from dicom_node.regions import region_for
from dicom_node.series import read_series
from dicom_node.synthesis import ct_series
from tests.support.images import PROVENANCE
from tests.support.iods import violations

Objects = dict[str, Dataset]


@pytest.fixture
def objects(tmp_path: Path) -> Objects:
    series = read_series(ct_series(np.zeros((6, 12, 16)), (3.0, 2.0, 2.0), tmp_path))
    masks = np.zeros((1, *series.volume.spatial_shape), dtype=bool)
    masks[0, 1:4, 2:8, 2:8] = True
    plan = ResultSet(series, masks, [region_for("liver")], PROVENANCE, ("seg", "sr", "rtstruct", "preview"))
    return dict(plan.written([extent(mask, series.affine) for mask in masks]))


def test_every_object_keeps_to_the_tables(objects: Objects) -> None:
    assert [line for dataset in objects.values() for line in violations(dataset)] == []


def _item_of_a_measurement(report: Dataset) -> Dataset:
    """The item of the report that holds a number."""
    return next(item for item in _items(report) if item.ValueType == "NUM")


def _items(item: Dataset) -> list[Dataset]:
    below = list(item.get("ContentSequence", []))
    return below + [one for child in below for one in _items(child)]


@pytest.mark.parametrize(
    ("name", "spoil", "found"),
    [
        ("seg.dcm", lambda seg: seg.pop("ContentLabel"), "ContentLabel: TagMissing"),
        ("seg.dcm", lambda seg: setattr(seg, "SegmentationType", "TERNARY"), "SegmentationType: EnumValueNotAllowed"),
        ("seg.dcm", lambda seg: setattr(seg, "BitsAllocated", 8), "BitsAllocated: EnumValueNotAllowed"),
        (
            "seg.dcm",
            lambda seg: [one.pop("FrameContentSequence") for one in seg.PerFrameFunctionalGroupsSequence],
            "FrameContentSequence: TagMissing",
        ),
        (
            "sr.dcm",
            lambda sr: _item_of_a_measurement(sr).pop("MeasuredValueSequence"),
            "MeasuredValueSequence: TagMissing",
        ),
        ("sr.dcm", lambda sr: setattr(_items(sr)[0], "GraphicType", "POINT"), "GraphicType: TagUnexpected"),
        (
            "rtstruct.dcm",
            lambda rtstruct: rtstruct.RTROIObservationsSequence[0].pop("RTROIInterpretedType"),
            "RTROIObservationsSequence.RTROIInterpretedType: TagMissing",
        ),
        (
            "rtstruct.dcm",
            lambda rtstruct: setattr(rtstruct, "RelatedSeriesSequence", []),
            "RelatedSeriesSequence: TagUnexpected",
        ),
        ("preview.dcm", lambda preview: preview.pop("ConversionType"), "ConversionType: TagMissing"),
    ],
)
def test_what_is_wrong_is_named(objects: Objects, name: str, spoil: Callable[[Dataset], object], found: str) -> None:
    spoil(objects[name])
    assert [line for line in violations(objects[name]) if found in line], violations(objects[name])

"""Writes masks as an RT Structure Set for planning systems (PS3.3 A.19, C.8.8.5 to C.8.8.8).

Each region is one ROI. Its contours are closed polygons on the source's image planes, one per connected piece and
slice, with points in LPS millimetres to a tenth of a micrometre; each names the image that it lies on. Names follow
AAPM TG-263. The result is a pre-draft: its Approval Status is UNAPPROVED.
"""

import re
import unicodedata
from collections.abc import Sequence
from itertools import count
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.charset import default_encoding
from pydicom.dataelem import RawDataElement
from pydicom.sr.codedict import codes
from pydicom.tag import Tag
from pydicom.uid import ImplicitVRLittleEndian, RTStructureSetStorage

from dicom_node.errors import ResultError
from dicom_node.masks.contours import keyhole, outline
from dicom_node.masks.packed import Masks, PackedMask
from dicom_node.objects.common import (
    coded,
    describe,
    item,
    looked_for,
    masks_of,
    reference_item,
    result_dataset,
    titled,
)
from dicom_node.objects.patient import carried
from dicom_node.objects.provenance import ObjectKind, ObjectReference, Provenance
from dicom_node.regions import Region, asked_by, label_of, one_line, shortened, without_side
from dicom_node.series import ImageSeries
from dicom_node.uids import derived_uid

Holes = Literal["keyhole", "xor"]

RTSTRUCT_KIND: Final = ObjectKind("RTSTRUCT", RTStructureSetStorage, codes.DCM.RTStructureSet)
SET_LABEL: Final = "AUTO UNAPPROVED"
"""The Structure Set Label unless a protocol has one of its own."""

_CONTOUR_DATA: Final = Tag(0x30060050)
_SUFFIXES: Final = {"left": "_L", "right": "_R", "both": "", "": ""}
_DETACHED_STUDY: Final = "1.2.840.10008.3.1.2.3.1"  # Referenced SOP Class UID of a study, PS3.3 C.8.8.5.4


def write_rtstruct(
    series: ImageSeries,
    masks: Masks | NDArray[np.bool_],
    regions: Sequence[Region],
    provenance: Provenance,
    *,
    holes: Holes = "keyhole",
    name_length: int = 64,
    set_label: str = SET_LABEL,
    placeholders: bool = False,
) -> Dataset:
    """Returns the masks bool (P, slices, rows, columns) of `series`, one region each, as one structure set.

    holes: joined to the outer contour ("keyhole"), or contours of their own ("xor"). name_length: bytes of an ROI Name.
    set_label: the Structure Set Label, at most 16 characters; its caller gives it a UID of its own by the protocol.
    placeholders: every empty mask becomes an ROI without contours, not only those whose region asks for it.

    Raises:
        ResultError: when masks, regions and slices do not match, or there is nothing to write.
    """
    packed = masks_of(series, masks, regions).without(series.interpolated).packed
    kept = [
        index
        for index, (mask, region) in enumerate(zip(packed, regions, strict=True))
        if placeholders or region.placeholder or len(mask.held)
    ]
    if not kept:
        raise ResultError("no mask holds a voxel: there is no structure to write")
    reference = rtstruct_reference(
        series, regions, provenance, holes=holes, name_length=name_length, placeholders=placeholders
    )
    dataset = result_dataset(series, provenance, reference, "RTSTRUCT")
    # Some thousand points are more than the 64 kB that a Decimal String may have in explicit VR (PS3.5 7.1.2).
    dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    missing = [region for region, mask in zip(regions, packed, strict=True) if not len(mask.held)]
    _describe(dataset, series, provenance, looked_for(missing))
    dataset.StructureSetLabel = set_label
    if replaced := provenance.predecessor(reference.sop_class_uid):
        dataset.PredecessorStructureSetSequence = [
            reference_item(one.sop_class_uid, one.sop_uid) for one in replaced[:1]
        ]
    named = zip(kept, roi_names([regions[index] for index in kept], name_length), strict=True)
    rois, contours, observations = [], [], []
    for number, (index, name) in enumerate(named, start=1):
        region = regions[index]
        rois.append(_roi(number, name, region, provenance, dataset.FrameOfReferenceUID))
        contours.append(_contours(number, series, packed[index], region, holes))
        observations.append(_observation(number, region))
    dataset.StructureSetROISequence = rois
    dataset.ROIContourSequence = contours
    dataset.RTROIObservationsSequence = observations
    dataset.ApprovalStatus = "UNAPPROVED"
    return dataset


def rtstruct_reference(
    series: ImageSeries,
    regions: Sequence[Region],
    provenance: Provenance,
    *,
    holes: Holes = "keyhole",
    name_length: int = 64,
    placeholders: bool = False,
) -> ObjectReference:
    """Returns the identity of the structure set that `write_rtstruct` would write with these options."""
    options = uid_options(holes, name_length, placeholders)
    return provenance.reference(RTSTRUCT_KIND, series, regions, *options)


def uid_options(holes: Holes, name_length: int, placeholders: bool = False) -> tuple[str, str, str]:
    """Returns the options of `write_rtstruct` as texts for its UIDs."""
    return holes, str(name_length), str(placeholders)


def roi_names(regions: Sequence[Region], limit: int = 64) -> list[str]:
    """Returns a name for each region, at most `limit` bytes of UTF-8, no two equal when case is ignored.

    It is the protocol's name, else that of TG-263, else the prompt's words. A long name loses its end but never its
    side, and names that would be equal get a number.

    >>> from dicom_node.regions import region_for
    >>> roi_names([region_for("left kidney"), region_for("odd lump"), region_for("Odd lump")])
    ['Kidney_L', 'Odd_Lump', 'Odd_Lump2']
    """
    names: list[str] = []
    for region in regions:
        stem, suffix = _stem(region)
        for turn in count(1):
            mark = "" if turn == 1 else str(turn)
            room = limit - len(mark) - len(suffix)  # bytes, as receivers count them
            name = stem.encode()[:room].decode(errors="ignore").rstrip("_ ") + mark + suffix
            if name.casefold() not in {taken.casefold() for taken in names}:
                names.append(name)
                break
    return names


def _stem(region: Region) -> tuple[str, str]:
    """Returns a name without its side, and the suffix of the side."""
    given = one_line(region.roi_name or (region.label if region.label != label_of(region.prompt) else region.tg263))
    if given:
        return (given[:-2], given[-2:]) if given.endswith(("_L", "_R")) else (given, "")
    suffix = _SUFFIXES[region.side]
    plain = unicodedata.normalize("NFKD", without_side(region.prompt)).encode("ascii", "ignore").decode()
    return "_".join(word[:1].upper() + word[1:] for word in re.findall(r"[A-Za-z0-9]+", plain)) or "ROI", suffix


def _describe(dataset: Dataset, series: ImageSeries, provenance: Provenance, missing: str) -> None:
    """Fills RT Series, Frame of Reference and Structure Set (PS3.3 C.8.8.1, C.7.4.1, C.8.8.5)."""
    frame_of_reference = series.frame_of_reference_uid or derived_uid("frame of reference", series.series_uid)
    dataset.SeriesDescription = titled("Structures, UNAPPROVED", series)
    dataset.OperatorsName = ""
    dataset.FrameOfReferenceUID = frame_of_reference
    indicator = carried(series.headers[0], "PositionReferenceIndicator")
    dataset.PositionReferenceIndicator = indicator.value if indicator else ""
    dataset.StructureSetName = "Automatic contours, UNAPPROVED"
    dataset.StructureSetDescription = shortened(f"{describe(provenance, series)} {missing}".strip(), 1024)
    dataset.StructureSetDate, dataset.StructureSetTime = f"{provenance.made:%Y%m%d}", f"{provenance.made:%H%M%S}"
    images = [
        reference_item(reference.sop_class_uid, reference.sop_uid, reference.frame_number)
        for reference in series.references
    ]
    dataset.ReferencedFrameOfReferenceSequence = [
        item(
            FrameOfReferenceUID=frame_of_reference,
            RTReferencedStudySequence=[
                item(
                    ReferencedSOPClassUID=_DETACHED_STUDY,
                    ReferencedSOPInstanceUID=series.study_uid,
                    RTReferencedSeriesSequence=[item(SeriesInstanceUID=series.series_uid, ContourImageSequence=images)],
                )
            ],
        )
    ]


def _roi(number: int, name: str, region: Region, provenance: Provenance, frame_of_reference_uid: str) -> Dataset:
    """Returns a Structure Set ROI Sequence item (PS3.3 C.8.8.5)."""
    return item(
        ROINumber=number,
        ReferencedFrameOfReferenceUID=frame_of_reference_uid,
        ROIName=name,
        ROIDescription=_roi_description(region, provenance),
        ROIGenerationAlgorithm="" if region.placeholder else "AUTOMATIC",
        ROIGenerationDescription=shortened(provenance.maker_of(region).title, 64),
    )


def _roi_description(region: Region, provenance: Provenance) -> str:
    """Returns the ROI Description: UNAPPROVED, what made it, the prompt, and reasons for a review."""
    protocol = f", protocol {provenance.protocol} {provenance.protocol_digest}".rstrip() if provenance.protocol else ""
    made_by = provenance.maker_of(region).sentence
    if region.placeholder:
        return shortened(f"UNAPPROVED. Empty, to be drawn by a person{protocol}.", 1024)
    reasons = " ".join(reason.sentence for reason in provenance.review if reason.label == region.label)
    review = f" To be reviewed: {reasons}" if reasons else ""
    return shortened(f"UNAPPROVED. {made_by}{protocol}. {asked_by(region)}{review}", 1024)


def _contours(number: int, series: ImageSeries, mask: PackedMask, region: Region, holes: Holes) -> Dataset:
    """Returns a ROI Contour Sequence item (PS3.3 C.8.8.6): one contour per ring, slices in ascending order.

    A point lies at the slice's own Image Position plus its row and column times the steps of the grid, in LPS
    millimetres. Only a structure that has a hole gets CLOSEDPLANAR_XOR, which many programs do not read.
    """
    across, down = series.affine[:3, 2], series.affine[:3, 1]
    polygons = [(place, polygon) for place, plane in mask.planes() for polygon in outline(plane)]
    apart = holes == "xor" and any(polygon.holes for _, polygon in polygons)
    sequence: list[Dataset] = []
    for place, polygon in polygons:
        reference = series.reference_at[place]
        for ring in (polygon.outer, *polygon.holes) if apart else (keyhole(polygon),):
            points = series.positions[place] + ring[:, :1] * down + ring[:, 1:] * across
            contour = item(
                ContourNumber=len(sequence) + 1,
                ContourImageSequence=[
                    reference_item(reference.sop_class_uid, reference.sop_uid, reference.frame_number)
                ],
                ContourGeometricType="CLOSEDPLANAR_XOR" if apart else "CLOSED_PLANAR",
                NumberOfContourPoints=len(points),
            )
            contour[_CONTOUR_DATA] = _contour_data(points)
            # pydicom writes raw values as they are only into the encoding in which they came.
            contour.set_original_encoding(True, True, default_encoding)
            sequence.append(contour)
    structure = item(ROIDisplayColor=list(region.colour), ReferencedROINumber=number)
    if sequence:
        structure.ContourSequence = sequence
    return structure


def _contour_data(points: NDArray[np.float64]) -> RawDataElement:
    """Returns points (N, 3) as Decimal Strings to a tenth of a micrometre, encoded at once.

    pydicom would make an object of every number: a structure set has hundreds of thousands.
    """
    text = "\\".join(map("{:.4f}".format, points.ravel().tolist())).encode()
    text += b" " * (len(text) % 2)
    return RawDataElement(_CONTOUR_DATA, "DS", len(text), text, 0, is_implicit_VR=True, is_little_endian=True)


def contour_points(contour: Dataset) -> NDArray[np.float64]:
    """Returns the LPS millimetres (points, 3) of a Contour Sequence item.

    The item keeps its text: the numbers as objects would take much memory.
    """
    value = contour.get_item(_CONTOUR_DATA).value
    numbers = value.split(b"\\") if isinstance(value, bytes) else value
    return np.array(numbers, dtype=np.float64).reshape(-1, 3)


def _observation(number: int, region: Region) -> Dataset:
    """Returns an RT ROI Observations Sequence item (PS3.3 C.8.8.8)."""
    observation = item(
        ObservationNumber=number,
        ReferencedROINumber=number,
        RTROIInterpretedType=region.interpreted_type,
        ROIInterpreter="",
    )
    if region.coded:
        code = coded(region.type)
        if region.laterality is not None:
            code.SegmentedPropertyTypeModifierCodeSequence = [coded(region.laterality)]
        observation.RTROIIdentificationCodeSequence = [code]
    return observation

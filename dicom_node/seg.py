"""SEG: masks as a DICOM Segmentation, BINARY (PS3.3 A.51, C.8.20).

Frames lie on the source frames: position, orientation and SOP reference of each come from its own source slice, so a
tilted, jittering or multi-frame source needs no regular grid here. Codes, algorithm and colour are highdicom's building
blocks; frames are assembled here, because highdicom's own constructor wants one orientation and shared pixel measures
from the source and takes several times as long.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import highdicom
import numpy as np
from highdicom.seg import SegmentDescription
from numpy.typing import NDArray
from pydicom import DataElement, Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import SegmentationStorage
from pydicom.valuerep import format_number_as_ds

from dicom_node.errors import ResultError
from dicom_node.regions import Region, label_of, one_line, shortened
from dicom_node.results import Work, coded, describe, item, reference_item, result_dataset
from dicom_node.series import ImageSeries
from dicom_node.uids import derived_uid

_SEGMENT_NUMBER: Final = 0x0062000B
_POSITION: Final = 0x00200032

Slices = tuple[NDArray[np.bool_], NDArray[np.intp]]  # one mask (slices, rows, columns) and the slices that hold it


@dataclass(frozen=True, eq=False)
class Segmentation:
    """`dataset` is None when no mask holds a voxel: an empty segment hangs viewers, so none is ever written."""

    dataset: Dataset | None
    found: tuple[Region, ...]  # in segment order, segment numbers 1, 2, ...
    not_found: tuple[Region, ...]  # looked for, empty mask


def write_seg(
    series: ImageSeries, masks: NDArray[np.bool_], regions: Sequence[Region], work: Work, *, deflated: bool = False
) -> Segmentation:
    """Masks bool (P, slices, rows, columns) on the slices of `series`, one region each, as one Segmentation.

    A segment per non-empty mask in the order given; per segment only the frames that hold it. The same work gives the
    same UIDs, and the same bytes but for dates and times. ResultError when masks, regions and slices do not match.
    """
    shape = (len(regions), *series.volume.spatial_shape)
    if masks.shape != shape or masks.dtype != np.bool_:
        raise ResultError(f"masks are {masks.dtype} {masks.shape}; the series and its regions need bool {shape}")
    held = [np.flatnonzero([plane.any() for plane in mask]) for mask in masks]  # per plane stops at the first voxel
    found = [index for index, slices in enumerate(held) if len(slices)]
    result = Segmentation(
        dataset=None,
        found=tuple(regions[index] for index in found),
        not_found=tuple(region for index, region in enumerate(regions) if index not in found),
    )
    if not found:
        return result
    sop_uid = work.uid("SEG", series, regions)
    dataset = result_dataset(
        series,
        work,
        sop_class_uid=SegmentationStorage,
        modality="SEG",
        sop_uid=sop_uid,
        series_uid=work.uid("SEG series", series, regions),
        deflated=deflated,
    )
    _describe(dataset, result, series, work)
    dataset.SegmentSequence = [
        _segment(number, region, work, sop_uid) for number, region in enumerate(result.found, start=1)
    ]
    segments = [(masks[index], held[index]) for index in found]
    dataset.SegmentsOverlap = "YES" if _overlap(segments) else "NO"
    _refer(dataset, series)
    _lay_frames(dataset, series, [slices for _, slices in segments])
    dataset.PixelData = _pack(segments)
    return Segmentation(dataset, result.found, result.not_found)


def _describe(dataset: Dataset, result: Segmentation, series: ImageSeries, work: Work) -> None:
    """Series, frame of reference, general image, image pixel and segmentation image modules (PS3.3 C.8.20.2)."""
    looked_for = "; ".join(one_line(region.prompt) for region in result.not_found)
    dataset.SeriesDescription = "Segmentation, UNAPPROVED"
    dataset.ImageType = ["DERIVED", "PRIMARY"]
    dataset.ContentLabel = "SEGMENTATION"
    dataset.ContentDescription = "Automatic segmentation, UNAPPROVED"
    dataset.ContentCreatorName = ""
    dataset.ContentDate, dataset.ContentTime = f"{work.made:%Y%m%d}", f"{work.made:%H%M%S}"
    dataset.ImageComments = describe(work) + (f" Looked for, not found: {looked_for}." if looked_for else "")
    dataset.FrameOfReferenceUID = series.frame_of_reference_uid or derived_uid("frame of reference", series.series_uid)
    dataset.PositionReferenceIndicator = series.headers[0].get("PositionReferenceIndicator") or ""
    lossy = [header for header in series.headers if header.get("LossyImageCompression") == "01"]
    dataset.LossyImageCompression = "01" if lossy else "00"
    for keyword in ("LossyImageCompressionRatio", "LossyImageCompressionMethod"):
        if lossy and (value := lossy[0].get(keyword)):
            setattr(dataset, keyword, value)
    dataset.SegmentationType = "BINARY"
    _, dataset.Rows, dataset.Columns = series.volume.spatial_shape
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.PixelRepresentation = 0
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 1, 1, 0


def _segment(number: int, region: Region, work: Work, sop_uid: str) -> Dataset:
    algorithm = work.algorithm
    parameters = {"prompt": one_line(region.prompt), "weights": algorithm.digest}
    if work.protocol:
        parameters["protocol"] = f"{work.protocol} {work.protocol_digest}".strip()
    segment = SegmentDescription(
        segment_number=number,
        segment_label=label_of(region.label),  # a protocol may have put its own name there
        segmented_property_category=region.category,
        segmented_property_type=region.type,
        algorithm_type="AUTOMATIC",
        algorithm_identification=highdicom.AlgorithmIdentificationSequence(
            name=algorithm.name[:64],
            family=codes.DCM.ArtificialIntelligence,
            version=algorithm.version[:64],
            source="voxtell-dicom",
            parameters=parameters,
        ),
        tracking_uid=derived_uid("segment", sop_uid, str(number)),
        tracking_id=label_of(region.label),
        anatomic_regions=[region.site] if region.site else None,
        display_color=highdicom.color.CIELabColor.from_rgb(*region.colour),
    )
    if region.laterality is not None:
        kind = segment.SegmentedPropertyTypeCodeSequence[0]
        kind.SegmentedPropertyTypeModifierCodeSequence = [coded(region.laterality)]
    uncoded = "" if region.coded else " No code is known for this prompt: the type is the generic one."
    segment.SegmentDescription = shortened(f"UNAPPROVED.{uncoded} Prompt: {one_line(region.prompt)}", 1024)
    return segment


def _refer(dataset: Dataset, series: ImageSeries) -> None:
    """Every source image, once, at the top level: Common Instance Reference module (PS3.3 C.12.2)."""
    uids = dict.fromkeys((reference.sop_class_uid, reference.sop_uid) for reference in series.references)
    images = [reference_item(sop_class_uid, sop_uid) for sop_class_uid, sop_uid in uids]
    dataset.ReferencedSeriesSequence = [item(SeriesInstanceUID=series.series_uid, ReferencedInstanceSequence=images)]


def _lay_frames(dataset: Dataset, series: ImageSeries, held: Sequence[NDArray[np.intp]]) -> None:
    """Multi-frame functional groups and dimensions (C.7.6.16, C.7.6.17); `held` lists the slices of each segment."""
    organization = derived_uid("dimensions", str(dataset.SOPInstanceUID))
    dataset.DimensionOrganizationSequence = [item(DimensionOrganizationUID=organization)]
    dataset.DimensionIndexSequence = [
        item(
            DimensionOrganizationUID=organization,
            DimensionIndexPointer=pointer,
            FunctionalGroupPointer=group,
            DimensionDescriptionLabel=label,
        )
        for pointer, group, label in (
            (_SEGMENT_NUMBER, 0x0062000A, "Segment"),
            (_POSITION, 0x00209113, "Position"),
        )
    ]
    spacing = [format_number_as_ds(value) for value in series.volume.spacing]
    cosines = [format_number_as_ds(float(value)) for value in series.orientation.ravel()]
    shared = item(
        PlaneOrientationSequence=[item(ImageOrientationPatient=cosines)],
        PixelMeasuresSequence=[
            item(SliceThickness=spacing[0], SpacingBetweenSlices=spacing[0], PixelSpacing=spacing[1:])
        ],
    )
    dataset.SharedFunctionalGroupsSequence = [shared]
    places = {int(place): rank for rank, place in enumerate(np.unique(np.concatenate(held)), start=1)}
    planes = {place: _plane(series, place) for place in places}
    frames = []
    for number, slices in enumerate(held, start=1):
        segment = DataElement(0x0062000A, "SQ", [item(ReferencedSegmentNumber=number)])
        for place in map(int, slices):
            content = Dataset()
            content.add(DataElement(0x00209157, "UL", [number, places[place]]))  # Dimension Index Values
            frame = Dataset()
            frame.add(DataElement(0x00209111, "SQ", [content]))  # Frame Content Sequence
            for element in (*planes[place], segment):
                frame.add(element)
            frames.append(frame)
    dataset.PerFrameFunctionalGroupsSequence = frames
    dataset.NumberOfFrames = len(frames)


def _plane(series: ImageSeries, place: int) -> tuple[DataElement, DataElement]:
    """Plane position and derivation image of the frames on one slice; all segments share them."""
    reference = series.references[place]
    source = reference_item(reference.sop_class_uid, reference.sop_uid, reference.frame_number)
    source.SpatialLocationsPreserved = "YES"
    source.PurposeOfReferenceCodeSequence = [coded(codes.DCM.SourceImageForImageProcessingOperation)]
    derivation = item(SourceImageSequence=[source], DerivationCodeSequence=[coded(codes.DCM.Segmentation)])
    position = [format_number_as_ds(float(value)) for value in series.positions[place]]
    return (
        DataElement(0x00209113, "SQ", [item(ImagePositionPatient=position)]),  # Plane Position Sequence
        DataElement(0x00089124, "SQ", [derivation]),  # Derivation Image Sequence
    )


def _overlap(segments: Sequence[Slices]) -> bool:
    union = np.zeros_like(segments[0][0])
    for mask, slices in segments:
        for place in slices:
            if (union[place] & mask[place]).any():
                return True
            union[place] |= mask[place]
    return False


def _pack(segments: Sequence[Slices]) -> bytes:
    """Frames one after the other, eight pixels a byte, first pixel in the lowest bit, no gap between (PS3.5 8.1.1)."""
    frames = [mask[place].ravel() for mask, slices in segments for place in slices]
    if frames[0].size % 8:
        frames = [np.concatenate(frames)]  # a frame does not end with a byte: small, odd images only
    packed = b"".join(np.packbits(frame, bitorder="little").tobytes() for frame in frames)
    return packed + b"\x00" * (len(packed) % 2)

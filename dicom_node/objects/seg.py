"""Writes masks as a DICOM Segmentation: BINARY, or LABELMAP if no segments overlap (PS3.3 A.51, C.8.20).

Frames lie on the source frames: position, orientation and SOP reference of each come from its own source slice, so a
tilted, jittering or multi-frame source needs no regular grid here. Frames of a BINARY are ordered by segment, then by
slice, and the dimension indices say so; those of a LABELMAP by slice.

Codes, algorithm and colour are highdicom's building blocks. Frames are assembled here, because highdicom's own
constructor wants one orientation and shared pixel measures from the source and takes several times as long.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

import highdicom
import numpy as np
from highdicom.seg import SegmentDescription
from numpy.typing import NDArray
from pydicom import DataElement, Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import SegmentationStorage
from pydicom.valuerep import format_number_as_ds

from dicom_node.errors import ResultError
from dicom_node.masks.packed import Masks, PackedMask
from dicom_node.objects.common import (
    coded,
    describe,
    item,
    looked_for,
    masks_of,
    refer_to_predecessor,
    refer_to_source,
    reference_item,
    result_dataset,
    titled,
)
from dicom_node.objects.patient import carried
from dicom_node.objects.provenance import LABEL_MAP_STORAGE, ObjectKind, Provenance
from dicom_node.regions import Region, asked_by, label_of, one_line, shortened
from dicom_node.series import ImageSeries
from dicom_node.uids import derived_uid

_SEGMENT_NUMBER: Final = 0x0062000B
_POSITION: Final = 0x00200032

SegmentationType = Literal["BINARY", "LABELMAP"]

SEG_KINDS: Final[dict[SegmentationType, ObjectKind]] = {
    "BINARY": ObjectKind("SEG", SegmentationStorage, codes.DCM.SegmentationResult),
    "LABELMAP": ObjectKind("SEG labelmap", LABEL_MAP_STORAGE, codes.DCM.SegmentationResult),
}


@dataclass(frozen=True, eq=False)
class Segmentation:
    """Holds a SEG and which regions it has a segment for.

    `dataset` is None when no mask holds a voxel: an empty segment hangs viewers, so none is ever written. The report is
    written from this object, since it refers to the segments by their numbers.
    """

    dataset: Dataset | None
    regions: tuple[Region, ...]  # as they were given
    found: tuple[Region, ...]  # in segment order, segment numbers 1, 2, ...
    not_found: tuple[Region, ...]  # looked for, empty mask


def write_seg(
    series: ImageSeries,
    masks: Masks | NDArray[np.bool_],
    regions: Sequence[Region],
    provenance: Provenance,
    form: SegmentationType = "BINARY",
) -> Segmentation:
    """Returns the masks as one Segmentation object.

    Args:
        series: the volume on whose slices the masks lie.
        masks: bool (P, slices, rows, columns).
        regions: one per mask, with label, codes and colour.
        provenance: what the object says about the job.
        form: BINARY has, per segment, the frames that hold it (and see `_never_misread`). LABELMAP has one frame per
            slice that holds any.

    There is one segment per non-empty mask, in the order given. Slices that no file holds have no frames. The same work
    gives the same UIDs, and the same bytes except for dates and times.

    Raises:
        ResultError: when masks, regions and slices do not match, or segments of a LABELMAP overlap.
    """
    packed = masks_of(series, masks, regions).without(series.interpolated).packed
    result = Segmentation(
        dataset=None,
        regions=tuple(regions),
        found=tuple(region for region, mask in zip(regions, packed, strict=True) if len(mask.held)),
        not_found=tuple(region for region, mask in zip(regions, packed, strict=True) if not len(mask.held)),
    )
    segments = [mask for mask in packed if len(mask.held)]
    if not segments:
        return result
    overlap = overlapping(segments)
    if form == "LABELMAP" and overlap:
        raise ResultError("segments overlap: a label map can hold one of them per voxel only; write them as BINARY")
    reference = provenance.reference(SEG_KINDS[form], series, regions)
    dataset = result_dataset(series, provenance, reference, "SEG")
    _describe(dataset, result, series, provenance)
    dataset.SegmentSequence = [
        _segment(number, region, provenance, reference.sop_uid) for number, region in enumerate(result.found, start=1)
    ]
    dataset.SegmentsOverlap = "YES" if overlap else "NO"
    refer_to_source(dataset, series)
    refer_to_predecessor(dataset, series, provenance)
    if form == "BINARY":
        segments = _never_misread(segments, series)
        _lay_frames(dataset, series, [(number, mask.held) for number, mask in enumerate(segments, start=1)])
        dataset.PixelData = _bits(segments)
    else:
        _become_label_map(dataset, series, segments)
    return replace(result, dataset=dataset)


def _describe(dataset: Dataset, result: Segmentation, series: ImageSeries, provenance: Provenance) -> None:
    """Fills series, frame of reference, general image, image pixel and segmentation image modules (PS3.3 C.8.20.2)."""
    dataset.SeriesDescription = titled("Segmentation, UNAPPROVED", series)
    dataset.ImageType = ["DERIVED", "PRIMARY"]
    dataset.ContentLabel = "SEGMENTATION"
    dataset.ContentDescription = "Automatic segmentation, UNAPPROVED"
    dataset.ContentCreatorName = ""
    dataset.ContentDate, dataset.ContentTime = f"{provenance.made:%Y%m%d}", f"{provenance.made:%H%M%S}"
    dataset.ImageComments = shortened(f"{describe(provenance, series)} {looked_for(result.not_found)}".strip(), 10240)
    dataset.FrameOfReferenceUID = series.frame_of_reference_uid or derived_uid("frame of reference", series.series_uid)
    indicator = carried(series.headers[0], "PositionReferenceIndicator")
    dataset.PositionReferenceIndicator = indicator.value if indicator else ""
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


def _segment(number: int, region: Region, provenance: Provenance, sop_uid: str) -> Dataset:
    """Returns a Segment Sequence item (PS3.3 Table C.8.20-4): label, codes, algorithm, colour, tracking UID.

    The tracking UID derives from the SOP Instance UID, so that the report can name it and a rerun repeats it.
    """
    algorithm = provenance.maker_of(region)
    parameters = {"prompt": one_line(region.prompt)} | ({"weights": algorithm.digest} if algorithm.has_weights else {})
    if provenance.protocol:
        parameters["protocol"] = f"{provenance.protocol} {provenance.protocol_digest}".strip()
    segment = SegmentDescription(
        segment_number=number,
        segment_label=label_of(region.label),  # a protocol may have put its own name there
        segmented_property_category=region.category,
        segmented_property_type=region.type,
        algorithm_type="AUTOMATIC",
        algorithm_identification=highdicom.AlgorithmIdentificationSequence(
            name=algorithm.name,
            family=codes.DCM.ArtificialIntelligence if algorithm.has_weights else codes.DCM.MorphologicalOperations,
            version=algorithm.version,
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
    reasons = " ".join(reason.sentence for reason in provenance.review if reason.label == region.label)
    review = f" To be reviewed: {reasons}" if reasons else ""
    segment.SegmentDescription = shortened(f"UNAPPROVED.{uncoded}{review} {asked_by(region)}", 1024)
    return segment


def _become_label_map(dataset: Dataset, series: ImageSeries, segments: Sequence[PackedMask]) -> None:
    """Turns the data set into a LABELMAP: one number per voxel.

    The background is a segment of its own, because every value must be described (PS3.3 C.8.20.2.3). It is the last in
    the sequence, whose order is free: OHIF colours segment 1 like the first item, whatever the number of that is.
    """
    background = SegmentDescription(
        segment_number=1,
        segment_label="Background",
        segmented_property_category=codes.DCM.Background,
        segmented_property_type=codes.DCM.Background,
        algorithm_type="AUTOMATIC",
        algorithm_identification=dataset.SegmentSequence[0].SegmentationAlgorithmIdentificationSequence,
        display_color=highdicom.color.CIELabColor(0.0, 0.0, 0.0),
    )
    background.SegmentNumber = 0  # set here, because highdicom accepts positive numbers only
    dataset.SegmentSequence = [*dataset.SegmentSequence, background]
    dataset.SegmentationType = "LABELMAP"
    dataset.PixelPaddingValue = 0
    kind = np.dtype(np.uint8 if len(segments) < 256 else "<u2")
    dataset.BitsAllocated = dataset.BitsStored = 8 * kind.itemsize
    dataset.HighBit = dataset.BitsStored - 1
    held = np.unique(np.concatenate([mask.held for mask in segments]))
    _lay_frames(dataset, series, [(None, held)])
    frames = np.zeros((len(held), *segments[0].shape[1:]), dtype=kind)
    for number, mask in enumerate(segments, start=1):
        for place, plane in mask.planes():
            frames[np.searchsorted(held, place)][plane] = number
    dataset.PixelData = frames.tobytes() + b"\x00" * (frames.nbytes % 2)
    dataset["PixelData"].VR = "OB" if kind.itemsize == 1 else "OW"


def _lay_frames(dataset: Dataset, series: ImageSeries, held: Sequence[tuple[int | None, NDArray[np.intp]]]) -> None:
    """Fills the multi-frame functional groups and the dimensions (PS3.3 C.7.6.16, C.7.6.17).

    `held` lists the slices of each segment number; the number is None where a frame holds several segments.
    """
    organization = derived_uid("dimensions", str(dataset.SOPInstanceUID))
    dimensions = [(_POSITION, 0x00209113, "Position")]
    if held[0][0] is not None:
        dimensions = [(_SEGMENT_NUMBER, 0x0062000A, "Segment"), *dimensions]
    dataset.DimensionOrganizationSequence = [item(DimensionOrganizationUID=organization)]
    dataset.DimensionIndexSequence = [
        item(
            DimensionOrganizationUID=organization,
            DimensionIndexPointer=pointer,
            FunctionalGroupPointer=group,
            DimensionDescriptionLabel=label,
        )
        for pointer, group, label in dimensions
    ]
    cosines = [format_number_as_ds(float(value)) for value in series.orientation.ravel()]
    shared = item(
        PlaneOrientationSequence=[item(ImageOrientationPatient=cosines)], PixelMeasuresSequence=[_measures(series)]
    )
    dataset.SharedFunctionalGroupsSequence = [shared]
    slices = np.unique(np.concatenate([places for _, places in held]))
    ranks = {place: rank for rank, place in enumerate(slices.tolist(), start=1)}
    planes = {place: _plane(series, place) for place in ranks}
    frames = []
    for number, places in held:
        segment = [] if number is None else [DataElement(0x0062000A, "SQ", [item(ReferencedSegmentNumber=number)])]
        for place in places.tolist():
            content = Dataset()
            indices = [ranks[place]] if number is None else [number, ranks[place]]
            content.add(DataElement(0x00209157, "UL", indices))  # Dimension Index Values
            frame = Dataset()
            frame.add(DataElement(0x00209111, "SQ", [content]))  # Frame Content Sequence
            for element in (*planes[place], *segment):
                frame.add(element)
            frames.append(frame)
    dataset.PerFrameFunctionalGroupsSequence = frames
    dataset.NumberOfFrames = len(frames)


def _measures(series: ImageSeries) -> Dataset:
    """Returns the pixel measures of all frames; no spacing between slices where the source has several.

    The thickness is the source's step, then: of frames that lie further apart nobody is told that they touch.
    """
    between, *in_plane = (format_number_as_ds(value) for value in series.volume.spacing)
    measures = item(SliceThickness=between, PixelSpacing=in_plane)
    if not series.interpolated:
        measures.SpacingBetweenSlices = between
    return measures


def _plane(series: ImageSeries, place: int) -> tuple[DataElement, DataElement]:
    """Returns plane position and derivation image of the frames on one slice; all segments share them."""
    reference = series.reference_at[place]
    source = reference_item(reference.sop_class_uid, reference.sop_uid, reference.frame_number)
    source.SpatialLocationsPreserved = "YES"
    source.PurposeOfReferenceCodeSequence = [coded(codes.DCM.SourceImageForImageProcessingOperation)]
    derivation = item(SourceImageSequence=[source], DerivationCodeSequence=[coded(codes.DCM.Segmentation)])
    position = [format_number_as_ds(float(value)) for value in series.positions[place]]
    return (
        DataElement(0x00209113, "SQ", [item(ImagePositionPatient=position)]),  # Plane Position Sequence
        DataElement(0x00089124, "SQ", [derivation]),  # Derivation Image Sequence
    )


def overlapping(masks: Sequence[PackedMask]) -> bool:
    """Whether any voxel lies in two of the masks."""
    taken: dict[int, NDArray[np.uint8]] = {}
    for mask in masks:
        for place, bits in zip(mask.held.tolist(), mask.bits, strict=True):
            before = taken.get(place)
            if before is None:
                taken[place] = bits
            elif (before & bits).any():
                return True
            else:
                taken[place] = before | bits
    return False


def _never_misread(segments: list[PackedMask], series: ImageSeries) -> list[PackedMask]:
    """Adds an empty frame to the last segment where OHIF would show stripes: it shows nothing then, and says so.

    OHIF 3.13 takes frames out of a whole object at bytes; frames of 63 x 55 pixels end within one. Where Pixel Data is
    padded to an even length, it notices, and asks for single frames. So the length without padding is made odd.
    """
    last, frames = segments[-1], sum(len(mask.held) for mask in segments)
    size = last.shape[1] * last.shape[2]
    free = np.setdiff1d(list(series.reference_at), last.held)
    if size % 8:
        for more in range(len(free) + 1):
            if -(-(frames + more) * size // 8) % 2:
                held = np.concatenate([last.held, free[:more]])
                bits = np.pad(last.bits, ((0, more), (0, 0)))
                order = np.argsort(held)
                return [*segments[:-1], PackedMask(last.shape, held[order], bits[order])]
    return segments


def _bits(segments: Sequence[PackedMask]) -> bytes:
    """Returns the Pixel Data of a BINARY: frames without gaps, first pixel in the lowest bit (PS3.5 8.1.1)."""
    size = segments[0].shape[1] * segments[0].shape[2]
    if size % 8:  # frames do not end on a byte boundary, as in small images of odd size
        planes = [np.unpackbits(mask.bits, axis=1, count=size, bitorder="little").ravel() for mask in segments]
        packed = np.packbits(np.concatenate(planes), bitorder="little").tobytes()
    else:
        packed = b"".join(mask.bits.data for mask in segments)
    return packed + b"\x00" * (len(packed) % 2)

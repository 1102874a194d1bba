"""Results: what SEG, RTSTRUCT and SR share: whose image it was, who made the result, from what, and under which UIDs.

The UIDs of a result derive from the source SOP Instance UIDs, the prompts, the weights' digest, the protocol's digest
and the kind of object, so that the same work always gives the same object. No result is approved: where an object has
no Approval Status, its description says UNAPPROVED.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

import highdicom
from highdicom.sr import CodedConcept
from numpy import bool_
from numpy.typing import NDArray
from pydicom import Dataset, FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import (
    UID,
    EnhancedSRStorage,
    ExplicitVRLittleEndian,
    RTStructureSetStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
)

from dicom_node.errors import ResultError
from dicom_node.masks.packed import Masks
from dicom_node.objects.patient import carry_patient
from dicom_node.regions import Region, one_line, shortened
from dicom_node.series import ImageSeries
from dicom_node.uids import derived_uid

LABEL_MAP_STORAGE: Final = UID("1.2.840.10008.5.1.4.1.1.66.7")  # Label Map Segmentation Storage; newer than pydicom 3.0
MANUFACTURER: Final = "voxtell-dicom"

Kind = Literal["SEG", "SEG labelmap", "RTSTRUCT", "SR", "SR labelmap", "preview"]

_CLASSES: Final[dict[Kind, UID]] = {
    "SEG": SegmentationStorage,
    "SEG labelmap": LABEL_MAP_STORAGE,
    "RTSTRUCT": RTStructureSetStorage,
    "SR": EnhancedSRStorage,
    "SR labelmap": EnhancedSRStorage,
    "preview": SecondaryCaptureImageStorage,
}
# What an object is to one that names it. No context group of PS3.16 has codes for all of them; these say what they are.
_PURPOSES: Final[dict[UID, Code]] = {
    SegmentationStorage: codes.DCM.SegmentationResult,
    LABEL_MAP_STORAGE: codes.DCM.SegmentationResult,
    RTStructureSetStorage: codes.DCM.RTStructureSet,
    EnhancedSRStorage: codes.DCM.ImagingMeasurementReport,
    SecondaryCaptureImageStorage: codes.DCM.IllustrationOfROI,
}


@dataclass(frozen=True)
class ObjectReference:
    """One object of a result, so that others can name it."""

    sop_class_uid: str
    sop_uid: str
    series_uid: str


def _put_on_one_line(facts: object, *fields: str, limit: int = 1024, unset: str = "") -> None:
    """Texts of a frozen dataclass as DICOM can hold them: a backslash would split them, a longer one be refused."""
    for field in fields:
        object.__setattr__(facts, field, shortened(one_line(getattr(facts, field)), limit) or unset)


@dataclass(frozen=True)
class Review:
    """A reason why a person should look at a result before it is used."""

    sentence: str
    label: str | None = None  # of the region it is about; None: all of them

    def __post_init__(self) -> None:
        _put_on_one_line(self, "sentence")


@dataclass(frozen=True)
class Algorithm:
    """What computed the masks."""

    name: str
    version: str
    digest: str  # of the weights, "sha256:..."
    notice: str = ""  # one sentence: what it is not for

    def __post_init__(self) -> None:
        _put_on_one_line(self, "notice")
        _put_on_one_line(self, "digest", unset="not told")
        _put_on_one_line(self, "name", "version", limit=64, unset="not told")


@dataclass(frozen=True)
class Work:
    """Facts of one job that its results carry. `made` is local time; only dates and times depend on it."""

    algorithm: Algorithm
    made: datetime
    protocol: str = ""  # its name
    protocol_digest: str = ""
    software_version: str = ""
    series_number: int = 9001
    review: tuple[Review, ...] = ()
    siblings: tuple[ObjectReference, ...] = ()  # every object of this result
    predecessors: tuple[ObjectReference, ...] = ()  # the objects of the result that this one replaces

    def __post_init__(self) -> None:
        _put_on_one_line(self, "protocol")
        _put_on_one_line(self, "software_version", limit=64)

    def uid(self, kind: str, series: ImageSeries, regions: Sequence[Region], *more: str) -> str:
        """The UID that belongs to this work on `series`; `kind` says of which object."""
        sources = sorted(f"{reference.sop_uid}#{reference.frame_number or ''}" for reference in series.references)
        prompts = [region.prompt + (f" <- {region.sentence}" if region.sentence else "") for region in regions]
        work = [self.algorithm.digest, self.protocol_digest, str(len(sources)), *sources, str(len(prompts)), *prompts]
        return derived_uid(kind, *work, *more)

    def reference(self, kind: Kind, series: ImageSeries, regions: Sequence[Region], *more: str) -> ObjectReference:
        """The object of that kind which belongs to this work, whether it is written or not."""
        return ObjectReference(
            _CLASSES[kind],
            self.uid(kind, series, regions, *more),
            self.uid(f"{kind} series", series, regions, *more),
        )

    def others(self, one: ObjectReference) -> tuple[ObjectReference, ...]:
        """The objects of this result beside `one`."""
        return tuple(other for other in self.siblings if other != one)

    def predecessor(self, sop_class_uid: str) -> tuple[ObjectReference, ...]:
        """The object of that class among those that this result replaces; empty without one."""
        return tuple(one for one in self.predecessors if one.sop_class_uid == sop_class_uid)


def result_dataset(series: ImageSeries, work: Work, reference: ObjectReference, modality: str) -> Dataset:
    """A new object in the source's study with patient, study, series, equipment and SOP common modules filled.

    ResultError when the source has no study, series or SOP Instance UIDs to refer to.
    """
    source = series.headers[0]
    named = [series.study_uid, series.series_uid, *(one.sop_uid for one in series.references)]
    if not all(named) or not all(one.sop_class_uid for one in series.references):
        raise ResultError("the source images have no Study, Series or SOP Instance UIDs: a result cannot refer to them")
    result = Dataset()
    carry_patient(source, result)
    result.SpecificCharacterSet = "ISO_IR 192"
    result.SOPClassUID = reference.sop_class_uid
    result.SOPInstanceUID = reference.sop_uid
    result.SeriesInstanceUID = reference.series_uid
    result.SeriesNumber = work.series_number
    result.InstanceNumber = 1
    result.Modality = modality
    result.Manufacturer = MANUFACTURER
    result.ManufacturerModelName = work.algorithm.name
    result.DeviceSerialNumber = work.algorithm.digest.removeprefix("sha256:")[:64] or "0"
    result.SoftwareVersions = work.software_version or work.algorithm.version
    for keyword in ("InstanceCreation", "Series"):
        setattr(result, f"{keyword}Date", f"{work.made:%Y%m%d}")
        setattr(result, f"{keyword}Time", f"{work.made:%H%M%S}")
    result.ContributingEquipmentSequence = [_equipment(work)]
    result.file_meta = FileMetaDataset()
    result.file_meta.MediaStorageSOPClassUID = UID(reference.sop_class_uid)
    result.file_meta.MediaStorageSOPInstanceUID = UID(reference.sop_uid)
    result.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return result


def titled(title: str, series: ImageSeries) -> str:
    """A Series Description (VR LO); of several volumes of one series it also says which."""
    return shortened(one_line(f"{title}, {series.name}"), 64) if series.name else title


def refer(dataset: Dataset, series: ImageSeries, work: Work, reference: ObjectReference) -> None:
    """Names the source, the other objects of this result, and the series of the one that it replaces.

    Common Instance Reference, General Reference and General Series modules (PS3.3 C.12.2, C.12.4, C.7.3.1). A structure
    set names its source where its contours do (PS3.3 C.8.8.5).
    """
    sources = dict.fromkeys((one.sop_class_uid, one.sop_uid) for one in series.references)
    images = [reference_item(sop_class_uid, sop_uid) for sop_class_uid, sop_uid in sources]
    listed = [item(SeriesInstanceUID=series.series_uid, ReferencedInstanceSequence=images)]
    others = work.others(reference)
    if reference.sop_class_uid == RTStructureSetStorage:
        listed = []
    listed += [item(SeriesInstanceUID=one.series_uid, ReferencedInstanceSequence=[_named(one)]) for one in others]
    if listed:
        dataset.ReferencedSeriesSequence = listed
    if others:
        named = [(_named(one), _PURPOSES[UID(one.sop_class_uid)]) for one in others]
        for other, purpose in named:
            other.PurposeOfReferenceCodeSequence = [coded(purpose)]
        dataset.ReferencedInstanceSequence = [other for other, _ in named]
    if replaced := work.predecessor(reference.sop_class_uid):
        dataset.RelatedSeriesSequence = [
            item(
                StudyInstanceUID=series.study_uid,
                SeriesInstanceUID=one.series_uid,
                PurposeOfReferenceCodeSequence=[],  # CID 7210 has none for what is replaced
            )
            for one in replaced
        ]


def documents(series: ImageSeries, objects: Iterable[ObjectReference]) -> list[Dataset]:
    """Objects of the study as a Hierarchical SOP Instance Reference Macro (PS3.3 C.17.2.1); empty without any."""
    listed = [item(SeriesInstanceUID=one.series_uid, ReferencedSOPSequence=[_named(one)]) for one in objects]
    return [item(StudyInstanceUID=series.study_uid, ReferencedSeriesSequence=listed)] if listed else []


def masks_of(series: ImageSeries, masks: Masks | NDArray[bool_], regions: Sequence[Region]) -> Masks:
    """The masks, packed; ResultError when they are not one bool (slices, rows, columns) of `series` per region."""
    shape = (len(regions), *series.volume.spatial_shape)
    if masks.shape != shape:
        raise ResultError(f"masks are {masks.shape}; the series and its regions need bool {shape}")
    return Masks.of(masks)


def _named(one: ObjectReference) -> Dataset:
    return reference_item(one.sop_class_uid, one.sop_uid)


def _equipment(work: Work) -> Dataset:
    """Contributing Equipment Sequence item, PS3.3 C.12.1.1.5."""
    return highdicom.ContributingEquipment(
        manufacturer=MANUFACTURER,
        purpose_of_reference=codes.DCM.ProcessingEquipment,
        manufacturer_model_name=work.algorithm.name,
        software_versions=work.software_version or work.algorithm.version,
        contribution_datetime=work.made,
        contribution_description=describe(work),
    )


def describe(work: Work) -> str:
    """One sentence on how the result came about, at most 1024 characters (VR ST)."""
    algorithm = work.algorithm
    protocol = f", protocol {work.protocol} {work.protocol_digest}".rstrip() if work.protocol else ""
    text = f"UNAPPROVED automatic result of {algorithm.name} {algorithm.version}, weights {algorithm.digest}{protocol}."
    reasons = " ".join(reason.sentence for reason in work.review)
    parts = (text, algorithm.notice, reasons and f"To be reviewed: {reasons}")
    return shortened(" ".join(part for part in parts if part), 1024)


def looked_for(regions: Iterable[Region]) -> str:
    """One sentence on the regions of empty masks; "" without any. What a person is to draw was not looked for, and what
    a model never learnt cannot have been."""
    prompts = "; ".join(one_line(region.prompt) for region in regions if region.learnt and not region.placeholder)
    return f"Looked for, not found: {prompts}." if prompts else ""


def coded(code: Code) -> CodedConcept:
    """A code as a sequence item."""
    return CodedConcept.from_code(code)


def item(**values: Any) -> Dataset:
    """A sequence item of keywords and values."""
    made = Dataset()
    for keyword, value in values.items():
        setattr(made, keyword, value)
    return made


def reference_item(sop_class_uid: str, sop_uid: str, frame_number: int | None = None) -> Dataset:
    """An item of the SOP Instance or Image SOP Instance Reference Macro (PS3.3 10.8, 10.3)."""
    made = item(ReferencedSOPClassUID=sop_class_uid, ReferencedSOPInstanceUID=sop_uid)
    if frame_number is not None:
        made.ReferencedFrameNumber = frame_number
    return made

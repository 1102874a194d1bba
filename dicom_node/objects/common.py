"""Fills what result objects share: common modules, references to the source and to other objects, sequence items."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

import highdicom
from highdicom.sr import CodedConcept
from numpy import bool_
from numpy.typing import NDArray
from pydicom import Dataset, FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import UID, ExplicitVRLittleEndian

from dicom_node.errors import ResultError
from dicom_node.masks.packed import Masks
from dicom_node.objects.patient import carry_patient
from dicom_node.objects.provenance import ObjectReference, Provenance
from dicom_node.regions import Region, one_line, shortened
from dicom_node.series import ImageSeries

MANUFACTURER: Final = "voxtell-dicom"


def result_dataset(series: ImageSeries, provenance: Provenance, reference: ObjectReference, modality: str) -> Dataset:
    """Returns a new object in the source's study, with its common modules filled.

    They are Patient, General Study, General Series, General Equipment and SOP Common (PS3.3 C.7.1.1, C.7.2.1, C.7.3.1,
    C.7.5.1, C.12.1). reference: SOP class and UIDs of the object. modality: Modality of its series, "SEG".

    Raises:
        ResultError: when the source has no study, series or SOP Instance UIDs to refer to.
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
    result.SeriesNumber = provenance.series_number
    result.InstanceNumber = 1
    result.Modality = modality
    result.Manufacturer = MANUFACTURER
    result.ManufacturerModelName = provenance.algorithm.name
    result.DeviceSerialNumber = provenance.algorithm.digest.removeprefix("sha256:")[:64] or "0"
    result.SoftwareVersions = provenance.software_version or provenance.algorithm.version
    for keyword in ("InstanceCreation", "Series"):
        setattr(result, f"{keyword}Date", f"{provenance.made:%Y%m%d}")
        setattr(result, f"{keyword}Time", f"{provenance.made:%H%M%S}")
    result.ContributingEquipmentSequence = [_equipment(provenance, series)]
    result.file_meta = FileMetaDataset()
    result.file_meta.MediaStorageSOPClassUID = UID(reference.sop_class_uid)
    result.file_meta.MediaStorageSOPInstanceUID = UID(reference.sop_uid)
    result.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return result


def titled(title: str, series: ImageSeries) -> str:
    """Returns a Series Description (VR LO, 64 characters); of several volumes of one series it also says which."""
    return shortened(one_line(f"{title}, {series.name}"), 64) if series.name else title


def refer_to_source(dataset: Dataset, series: ImageSeries) -> None:
    """Names the source series, and nothing else, in the Common Instance Reference module (PS3.3 C.12.2).

    The module may list every object that an instance names. But viewers take its first series for the image under a
    segmentation, and OHIF for that under a structure set: so a SEG lists its source alone. A structure set names its
    source where its contours do (PS3.3 C.8.8.5), and has no such list.
    """
    sources = dict.fromkeys((one.sop_class_uid, one.sop_uid) for one in series.references)
    images = [reference_item(sop_class_uid, sop_uid) for sop_class_uid, sop_uid in sources]
    dataset.ReferencedSeriesSequence = [item(SeriesInstanceUID=series.series_uid, ReferencedInstanceSequence=images)]


def refer_to_others(dataset: Dataset, others: Sequence[ObjectReference]) -> None:
    """Names other objects of the same result, each with its purpose; for objects that are laid over no image.

    Common Instance Reference and General Reference modules (PS3.3 C.12.2, C.12.4).
    """
    for one in others:
        listed = item(SeriesInstanceUID=one.series_uid, ReferencedInstanceSequence=[_named(one)])
        dataset.ReferencedSeriesSequence.append(listed)
    if others:
        dataset.ReferencedInstanceSequence = [_with_purpose(one) for one in others]


def refer_to_predecessor(dataset: Dataset, series: ImageSeries, provenance: Provenance) -> None:
    """Names the series of the object that this one replaces, if there is one (General Series module, PS3.3 C.7.3.1)."""
    if replaced := provenance.predecessor(dataset.SOPClassUID):
        dataset.RelatedSeriesSequence = [
            item(
                StudyInstanceUID=series.study_uid,
                SeriesInstanceUID=one.series_uid,
                PurposeOfReferenceCodeSequence=[],  # CID 7210 has none for what is replaced
            )
            for one in replaced
        ]


def documents(series: ImageSeries, objects: Iterable[ObjectReference]) -> list[Dataset]:
    """Returns objects of the study as a Hierarchical SOP Instance Reference Macro (PS3.3 C.17.2.1); [] without any."""
    listed = [item(SeriesInstanceUID=one.series_uid, ReferencedSOPSequence=[_named(one)]) for one in objects]
    return [item(StudyInstanceUID=series.study_uid, ReferencedSeriesSequence=listed)] if listed else []


def masks_of(series: ImageSeries, masks: Masks | NDArray[bool_], regions: Sequence[Region]) -> Masks:
    """Returns the masks packed: bool (P, slices, rows, columns) on the slices of `series`, one per region.

    Raises:
        ResultError: when their shape does not fit the series and the regions.
    """
    shape = (len(regions), *series.volume.spatial_shape)
    if masks.shape != shape:
        raise ResultError(f"masks are {masks.shape}; the series and its regions need bool {shape}")
    return Masks.of(masks)


def _named(one: ObjectReference) -> Dataset:
    """Returns a reference to an object (SOP Instance Reference Macro)."""
    return reference_item(one.sop_class_uid, one.sop_uid)


def _with_purpose(one: ObjectReference) -> Dataset:
    """Returns a reference to an object with the purpose of its kind."""
    named = _named(one)
    named.PurposeOfReferenceCodeSequence = [coded(one.purpose)] if one.purpose else []
    return named


def _equipment(provenance: Provenance, series: ImageSeries) -> Dataset:
    """Returns a Contributing Equipment Sequence item (PS3.3 C.12.1.1.5)."""
    return highdicom.ContributingEquipment(
        manufacturer=MANUFACTURER,
        purpose_of_reference=codes.DCM.ProcessingEquipment,
        manufacturer_model_name=provenance.algorithm.name,
        software_versions=provenance.software_version or provenance.algorithm.version,
        contribution_datetime=provenance.made,
        contribution_description=describe(provenance, series),
    )


def describe(provenance: Provenance, series: ImageSeries) -> str:
    """Returns how the result came about, for people: at most 1024 characters (VR ST).

    It names the model, the weights, the protocol, a gantry tilt of the source, what the model is not for, and the
    reasons for a review.
    """
    algorithm = provenance.algorithm
    protocol = f", protocol {provenance.protocol} {provenance.protocol_digest}".rstrip() if provenance.protocol else ""
    text = f"UNAPPROVED automatic result of {algorithm.name} {algorithm.version}, weights {algorithm.digest}{protocol}."
    tilt = (
        f"Gantry tilt of {series.tilt_degrees:.1f} degrees: each slice lies where its own image says; a program that "
        "stacks slices upright shows structures in the wrong place."
    )
    reasons = " ".join(reason.sentence for reason in provenance.review)
    parts = (text, series.is_tilted and tilt, algorithm.notice, reasons and f"To be reviewed: {reasons}")
    return shortened(" ".join(part for part in parts if part), 1024)


def looked_for(regions: Iterable[Region]) -> str:
    """Returns one sentence on the structures that were looked for and not found; "" without any.

    Left out are structures that a person is to draw, and those that the model was not taught or could not judge.
    """
    missing = (region for region in regions if region.empty_means == "not found" and not region.placeholder)
    prompts = "; ".join(one_line(region.prompt) for region in missing)
    return f"Looked for, not found: {prompts}." if prompts else ""


def coded(code: Code) -> CodedConcept:
    """Returns a code as a sequence item."""
    return CodedConcept.from_code(code)


def item(**values: Any) -> Dataset:
    """Returns a sequence item of keywords and values."""
    made = Dataset()
    for keyword, value in values.items():
        setattr(made, keyword, value)
    return made


def reference_item(sop_class_uid: str, sop_uid: str, frame_number: int | None = None) -> Dataset:
    """Returns an item of the SOP Instance or Image SOP Instance Reference Macro (PS3.3 10.8, 10.3).

    frame_number: 1-based, for a frame of a multi-frame image.
    """
    made = item(ReferencedSOPClassUID=sop_class_uid, ReferencedSOPInstanceUID=sop_uid)
    if frame_number is not None:
        made.ReferencedFrameNumber = frame_number
    return made

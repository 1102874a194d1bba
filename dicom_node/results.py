"""Results: what SEG, RTSTRUCT and SR share: whose image it was, who made the result, from what, and under which UIDs.

The UIDs of a result derive from the source SOP Instance UIDs, the prompts, the weights' digest, the protocol's digest
and the kind of object, so that the same work always gives the same object. No result is approved: where an object has
no Approval Status, its description says UNAPPROVED.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import highdicom
from highdicom.sr import CodedConcept
from pydicom import DataElement, Dataset, FileMetaDataset
from pydicom.config import RAISE, disable_value_validation
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian

from dicom_node.errors import ResultError
from dicom_node.regions import Region
from dicom_node.series import ImageSeries
from dicom_node.uids import derived_uid

MANUFACTURER: Final = "voxtell-dicom"

# Copied from the source as they are: Patient, General Study, Patient Study, Clinical Trial Subject and Study modules
# (PS3.3 C.7.1.1, C.7.2.1, C.7.2.2, C.7.1.3, C.7.2.3). Those of Type 2 come first; they are empty if missing
# or not valid in the source.
_TYPE_2: Final = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
    "StudyID",
    "AccessionNumber",
)
_COPIED: Final = (
    *_TYPE_2,
    "IssuerOfPatientID",
    "IssuerOfPatientIDQualifiersSequence",
    "QualityControlSubject",
    "PatientIdentityRemoved",
    "DeidentificationMethod",
    "DeidentificationMethodCodeSequence",
    "PatientSpeciesDescription",
    "PatientSpeciesCodeSequence",
    "PatientBreedDescription",
    "PatientBreedCodeSequence",
    "BreedRegistrationSequence",
    "ResponsiblePerson",
    "ResponsibleOrganization",
    "PatientAge",
    "PatientSize",
    "PatientWeight",
    "StudyInstanceUID",
    "StudyDescription",
    "ProcedureCodeSequence",
    "IssuerOfAccessionNumberSequence",
    "ClinicalTrialSponsorName",
    "ClinicalTrialProtocolID",
    "ClinicalTrialProtocolName",
    "ClinicalTrialSiteID",
    "ClinicalTrialSiteName",
    "ClinicalTrialSubjectID",
    "ClinicalTrialSubjectReadingID",
    "ClinicalTrialTimePointID",
    "ClinicalTrialTimePointDescription",
)


@dataclass(frozen=True)
class Algorithm:
    """What computed the masks."""

    name: str
    version: str
    digest: str  # of the weights, "sha256:..."
    notice: str = ""  # one sentence: what it is not for


@dataclass(frozen=True)
class Work:
    """Facts of one job that its results carry. `made` is local time; only dates and times depend on it."""

    algorithm: Algorithm
    made: datetime
    protocol: str = ""  # its name
    protocol_digest: str = ""
    software_version: str = ""
    series_number: int = 9001

    def uid(self, kind: str, series: ImageSeries, regions: Sequence[Region], *more: str) -> str:
        """The UID that belongs to this work on `series`; `kind` says of which object."""
        sources = sorted(f"{reference.sop_uid}#{reference.frame_number or ''}" for reference in series.references)
        prompts = [region.prompt for region in regions]
        work = [self.algorithm.digest, self.protocol_digest, str(len(sources)), *sources, str(len(prompts)), *prompts]
        return derived_uid(kind, *work, *more)


def result_dataset(
    series: ImageSeries,
    work: Work,
    *,
    sop_class_uid: str,
    modality: str,
    sop_uid: str,
    series_uid: str,
    deflated: bool = False,
) -> Dataset:
    """A new object in the source's study with patient, study, series, equipment and SOP common modules filled.

    ResultError when the source has no study or SOP Instance UIDs to refer to.
    """
    source = series.headers[0]
    if not source.get("StudyInstanceUID") or not all(reference.sop_uid for reference in series.references):
        raise ResultError("the source images have no Study or SOP Instance UIDs: a result cannot refer to them")
    result = Dataset()
    for keyword in _COPIED:
        if element := _copied(source, keyword):
            result.add(element)
        elif keyword in _TYPE_2:
            setattr(result, keyword, "")
    result.SpecificCharacterSet = "ISO_IR 192"
    result.SOPClassUID = sop_class_uid
    result.SOPInstanceUID = sop_uid
    result.SeriesInstanceUID = series_uid
    result.SeriesNumber = work.series_number
    result.InstanceNumber = 1
    result.Modality = modality
    result.Manufacturer = MANUFACTURER
    result.ManufacturerModelName = work.algorithm.name[:64]
    result.DeviceSerialNumber = work.algorithm.digest.removeprefix("sha256:")[:64] or "0"
    result.SoftwareVersions = work.software_version or work.algorithm.version
    for keyword in ("InstanceCreation", "Series"):
        setattr(result, f"{keyword}Date", f"{work.made:%Y%m%d}")
        setattr(result, f"{keyword}Time", f"{work.made:%H%M%S}")
    result.ContributingEquipmentSequence = [_equipment(work)]
    result.file_meta = FileMetaDataset()
    result.file_meta.MediaStorageSOPClassUID = UID(sop_class_uid)
    result.file_meta.MediaStorageSOPInstanceUID = UID(sop_uid)
    result.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian if deflated else ExplicitVRLittleEndian
    return result


def _copied(source: Dataset, keyword: str) -> DataElement | None:
    """An attribute of the source; None when it has none, or one that breaks its value representation."""
    if keyword not in source:
        return None
    with disable_value_validation():
        element = source[keyword]
    try:
        return DataElement(element.tag, element.VR, element.value, validation_mode=RAISE)
    except ValueError:
        return None


def _equipment(work: Work) -> Dataset:
    """Contributing Equipment Sequence item, PS3.3 C.12.1.1.5."""
    return highdicom.ContributingEquipment(
        manufacturer=MANUFACTURER,
        purpose_of_reference=codes.DCM.ProcessingEquipment,
        manufacturer_model_name=work.algorithm.name[:64],
        software_versions=work.software_version or work.algorithm.version,
        contribution_datetime=work.made,
        contribution_description=describe(work),
    )


def describe(work: Work) -> str:
    """One sentence on how the result came about, at most 1024 characters (VR ST)."""
    algorithm = work.algorithm
    protocol = f", protocol {work.protocol} {work.protocol_digest}".rstrip() if work.protocol else ""
    text = f"UNAPPROVED automatic result of {algorithm.name} {algorithm.version}, weights {algorithm.digest}{protocol}."
    return f"{text} {algorithm.notice}".strip()[:1024]


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

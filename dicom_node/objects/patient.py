"""Carries patient and study from the source to a result, so that an archive files both together.

Patient, General Study, Patient Study and Clinical Trial Subject and Study modules (PS3.3 C.7.1.1, C.7.2.1, C.7.2.2,
C.7.1.3, C.7.2.3). What an archive files by is carried as it stands, even if it is invalid: a PACS has accepted it.
Everything else is carried only if it is valid, so that the result is valid.
"""

import re
from typing import Any, Final

from pydicom import DataElement, Dataset
from pydicom.config import IGNORE, RAISE, disable_value_validation
from pydicom.datadict import dictionary_VR
from pydicom.multival import MultiValue
from pydicom.tag import Tag

from dicom_node.images.character_sets import TEXTS, undeclared_text
from dicom_node.images.pydicom_errors import PYDICOM_ERRORS

_FILED_BY: Final = ("StudyInstanceUID", "PatientName", "PatientID", "AccessionNumber")
# Type 2: empty where the source has none, or none that is valid.
_TYPE_2: Final = (
    *_FILED_BY,
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "ReferringPhysicianName",
)
_OTHERS: Final = (
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
    "StudyDescription",
    "ProcedureCodeSequence",
    "IssuerOfAccessionNumberSequence",
)
_TRIAL: Final = (
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
_SEVERAL: Final = ("DeidentificationMethod",)  # the only one with a value multiplicity above 1
_CODE: Final = ("CodeValue", "CodingSchemeDesignator", "CodeMeaning")
_CONTROLS: Final = re.compile(r"[\x00-\x1f\x7f]+")


def carry_patient(source: Dataset, result: Dataset) -> None:
    """Copies from the header of a source image what the result has in common with it.

    Type 2 attributes that the source lacks are added empty. A source that says YES in Patient Identity Removed and not
    by which method gets a sentence there, since the method is Type 1C (PS3.3 C.7.1.1).
    """
    for keyword in (*_TYPE_2, *_OTHERS):
        if element := carried(source, keyword):
            result.add(element)
        elif keyword in _TYPE_2:
            setattr(result, keyword, "")
    if result.get("PatientIdentityRemoved") == "YES" and not {
        "DeidentificationMethod",
        "DeidentificationMethodCodeSequence",
    } & set(result.dir("Deidentification")):
        result.DeidentificationMethod = "Not told by the source"  # Type 1C
    _carry_trial(source, result)


def _carry_trial(source: Dataset, result: Dataset) -> None:
    """Copies the clinical trial if the source names sponsor, protocol and subject, which the module needs."""
    trial = {keyword: element for keyword in _TRIAL if (element := carried(source, keyword))}
    if {"ClinicalTrialSponsorName", "ClinicalTrialProtocolID"} <= set(trial) and {
        "ClinicalTrialSubjectID",
        "ClinicalTrialSubjectReadingID",
    } & set(trial):
        for keyword in ("ClinicalTrialProtocolName", "ClinicalTrialSiteID", "ClinicalTrialSiteName"):
            setattr(result, keyword, "")  # Type 2
        for element in trial.values():
            result.add(element)


def carried(source: Dataset, keyword: str) -> DataElement | None:
    """Returns an attribute of the source as it may stand in a result.

    None when it is absent, empty, or breaks its value representation (PS3.5 6.2). Control characters in texts become
    spaces; a date of the predecessor of DICOM loses its points.
    """
    if keyword not in source:
        return None
    vr = dictionary_VR(keyword)
    value: Any
    try:
        with disable_value_validation():
            value = undeclared_text(source, keyword) or source[keyword].value
        if vr == "SQ":
            return source[keyword] if value and all(_is_whole(item, keyword) for item in value) else None
        if keyword in _FILED_BY:
            return DataElement(Tag(keyword), vr, value, validation_mode=IGNORE) if value else None
        if isinstance(value, MultiValue) and keyword not in _SEVERAL:
            return None
        if vr == "DA":
            value = str(value).replace(".", "")  # dates of the standard's predecessor have points
        one = not isinstance(value, MultiValue)
        text = _CONTROLS.sub(" ", str(value)).strip() if one and vr in TEXTS else value
        if text in ("", None) or (vr in ("DA", "TM") and "-" in str(text)):  # a range is for queries only
            return None
        return DataElement(Tag(keyword), vr, text, validation_mode=RAISE)
    except PYDICOM_ERRORS:
        return None


def _is_whole(item: Dataset, keyword: str) -> bool:
    """Whether an item of a code sequence has value, scheme and meaning (PS3.3 8.8)."""
    return "CodeSequence" not in keyword or all(item.get(part) for part in _CODE)

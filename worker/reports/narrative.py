"""Which DICOM objects are radiology reports in words."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydicom import Dataset
from pydicom.uid import (
    BasicTextSRStorage,
    Comprehensive3DSRStorage,
    ComprehensiveSRStorage,
    EnhancedSRStorage,
    ExtensibleSRStorage,
)

from dicom_node.images.pydicom_errors import PYDICOM_ERRORS

_NARRATIVE: Final = frozenset(
    (BasicTextSRStorage, EnhancedSRStorage, ComprehensiveSRStorage, Comprehensive3DSRStorage, ExtensibleSRStorage)
)
_MEASUREMENTS: Final = "126000"  # DCM, Imaging Measurement Report (TID 1500): numbers of a device, as this node's own


@dataclass(frozen=True)
class Document:
    """A radiology report among the objects of the store."""

    path: Path
    study_uid: str
    sop_uid: str


def narrative(path: Path, header: Dataset) -> Document | None:
    """Returns the report that the object in a file is; None of every other object, or a damaged one."""
    try:
        if not is_narrative(header):
            return None
        return Document(path, str(header.StudyInstanceUID), str(header.SOPInstanceUID))
    except PYDICOM_ERRORS:
        return None


def is_narrative(header: Dataset) -> bool:
    """Whether an object is a report in words: an SR for text (PS3.3 A.35) that is no measurement report (TID 1500)."""
    title = header.get("ConceptNameCodeSequence") or ()
    codes = {(item.get("CodeValue"), item.get("CodingSchemeDesignator")) for item in title}
    return header.get("SOPClassUID") in _NARRATIVE and (_MEASUREMENTS, "DCM") not in codes

"""DICOM structured reports: Basic Text, Enhanced, Comprehensive and other SR documents (PS3.3 A.35, C.17.3)."""

import struct
import zlib
from collections.abc import Iterator
from io import BytesIO
from typing import Any

from pydicom import Dataset, dcmread
from pydicom.errors import BytesLengthException, InvalidDicomError

from worker.report_language.errors import NotAReportError
from worker.report_language.formats.links import ReportLinks
from worker.report_language.formats.markup import plain
from worker.report_language.formats.report_file import ReportFile
from worker.report_language.formats.report_format import ReportFormat

# What pydicom raises on damaged files, as in `dicom_node.images.pydicom_errors`, which this room must not know.
_DAMAGED = (
    InvalidDicomError, BytesLengthException, ArithmeticError, AttributeError, EOFError, LookupError, OSError,
    NotImplementedError, RecursionError, TypeError, ValueError, struct.error, zlib.error,
)  # fmt: skip
_DEEPEST = 32  # nested containers; templates in use stay below 10
_LINKS: list[Any] = ["StudyInstanceUID", "AccessionNumber", "PatientID"]


def is_dicom(content: bytes) -> bool:
    """Whether the bytes are a DICOM file (PS3.10 7.1)."""
    return content[128:132] == b"DICM"


def sr_text(file: ReportFile) -> str:
    """Reads the text of an SR document: concept names become titles, values become sentences.

    A container "Findings" that holds the text "8 mm nodule" named "Finding" and the code "Left lung" named "Site" gives

        Findings:
        Finding: 8 mm nodule
        Site: Left lung.

    Raises:
        NotAReportError: when the file is damaged, or no structured report.
    """
    try:
        document = dcmread(BytesIO(file.content))
        if file.codec and str(document.get("SpecificCharacterSet") or "") in ("", "ISO_IR 6"):
            implicit, little_endian = document.original_encoding
            document.set_original_encoding(implicit, little_endian, file.codec)  # before a value is decoded
        is_report = document.get("Modality") == "SR" or "ContentSequence" in document
        text = "\n".join(_lines(document, 0))
    except _DAMAGED as error:
        raise NotAReportError(f"{file.name}: is a damaged DICOM file; send it again") from error
    if not is_report:
        raise NotAReportError(f"{file.name}: is a DICOM file but no structured report; give the SR of the study")
    return text


def sr_links(file: ReportFile) -> ReportLinks:
    """Reads Study Instance UID, Accession Number and Patient ID from the header.

    Raises:
        NotAReportError: when the file is damaged.
    """
    try:
        header = dcmread(BytesIO(file.content), stop_before_pixels=True, specific_tags=_LINKS)
        study_uid, accession, patient_id = (str(header.get(keyword) or "") for keyword in _LINKS)
    except _DAMAGED as error:
        raise NotAReportError(f"{file.name} is a damaged DICOM file; send it again") from error
    return ReportLinks.of(study_uid, accession, [patient_id])


def _lines(item: Dataset, depth: int) -> Iterator[str]:
    """Yields the lines of the content tree below an item, containers as titles, down to 32 levels."""
    for child in item.get("ContentSequence", None) or [] if depth < _DEEPEST else []:
        title = _meaning(child.get("ConceptNameCodeSequence"))
        value_type = child.get("ValueType", "")
        if value_type == "CONTAINER":
            if title:
                yield f"\n{title}:"
        elif value_type in ("TEXT", "CODE", "NUM") and child.get("RelationshipType") != "HAS CONCEPT MOD":
            yield from _value(child, value_type, title)
        yield from _lines(child, depth + 1)


def _value(item: Dataset, value_type: str, title: str) -> Iterator[str]:
    """Yields the lines of one value: "Finding: 8 mm nodule", "Site: Left lung.", "Diameter: 8 millimeter."."""
    if value_type == "TEXT":
        # Basic Text SR names its paragraphs "Finding", "Impression": titles whose text may have several lines.
        text = plain(str(item.get("TextValue", "")))
        yield f"{title}: {text}" if title else text
    elif value_type == "CODE":
        yield f"{title}: {_meaning(item.get('ConceptCodeSequence'))}."
    else:
        for measured in item.get("MeasuredValueSequence", None) or []:
            unit = _meaning(measured.get("MeasurementUnitsCodeSequence"))
            yield f"{title}: {measured.get('NumericValue', '')} {unit}."


def _meaning(sequence: Any) -> str:
    """Returns the Code Meaning of the first item of a code sequence; "" if there is none."""
    return str(sequence[0].get("CodeMeaning", "")) if sequence else ""


DICOM_SR = ReportFormat("DICOM SR", lambda file: is_dicom(file.content), sr_text, lambda file, _: sr_links(file))

"""What links a report to its study: DICOM SR, HL7 v2 ORU and FHIR DiagnosticReport each say it in their own place."""

import json
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from pydicom import dcmread

from worker.report_language.errors import NotAReportError
from worker.report_language.formats.oru import ACCESSION_FIELDS, oru_links
from worker.report_language.formats.read import DAMAGED, decoded, is_dicom, is_fhir, is_hl7

_DICOM_UID = "urn:dicom:uid"  # the system of a Study Instance UID as a FHIR identifier (FHIR R4, ImagingStudy)
_OID = "urn:oid:"
_ACCESSION = "ACSN"  # HL7 table 0203


@dataclass(frozen=True, slots=True)
class ReportLinks:
    """What a report says about the study it belongs to; empty where it says nothing."""

    study_uid: str = ""
    accession: str = ""  # normalised
    patient_ids: frozenset[str] = frozenset()  # normalised

    def contradicts(self, patient_id: str) -> bool:
        """Whether the report names patients and this one is not among them."""
        mine = normalised(patient_id)
        return bool(mine and self.patient_ids and mine not in self.patient_ids)


def normalised(number: str) -> str:
    """An accession number or patient ID as systems that write it differently share it.

    No blanks and invisible characters, capitals, no leading zeros: " a-0042 " is "A-0042", "000123" is "123".
    """
    kept = (char for char in unicodedata.normalize("NFKC", number) if unicodedata.category(char)[0] not in "ZC")
    return "".join(kept).upper().lstrip("0")


def report_links(content: bytes, accession_fields: Sequence[str] = ACCESSION_FIELDS) -> ReportLinks:
    """The links of a report's bytes; plain text has none.

    `accession_fields` are the fields of an ORU that may hold the accession number, the surest first.

    Raises:
        NotAReportError: the bytes are none of the formats that `read_report` takes.
    """
    if is_dicom(content):
        return _of_sr(content)
    text = decoded(content, "the report")
    if is_hl7(text):
        message = oru_links(text, accession_fields)
        return _links(message.study_uid, next(iter(message.accession_numbers), ""), message.patient_ids)
    return _of_fhir(text) if is_fhir(text) else ReportLinks()


def _links(study_uid: str, accession: str, patient_ids: Sequence[str]) -> ReportLinks:
    patients = frozenset(found for one in patient_ids if (found := normalised(one)))
    return ReportLinks(study_uid.strip().removeprefix(_OID), normalised(accession), patients)


def _of_sr(content: bytes) -> ReportLinks:
    try:
        header = dcmread(BytesIO(content), stop_before_pixels=True, specific_tags=_SR_LINKS)
        found = [str(header.get(keyword) or "") for keyword in _SR_LINKS]
    except DAMAGED as error:
        raise NotAReportError("the report is a damaged DICOM file; send it again") from error
    return _links(found[0], found[1], found[2:])


_SR_LINKS: list[Any] = ["StudyInstanceUID", "AccessionNumber", "PatientID"]


def _of_fhir(text: str) -> ReportLinks:
    """The links of a DiagnosticReport (FHIR R4 and R5), in it or in what it contains or comes with in a Bundle."""
    try:
        resources = list(_resources(json.loads(text)))
        identifiers = [(one, identifier) for one in resources for identifier in _identifiers(one)]
        studies = [value for _, identifier in identifiers if (value := _study_uid(identifier))]
        accessions = [str(identifier["value"]) for _, identifier in identifiers if _is_accession(identifier)]
        patients = [
            str(identifier["value"]) for one, identifier in identifiers if one.get("resourceType") == "Patient"
        ] + [
            str(subject["identifier"]["value"])
            for one in resources
            if one.get("resourceType") == "DiagnosticReport" and "identifier" in (subject := one.get("subject") or {})
        ]
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        raise NotAReportError("the report is no valid FHIR DiagnosticReport; send it again") from error
    return _links(next(iter(studies), ""), next(iter(accessions), ""), patients)


def _resources(resource: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for one in (resource, *(entry["resource"] for entry in resource.get("entry") or () if "resource" in entry)):
        yield one
        yield from one.get("contained") or ()


def _identifiers(resource: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The identifiers of a resource and of the studies and orders that it refers to by identifier."""
    yield from (one for one in resource.get("identifier") or () if "value" in one)
    for field in ("imagingStudy", "study", "basedOn"):
        yield from (one["identifier"] for one in resource.get(field) or () if "value" in one.get("identifier", {}))


def _study_uid(identifier: dict[str, Any]) -> str:
    value = str(identifier["value"])
    return value if identifier.get("system") == _DICOM_UID else ""


def _is_accession(identifier: dict[str, Any]) -> bool:
    codes = {coding.get("code") for coding in identifier.get("type", {}).get("coding") or ()}
    return _ACCESSION in codes or "accession" in str(identifier.get("system", "")).lower()

"""FHIR R4 and R5: a DiagnosticReport, alone or in a Bundle (hl7.org/fhir/diagnosticreport.html)."""

import base64
import codecs
import json
from collections.abc import Iterator
from contextlib import suppress
from email.message import Message
from typing import Any, Final

from worker.report_language.errors import NotAReportError
from worker.report_language.formats.links import ReportLinks
from worker.report_language.formats.markup import plain, without_markup
from worker.report_language.formats.report_file import ReportFile, as_text
from worker.report_language.formats.report_format import ReportFormat
from worker.report_language.language.rules import CONCLUSION

_RETRACTED = ("cancelled", "entered-in-error")  # FHIR value set diagnostic-report-status
_DICOM_UID = "urn:dicom:uid"  # the system of a Study Instance UID as an identifier (FHIR R4, ImagingStudy)
_ACCESSION = "ACSN"  # HL7 table 0203
_HTML: Final = ("text/html", "application/xhtml+xml")
_NO_WORDS: Final = ("text/rtf", "text/richtext", "text/css", "text/csv", "text/calendar", "text/javascript", "text/xml")
_REFERENCES = ("imagingStudy", "study", "basedOn")  # to studies (R4, R5) and to orders


def is_fhir(file: ReportFile) -> bool:
    """Whether the text is a JSON object, of which only a FHIR resource is taken."""
    return file.text.lstrip()[:1] == "{"


def fhir_text(file: ReportFile) -> str:
    """Reads the text of a DiagnosticReport: attached text, else its narrative, then its conclusion.

    `{"resourceType": "DiagnosticReport", "status": "final", "conclusion": "Cyst in the left kidney."}` gives
    "CONCLUSION: Cyst in the left kidney."

    Raises:
        NotAReportError: when the file is no valid DiagnosticReport, or one that was cancelled or entered in error.
    """
    name = file.name
    try:
        resource = json.loads(file.text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise NotAReportError(f"{name}: is no valid JSON; give a FHIR DiagnosticReport") from error
    try:
        resources = [resource, *(entry["resource"] for entry in resource.get("entry") or [] if "resource" in entry)]
        reports = [one for one in resources if one.get("resourceType") == "DiagnosticReport"]
        valid = [one for one in reports if one.get("status") not in _RETRACTED]
        text = "\n\n".join(part for report in valid for part in _parts(report, name))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise NotAReportError(f"{name}: is no valid FHIR DiagnosticReport; send it again") from error
    if not reports:
        raise NotAReportError(f"{name}: is JSON but no FHIR DiagnosticReport; give the DiagnosticReport resource")
    if not valid:
        raise NotAReportError(f"{name}: is a report that was taken back ({reports[0]['status']}); give the valid one")
    return text


def fhir_links(file: ReportFile) -> ReportLinks:
    """Reads the identifiers of study, order and patient, in the report, in what it contains, or beside it in a Bundle.

    Raises:
        NotAReportError: when the file is no valid FHIR resource.
    """
    try:
        resources = list(_resources(json.loads(file.text)))
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
        raise NotAReportError(f"{file.name} is no valid FHIR DiagnosticReport; send it again") from error
    return ReportLinks.of(next(iter(studies), ""), next(iter(accessions), ""), patients)


def _parts(report: dict[str, Any], name: str) -> Iterator[str]:
    """Yields the texts of one report: what is attached as text or HTML, else the narrative; then the conclusion."""
    attached = [text for form in report.get("presentedForm") or () if (text := _attached(form, name)).strip()]
    yield from attached
    if not attached and report.get("text", {}).get("div"):
        yield without_markup(report["text"]["div"])
    if report.get("conclusion"):
        yield f"{CONCLUSION}: {report['conclusion']}"


def _attached(form: dict[str, Any], name: str) -> str:
    """Returns the text of an attachment; "" where it is none in words, or only the address of one."""
    header = Message()
    header["Content-Type"] = form.get("contentType") or ""
    kind = header["Content-Type"].partition(";")[0].strip().lower()
    if not (kind.startswith("text/") or kind in _HTML) or kind in _NO_WORDS:
        return ""
    content = base64.b64decode("".join((form.get("data") or "").split()), validate=True)  # some break its lines
    text = as_text(content, name, _codec(header.get_content_charset()))
    return without_markup(text) if kind in _HTML else plain(text)


def _codec(charset: str | None) -> str | None:
    """Returns Python's name of a character set; None where it knows none of that name."""
    with suppress(LookupError):
        return codecs.lookup(charset).name if charset else None
    return None


def _resources(resource: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yields a resource, the entries of a Bundle, and what each of them contains."""
    for one in (resource, *(entry["resource"] for entry in resource.get("entry") or () if "resource" in entry)):
        yield one
        yield from one.get("contained") or ()


def _identifiers(resource: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yields the identifiers of a resource and of the studies and orders that it refers to by identifier."""
    yield from (one for one in resource.get("identifier") or () if "value" in one)
    for field in _REFERENCES:
        yield from (one["identifier"] for one in resource.get(field) or () if "value" in one.get("identifier", {}))


def _study_uid(identifier: dict[str, Any]) -> str:
    """Returns the value of an identifier that is a DICOM UID; "" for others."""
    value = str(identifier["value"])
    return value if identifier.get("system") == _DICOM_UID else ""


def _is_accession(identifier: dict[str, Any]) -> bool:
    """Whether an identifier is an accession number, by its type or by the name of its system."""
    codes = {coding.get("code") for coding in identifier.get("type", {}).get("coding") or ()}
    return _ACCESSION in codes or "accession" in str(identifier.get("system", "")).lower()


FHIR = ReportFormat("FHIR DiagnosticReport", is_fhir, fhir_text, lambda file, _: fhir_links(file))

"""Report files: plain text, DICOM SR, HL7 v2 ORU and FHIR DiagnosticReport, each as report text.

The kind is told by the content, not by the file name. Error messages name the file and never quote the report.
"""

import base64
import json
import re
import struct
import unicodedata
from collections.abc import Iterator
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path
from typing import Any

from pydicom import Dataset, dcmread
from pydicom.errors import BytesLengthException, InvalidDicomError

from worker.report_language.errors import NotAReportError, ReportError, ReportTooLargeError
from worker.report_language.formats.oru import observed_text
from worker.report_language.language.tokens import MAX_CHARACTERS

# An HL7 or FHIR report may carry its PDF along (a few MB); nothing larger is a report.
MAX_BYTES = 8 * 1024 * 1024
_MAX_CONTROL_SHARE = 0.01  # of the characters: text from old systems holds some, binary data many
_MARKUP = re.compile(r"<(?:br|p|div)\b", re.IGNORECASE)  # some systems put HTML into text values
# What pydicom raises on damaged files, found by changing bytes of real ones.
DAMAGED = (
    InvalidDicomError, BytesLengthException, ArithmeticError, AttributeError, EOFError, LookupError, OSError,
    NotImplementedError, RecursionError, TypeError, ValueError, struct.error,
)  # fmt: skip
_RETRACTED = ("cancelled", "entered-in-error")  # FHIR value set diagnostic-report-status
_SR_DEPTH = 32  # nested containers; templates in use stay below 10


def read_report(path: Path | str) -> str:
    """The report text of a file; ReportError says in one sentence why there is none."""
    path = Path(path)
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise ReportTooLargeError(f"{path}: {size} bytes, and at most {MAX_BYTES} are read; send the report alone")
        content = path.read_bytes()
    except OSError as error:
        raise ReportError(f"{path}: {error.strerror or 'cannot be read'}; check path and permissions") from error
    return report_text(content, name=str(path))


def report_text(content: bytes, *, name: str = "the report") -> str:
    """The report text of a file's bytes; `name` stands for it in error messages."""
    if is_dicom(content):
        text = _from_sr(content, name)
    else:
        raw = decoded(content, name)
        if is_hl7(raw):
            text = observed_text(raw)
        elif is_fhir(raw):
            text = _from_fhir(raw, name)
        else:
            text = raw
    if not text.strip():
        raise NotAReportError(f"{name}: holds no report text; give a text, DICOM SR, HL7 v2 ORU or FHIR file")
    if len(text) > MAX_CHARACTERS:
        raise ReportTooLargeError(f"{name}: {len(text)} characters, and at most {MAX_CHARACTERS} are read")
    return text


def is_dicom(content: bytes) -> bool:
    """Whether the bytes are a DICOM file (PS3.10 7.1)."""
    return content[128:132] == b"DICM"


def is_hl7(text: str) -> bool:
    """Whether the text is an HL7 v2 message, with or without its MLLP start."""
    return text.startswith(("MSH|", "\x0bMSH|"))


def is_fhir(text: str) -> bool:
    """Whether the text is a JSON object, of which only a FHIR resource is taken."""
    return text.lstrip()[:1] == "{"


def decoded(content: bytes, name: str) -> str:
    """UTF-8 or UTF-16 with its mark, Windows-1252 otherwise; binary data is refused."""
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        text = content.decode("utf-16", errors="replace")
    else:
        try:
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError:
            text = content.decode("cp1252", errors="replace")
    if sum(map(_is_control, text)) > _MAX_CONTROL_SHARE * len(text):
        raise NotAReportError(f"{name}: is binary data; give a text, DICOM SR, HL7 v2 ORU or FHIR file")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _is_control(char: str) -> bool:
    return char == "\ufffd" or (unicodedata.category(char) == "Cc" and char not in "\t\n\r\f\x0b\x1c")


def _from_sr(content: bytes, name: str) -> str:
    """The text of an SR document: concept names as titles, text and code values as sentences (PS3.3 A.35, C.17.3)."""
    try:
        document = dcmread(BytesIO(content))
        is_report = document.get("Modality") == "SR" or "ContentSequence" in document
        text = "\n".join(_sr_lines(document, 0))
    except DAMAGED as error:
        raise NotAReportError(f"{name}: is a damaged DICOM file; send it again") from error
    if not is_report:
        raise NotAReportError(f"{name}: is a DICOM file but no structured report; give the SR of the study")
    return text


def _sr_lines(item: Dataset, depth: int) -> Iterator[str]:
    for child in item.get("ContentSequence", None) or [] if depth < _SR_DEPTH else []:
        title = _meaning(child.get("ConceptNameCodeSequence"))
        value_type = child.get("ValueType", "")
        if value_type == "CONTAINER":
            if title:
                yield f"\n{title}:"
        elif value_type in ("TEXT", "CODE", "NUM") and child.get("RelationshipType") != "HAS CONCEPT MOD":
            yield from _sr_value(child, value_type, title)
        yield from _sr_lines(child, depth + 1)


def _sr_value(item: Dataset, value_type: str, title: str) -> Iterator[str]:
    if value_type == "TEXT":
        # Basic Text SR names its paragraphs "Finding", "Impression": titles whose text may have several lines.
        text = str(item.get("TextValue", ""))
        text = _plain(text) if _MARKUP.search(text) else text
        yield f"{title}: {text}" if title else text
    elif value_type == "CODE":
        yield f"{title}: {_meaning(item.get('ConceptCodeSequence'))}."
    else:
        for measured in item.get("MeasuredValueSequence", None) or []:
            unit = _meaning(measured.get("MeasurementUnitsCodeSequence"))
            yield f"{title}: {measured.get('NumericValue', '')} {unit}."


def _meaning(sequence: Any) -> str:
    return str(sequence[0].get("CodeMeaning", "")) if sequence else ""


def _from_fhir(raw: str, name: str) -> str:
    """The text of a FHIR DiagnosticReport, alone or in a Bundle: attached text, else narrative, then the conclusion."""
    try:
        resource = json.loads(raw)
    except (json.JSONDecodeError, RecursionError) as error:
        raise NotAReportError(f"{name}: is no valid JSON; give a FHIR DiagnosticReport") from error
    try:
        resources = [resource, *(entry["resource"] for entry in resource.get("entry") or [] if "resource" in entry)]
        reports = [one for one in resources if one.get("resourceType") == "DiagnosticReport"]
        valid = [one for one in reports if one.get("status") not in _RETRACTED]
        text = "\n\n".join(part for report in valid for part in _fhir_parts(report))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise NotAReportError(f"{name}: is no valid FHIR DiagnosticReport; send it again") from error
    if not reports:
        raise NotAReportError(f"{name}: is JSON but no FHIR DiagnosticReport; give the DiagnosticReport resource")
    if not valid:
        raise NotAReportError(f"{name}: is a report that was taken back ({reports[0]['status']}); give the valid one")
    return text


def _fhir_parts(report: dict[str, Any]) -> Iterator[str]:
    forms = [form for form in report.get("presentedForm") or [] if str(form.get("contentType", "")).startswith("text/")]
    for form in forms:
        text = base64.b64decode(form.get("data") or "", validate=True).decode("utf-8", errors="replace")
        yield _plain(text) if "html" in form["contentType"] else text
    if not forms and report.get("text", {}).get("div"):
        yield _plain(report["text"]["div"])
    if report.get("conclusion"):
        yield f"CONCLUSION: {report['conclusion']}"


class _Paragraphs(HTMLParser):
    """Collects the text of XHTML, a line per block."""

    def __init__(self) -> None:
        super().__init__()
        self.parts: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:  # noqa: ARG002 - the signature is the library's
        if tag in ("p", "br", "div", "li", "tr", "h1", "h2", "h3", "h4"):
            self.parts.append("\n")

    def handle_data(self, data: str) -> None:
        self.parts.append(data)


def _plain(html: str) -> str:
    parser = _Paragraphs()
    parser.feed(html)
    return "".join(parser.parts)

"""The formats of reports that are read. A new one is a module of its own and a line here."""

from worker.report_language.formats.dicom_sr import DICOM_SR
from worker.report_language.formats.fhir import FHIR
from worker.report_language.formats.oru import ORU
from worker.report_language.formats.plain_text import PLAIN_TEXT
from worker.report_language.formats.report_file import ReportFile
from worker.report_language.formats.report_format import ReportFormat

FORMATS: tuple[ReportFormat, ...] = (DICOM_SR, ORU, FHIR, PLAIN_TEXT)
"""In the order in which they are asked. Binary formats stand first, plain text last: it takes what no other took."""


def format_of(file: ReportFile) -> ReportFormat:
    """Returns the first format of the table that recognises the file.

    Raises:
        NotAReportError: when the file is binary data of no known format.
    """
    return next(one for one in FORMATS if one.recognise(file))


def format_names() -> str:
    """Returns the formats for a sentence: "DICOM SR, HL7 v2 ORU, FHIR DiagnosticReport or text"."""
    *names, last = (one.name for one in FORMATS)
    return f"{', '.join(names)} or {last}"

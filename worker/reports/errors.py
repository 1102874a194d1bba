"""What can go wrong with a report: one sentence each, and whether trying again makes sense."""

from typing import Literal

Retry = Literal["final", "later", "usage"]


class ReportError(Exception):
    """The report cannot be read."""

    retry: Retry = "final"

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or self.__doc__)


class ReportTooLargeError(ReportError):
    """The report is larger than a radiology report can be; send the report text alone."""


class NotAReportError(ReportError):
    """The file holds no report text; give a text, DICOM SR, HL7 v2 ORU or FHIR DiagnosticReport file."""


class LexiconError(ReportError):
    """The lexicon or rules file is not valid; correct the field that the message names."""

    retry: Retry = "usage"

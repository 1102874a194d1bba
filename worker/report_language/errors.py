"""What can go wrong with a report or a language's data files, one class each.

`retry` says whether trying again makes sense. `final`: the same report fails again. `usage`: the caller named a wrong
file. No message quotes the report's text.
"""

from typing import ClassVar, Literal

Retry = Literal["final", "later", "usage"]


class ReportError(Exception):
    """The report cannot be read."""

    retry: ClassVar[Retry] = "final"

    def __init__(self, message: str = "") -> None:
        super().__init__(message or (type(self).__doc__ or "").strip())


class ReportTooLargeError(ReportError):
    """The report is larger than a radiology report can be; send the report text alone."""


class NotAReportError(ReportError):
    """The file holds no report text; give a text, DICOM SR, HL7 v2 ORU or FHIR DiagnosticReport file."""


class LanguageError(ReportError):
    """A language's lexicon or rules file is missing or not valid; correct what the message names."""

    retry: ClassVar[Retry] = "usage"

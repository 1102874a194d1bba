"""What can go wrong with a report: one sentence each, and whether trying again makes sense."""

from typing import ClassVar

from worker.errors import Retry, WorkerError


class ReportError(WorkerError):
    """The report cannot be read."""

    retry: ClassVar[Retry] = "final"


class ReportTooLargeError(ReportError):
    """The report is larger than a radiology report can be; send the report text alone."""


class NotAReportError(ReportError):
    """The file holds no report text; give a text, DICOM SR, HL7 v2 ORU or FHIR DiagnosticReport file."""


class LexiconError(ReportError):
    """The lexicon or rules file is not valid; correct the field that the message names."""

    retry: ClassVar[Retry] = "usage"


class ReceiverError(ReportError):
    """Reports cannot be received; correct the address or the folder that the message names."""

    retry: ClassVar[Retry] = "usage"

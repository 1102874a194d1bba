"""What every format of reports says of itself."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from worker.report_language.formats.links import ReportLinks
from worker.report_language.formats.report_file import ReportFile


@dataclass(frozen=True, slots=True)
class ReportFormat:
    """One file format of reports: three functions of a file, and the name that error messages use.

    `text` and `links` are asked only for files that `recognise` took.

    Raises:
        NotAReportError: when `text` and `links` find the file damaged, empty of text or taken back by its sender.
    """

    name: str
    recognise: Callable[[ReportFile], bool]
    """Whether the content is of this format; the file's name does not count."""
    text: Callable[[ReportFile], str]
    """The report as plain text, titles such as "Findings:" at the beginning of a line."""
    links: Callable[[ReportFile, Sequence[str]], ReportLinks]
    """What the report says about its study; the fields of an ORU that may hold the accession number come second."""
    split: Callable[[ReportFile, Sequence[str]], list[bytes]] = lambda file, _accession_fields: [file.content]
    """The reports of the file, each as a file of its own; the file itself where it holds one."""

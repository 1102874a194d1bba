"""Plain text or HTML: the report as it is. It names no study; whoever sends it says which."""

from worker.report_language.formats.links import ReportLinks
from worker.report_language.formats.markup import plain
from worker.report_language.formats.report_format import ReportFormat

PLAIN_TEXT = ReportFormat(
    name="text",
    recognise=lambda _file: True,
    text=lambda file: plain(file.text),
    links=lambda _file, _accession_fields: ReportLinks(),
)
"""Takes every file, so it stands last in the table; binary data is refused when the text is decoded."""

"""A format of reports is one module and one line of the table."""

from collections.abc import Sequence

import pytest

from worker.report_language import NotAReportError
from worker.report_language.formats import table
from worker.report_language.formats.links import ReportLinks
from worker.report_language.formats.read import report_links, report_text
from worker.report_language.formats.report_file import ReportFile
from worker.report_language.formats.report_format import ReportFormat


def _fields(file: ReportFile) -> dict[str, str]:
    return dict(line.split("=", 1) for line in file.text.splitlines()[1:])


def _links(file: ReportFile, accession_fields: Sequence[str]) -> ReportLinks:
    return ReportLinks.of(_fields(file)["study"], _fields(file)[accession_fields[0]])


INI = ReportFormat("INI", lambda file: file.text.startswith("[report]"), lambda file: _fields(file)["text"], _links)


def test_a_format_in_the_table_is_read_and_linked(monkeypatch: pytest.MonkeyPatch) -> None:
    content = b"[report]\nstudy=1.2.3\nOBR-3=a-07\ntext=Cyst in the left kidney."
    assert report_text(content) == content.decode()  # as plain text
    monkeypatch.setattr(table, "FORMATS", (INI, *table.FORMATS))
    assert report_text(content) == "Cyst in the left kidney."
    assert report_links(content, ("OBR-3",)) == ReportLinks("1.2.3", "A-07")
    with pytest.raises(NotAReportError, match=r"holds no report text; .* INI, DICOM SR, .* or text"):
        report_text(b"[report]\ntext= ")


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (b"\0" * 128 + b"DICM", "DICOM SR"),
        (b"MSH|^~\\&|", "HL7 v2 ORU"),
        ("\x0bMSH|^~\\&|".encode("utf-16"), "HL7 v2 ORU"),
        (b'\xef\xbb\xbf {"resourceType": ', "FHIR DiagnosticReport"),
        (b"Findings: none.", "text"),
        (b"", "text"),
    ],
)
def test_a_format_is_told_by_the_content(content: bytes, name: str) -> None:
    assert table.format_of(ReportFile(content)).name == name


def test_binary_data_has_no_format() -> None:
    with pytest.raises(NotAReportError, match="the report: is binary data of no known report format"):
        table.format_of(ReportFile(bytes(range(32)) * 9))

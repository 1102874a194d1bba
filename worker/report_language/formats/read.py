"""Reads reports of every format of the table: their text, and what links them to a study.

The format is told by the content, not by the file name. Error messages name the file and never quote the report.
"""

from collections.abc import Sequence
from pathlib import Path

from worker.report_language.errors import NotAReportError, ReportError, ReportTooLargeError
from worker.report_language.formats.links import ReportLinks
from worker.report_language.formats.oru import ACCESSION_FIELDS
from worker.report_language.formats.report_file import MAX_BYTES, ReportFile
from worker.report_language.formats.table import format_names, format_of
from worker.report_language.language.tokens import MAX_CHARACTERS


def read_report(path: Path | str, *, codec: str = "") -> str:
    """Reads the report text of a file; `codec` as for `report_text`.

    Raises:
        ReportTooLargeError: when the file has more than MAX_BYTES, or its text more than MAX_CHARACTERS.
        NotAReportError: when the file holds no report text.
        ReportError: when the file cannot be read.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise ReportTooLargeError(f"{path}: {size} bytes, and at most {MAX_BYTES} are read; send the report alone")
        content = path.read_bytes()
    except OSError as error:
        raise ReportError(f"{path}: {error.strerror or 'cannot be read'}; check path and permissions") from error
    return report_text(content, name=str(path), codec=codec)


def report_text(content: bytes, *, name: str = "the report", codec: str = "") -> str:
    r"""Reads the report text of a file's bytes; `name` stands for the file in error messages.

    codec: Python's name of the site's character set, in which a DICOM SR is read that declares none.

    The ORU message `MSH|^~\&|...\rOBX|1|TX|^FINDINGS||Nodule in the right upper lobe.` gives
    `"Nodule in the right upper lobe."`.

    Raises:
        NotAReportError: when the bytes hold no report text, are damaged, or are a report that was taken back.
        ReportTooLargeError: when the text has more than MAX_CHARACTERS.
    """
    file = ReportFile(content, name, codec)
    text = format_of(file).text(file)
    if not text.strip():
        raise NotAReportError(f"{name}: holds no report text; give a file of the format {format_names()}")
    if len(text) > MAX_CHARACTERS:
        raise ReportTooLargeError(f"{name}: {len(text)} characters, and at most {MAX_CHARACTERS} are read")
    return text


def report_links(content: bytes, accession_fields: Sequence[str] = ACCESSION_FIELDS) -> ReportLinks:
    """Reads what a report says about the study it belongs to; plain text says nothing.

    `accession_fields` are the fields of an ORU that may hold the accession number, the surest first.

    Raises:
        NotAReportError: when the bytes are damaged, or binary data of no known format.
    """
    file = ReportFile(content)
    return format_of(file).links(file, accession_fields)


def single_reports(content: bytes, accession_fields: Sequence[str] = ACCESSION_FIELDS) -> list[bytes]:
    """Splits a file into its reports, each as a file of its own: an ORU holds one for each study of its orders.

    Raises:
        NotAReportError: when the bytes are damaged, binary data of no known format, or name no study for one of several
            reports.
    """
    file = ReportFile(content)
    return format_of(file).split(file, accession_fields)

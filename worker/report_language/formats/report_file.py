"""A report's bytes and, decoded once, their text."""

import unicodedata
from functools import cached_property

from worker.report_language.errors import NotAReportError

# An HL7 or FHIR report may carry its PDF along (a few MB); nothing larger is a report.
MAX_BYTES = 8 * 1024 * 1024
_MAX_CONTROL_SHARE = 0.01  # of the characters: text from old systems holds some, binary data many


class ReportFile:
    """The content of one report file. `name` stands for it in error messages, which never quote the report."""

    def __init__(self, content: bytes, name: str = "the report") -> None:
        self.content, self.name = content, name

    @cached_property
    def text(self) -> str:
        """The content as text; see `decoded`.

        Raises:
            NotAReportError: when the content is binary data.
        """
        return decoded(self.content, self.name)


def decoded(content: bytes, name: str) -> str:
    r"""Decodes text of unknown encoding; line ends become `\n`.

    UTF-16 when its byte order mark is there, else UTF-8 with or without one, else Windows-1252:
    `b"Gr\xf6\xdfe\r\n"` gives `"Größe\n"`.

    Raises:
        NotAReportError: when more than 1 % of the characters are control characters, so that this is binary data.
    """
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        text = content.decode("utf-16", errors="replace")
    else:
        try:
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError:
            text = content.decode("cp1252", errors="replace")
    if sum(map(_is_control, text)) > _MAX_CONTROL_SHARE * len(text):
        raise NotAReportError(f"{name}: is binary data of no known report format; give the report as text")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _is_control(char: str) -> bool:
    """Whether a character is one that text does not hold: a control character, or one that could not be decoded."""
    return char == "\ufffd" or (unicodedata.category(char) == "Cc" and char not in "\t\n\r\f\x0b\x1c")

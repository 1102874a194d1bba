"""A report's bytes and, decoded once, their text."""

import re
from contextlib import suppress
from functools import cached_property

from worker.report_language.errors import NotAReportError

# An HL7 or FHIR report may carry its PDF along (a few MB); nothing larger is a report.
MAX_BYTES = 8 * 1024 * 1024
_MAX_CONTROL_SHARE = 0.01  # of the characters: text from old systems holds some, binary data many
_C0 = bytes({*range(0x20), 0x7F} - set(b"\t\n\r\f\x0b\x1c"))  # control characters that no text needs
_C1 = re.compile("[\x80-\x9f\ufffd]")  # the others, and what could not be decoded


class ReportFile:
    """The content of one report file.

    name: stands for it in error messages, which never quote the report. codec: Python's name of the site's character
    set, in which a DICOM SR is read that declares none; "" where the site has none.
    """

    def __init__(self, content: bytes, name: str = "the report", codec: str = "") -> None:
        self.content, self.name, self.codec = content, name, codec

    @cached_property
    def text(self) -> str:
        """The content as text; see `decoded`.

        Raises:
            NotAReportError: when the content is binary data.
        """
        return decoded(self.content, self.name)


def decoded(content: bytes, name: str) -> str:
    r"""Decodes text of unknown encoding as `as_text` does; line ends become `\n`.

    `b"Gr\xf6\xdfe\r\n"` gives `"Größe\n"`.

    Raises:
        NotAReportError: when this is binary data.
    """
    return as_text(content, name).replace("\r\n", "\n").replace("\r", "\n")


def as_text(content: bytes, name: str, charset: str | None = None) -> str:
    """Decodes text; `charset` is Python's name of the encoding that its writer gives, if any.

    UTF-16 when it is, UTF-8 when it can be (other text hardly ever looks so by chance), else what the writer says, else
    Windows-1252.

    Raises:
        NotAReportError: when more than 1 % of the characters are control characters, so that this is binary data.
    """
    text = _decoded(content, charset)
    if _controls(text) > _MAX_CONTROL_SHARE * len(text):
        raise NotAReportError(f"{name}: is binary data of no known report format; give the report as text")
    return text


def _controls(text: str) -> int:
    """Counts the control characters; eight million characters take a tenth of a second."""
    encoded = text.encode("utf-8", "surrogatepass")
    found = len(encoded) - len(encoded.translate(None, _C0))
    return found if text.isascii() else found + sum(1 for _ in _C1.finditer(text))


def utf_16_of(content: bytes) -> str | None:
    """Returns Python's name of the UTF-16 that the bytes begin as, with or without a byte order mark; else None."""
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return "utf-16"
    return {b"M\0S\0": "utf-16-le", b"\0M\0S": "utf-16-be"}.get(content[:4])


def _decoded(content: bytes, charset: str | None) -> str:
    if utf_16 := utf_16_of(content):
        return content.decode(utf_16, errors="replace")
    shifts = charset is not None and charset.startswith("iso2022") and b"\x1b" in content  # valid as ASCII, too
    for encoding in (charset, "utf-8-sig") if shifts else ("utf-8-sig", charset):
        if encoding is not None:
            with suppress(UnicodeDecodeError):
                return content.decode(encoding)
    return content.decode("cp1252", errors="replace")

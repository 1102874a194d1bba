r"""HL7 v2 messages as systems send them: bytes become segments and fields (HL7 v2.5.1, chapter 2).

    >>> message = Message.of(b"MSH|^~\\&|RIS\rOBX|1|TX|^FINDINGS||Nodule in the\nright upper lobe.")
    >>> message.segments[1][5]
    'Nodule in the\nright upper lobe.'

A carriage return ends a segment (2.5.2). Line feeds do so only where there is no carriage return. A line that does not
begin with a segment's name belongs to the field before it, so that no text is lost.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from worker.report_language.errors import NotAReportError, ReportTooLargeError
from worker.report_language.formats.report_file import as_text, utf_16_of

MOST_SEGMENTS = 20_000  # a report has at most 100,000 characters; its PDF is one field
_MOST_FIELDS = 50  # OBR, the longest segment that is read, has 49
_MOST_REPETITIONS = 20  # of patient identifiers
_LONGEST_HEADER = 2_000  # characters of MSH, which has some 20 short fields

_BEFORE = "\ufeff\x0b\r\n\t "  # what may stand before a header
_BEGINNING = re.compile(r"(?:MSH|FHS|BHS)(?:\||([^\w\s])[^\w\s]{2,5}\1)")
_ENVELOPE = frozenset({"FHS", "BHS", "BTS", "FTS"})  # of a file and of a batch (2.10.3)
_STRAY = re.compile(r"\n(?:MSH|PID|PV1|ORC|OBR|OBX|NTE|ZDS|IPC)(?P<separator>[^\w\s])")

_CHARSETS = {f"8859/{part}": f"iso8859_{part}" for part in range(1, 16) if part != 12} | {
    "ISO IR14": "iso2022_jp",
    "ISO IR87": "iso2022_jp",
    "ISO IR159": "iso2022_jp_1",
    "GB 18030-2000": "gb18030",
    "KS X 1001": "euc_kr",
    "BIG-5": "big5",
    "UNICODE UTF-16": "utf_16",
    "UNICODE UTF-32": "utf_32",
}
"""Names of MSH-18 (HL7 table 0211) and Python's; ASCII and UTF-8 need none."""


def begins_as_message(content: bytes) -> bool:
    """Whether the bytes begin with the header of a message, a batch or a file of batches."""
    head = content[:400]
    text = head.decode(utf_16_of(content) or "latin-1", errors="replace").removeprefix("\xef\xbb\xbf")
    return _BEGINNING.match(text.lstrip(_BEFORE)) is not None


@dataclass(frozen=True, slots=True)
class Delimiters:
    r"""What separates the parts of a message: MSH-1 and MSH-2, usually `|^~\&`."""

    field: str = "|"
    component: str = "^"
    repetition: str = "~"
    escape: str = "\\"
    subcomponent: str = "&"

    @classmethod
    def of(cls, header: str) -> "Delimiters":
        """Reads the delimiters that a header segment announces; the usual ones where it announces none."""
        field = header[3:4] or "|"
        announced = header[4:].split(field, 1)[0][:4]
        return cls(field, *(announced + "^~\\&"[len(announced) :]))

    def escaped(self, text: str) -> str:
        """Escapes a text for the content of a field."""
        named = {self.escape: "E", self.field: "F", self.component: "S", self.repetition: "R", self.subcomponent: "T"}
        return "".join(f"{self.escape}{named[char]}{self.escape}" if char in named else char for char in text)

    def first(self, field: str) -> str:
        """Returns the first component of the first repetition of a field."""
        return self.firsts(field)[0]

    def firsts(self, field: str) -> list[str]:
        """Returns the first component of each of the first twenty repetitions of a field."""
        repetitions = field.split(self.repetition, _MOST_REPETITIONS)[:_MOST_REPETITIONS]
        return [one.split(self.component, 1)[0].strip() for one in repetitions]


Segment = list[str]
"""The fields of a segment, its name first: OBX-5 is the element 5. In MSH, MSH-9 is the element 8."""


@dataclass(frozen=True)
class Message:
    """One HL7 v2 message. The segments of a batch around it are left out."""

    lines: tuple[str, ...]  # its segments as they came, MSH first
    delimiters: Delimiters
    name: str = "the message"  # stands for it in errors

    @classmethod
    def of(cls, content: bytes, name: str = "the message") -> "Message":
        """Reads the one message of a frame or file; `name` stands for it in errors.

        Raises:
            NotAReportError: when there is no message, or more than one, or segments are separated in two ways.
            ReportTooLargeError: when it has more than MOST_SEGMENTS segments.
        """
        if not begins_as_message(content):
            raise NotAReportError(f"{name}: is no HL7 v2 message; send an ORU^R01")
        text = as_text(content, name, charset_of(content)).lstrip(_BEFORE).rstrip("\x1c\r\n")
        if max(text.count("\r"), text.count("\n")) > MOST_SEGMENTS:
            raise ReportTooLargeError(f"{name}: has more than {MOST_SEGMENTS} segments or lines; send the report alone")
        separator = text[3]
        lines = [line for line in _lines(text, separator, name) if line[:3] not in _ENVELOPE]
        headers = sum(line[:3] == "MSH" for line in lines)
        if headers > 1:
            raise NotAReportError(f"{name}: holds {headers} messages; send each in a frame of its own")
        if not lines or lines[0][:3] != "MSH" or len(lines[0]) > _LONGEST_HEADER:
            raise NotAReportError(f"{name}: has no header (MSH) at its beginning; send an ORU^R01")
        return cls(tuple(lines), Delimiters.of(lines[0]), name)

    @cached_property
    def segments(self) -> list[Segment]:
        """The segments and their fields, at most fifty fields each."""
        return [line.split(self.delimiters.field, _MOST_FIELDS) for line in self.lines]

    def header(self, number: int) -> str:
        """Returns a field of MSH, by its number in the standard: 10 is the control id."""
        return nth(self.segments[0], number - 1).strip()

    @property
    def kind(self) -> str:
        """The type of the message, MSH-9.1: ORU; some old systems send no trigger event with it."""
        return self.delimiters.first(self.header(9)).upper()


def nth(segment: Segment, number: int) -> str:
    """Returns a field of a segment; empty where the segment ends before it."""
    return segment[number] if number < len(segment) else ""


def charset_of(content: bytes) -> str | None:
    """Returns Python's name of the character set that MSH-18 names; None where it names none that is known."""
    at = content.find(b"MSH", 0, 2 * _LONGEST_HEADER)
    header = re.split(rb"[\r\n]", content[at : at + _LONGEST_HEADER], maxsplit=1)[0].decode("latin-1")
    if at < 0 or len(header) < 5:
        return None
    delimiters = Delimiters.of(header)
    named = delimiters.first(nth(header.split(delimiters.field), 17)).upper()
    windows = re.fullmatch(r"(?:WINDOWS|CP)[- ]?(125\d)", named)
    return f"cp{windows[1]}" if windows else _CHARSETS.get(named)


def _lines(text: str, separator: str, name: str) -> Iterator[str]:
    """Yields the segments of a text; a line that begins none continues the one before."""
    by_line_feed = "\r" not in text
    begins = re.compile(rf"[A-Z][A-Z0-9]{{2}}{re.escape(separator)}|(?:BTS|FTS)\s*$")
    parts: list[str] = []
    for found in text.split("\n" if by_line_feed else "\r"):
        line = found.lstrip("\n")
        if parts and not begins.match(line):
            if line.strip():
                parts.append(line)
            continue
        if parts:
            yield _segment(parts, separator, name)
        parts = [line]
    yield _segment(parts, separator, name)


def _segment(parts: list[str], separator: str, name: str) -> str:
    segment = "\n".join(parts).rstrip("\n")
    if any(stray["separator"] == separator for stray in _STRAY.finditer(segment)):
        raise NotAReportError(f"{name}: separates some segments by line feeds and some by carriage returns; send CR")
    return segment

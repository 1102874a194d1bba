"""Report text that comes as HTML: the narrative of FHIR, and text values of SR documents and HL7 messages."""

import re
from html import unescape
from html.parser import HTMLParser

_MARKUP = re.compile(
    r"<(?:!doctype|html|body|head|style|table|thead|tbody|tr|t[dh]|p|div|br|hr|[uo]l|li|d[ldt]|pre|span|font|h[1-6]|[biu]"
    r"|em|strong)(?:\s[^<>]*)?/?>",
    re.IGNORECASE,
)
_BLOCKS = frozenset(
    [
        "address",
        "article",
        "blockquote",
        "body",
        "br",
        "caption",
        "dd",
        "div",
        "dl",
        "dt",
        "fieldset",
        "footer",
        "form",
        "h1",
        "h2",
        "h3",
        "h4",
        "h5",
        "h6",
        "header",
        "hr",
        "legend",
        "li",
        "main",
        "ol",
        "p",
        "pre",
        "section",
        "table",
        "tbody",
        "tfoot",
        "thead",
        "title",
        "tr",
        "ul",
    ]
)
_CELLS = frozenset({"td", "th"})
_NO_TEXT = frozenset({"script", "style"})


def has_markup(text: str) -> bool:
    """Whether a text holds tags of HTML: "FINDINGS:<br>Nodule" does, "size < 5 mm" does not."""
    return _MARKUP.search(text) is not None


def plain(text: str) -> str:
    """Returns a text without its markup, if it has any."""
    return without_markup(text) if has_markup(text) else text


def without_markup(html: str) -> str:
    """Returns the text of HTML or XHTML: each block and each row of a table a line, without styles and scripts.

    "<p>Nodule.</p><p>Cyst.</p>" has two lines. The first cell of a row is the title of the others: "<tr><td>Spleen</td>
    <td>normal</td><td>11 cm</td></tr>" gives "Spleen: normal, 11 cm".
    """
    parser, end = _Lines(), html.rfind(">") + 1
    parser.feed(html[:end])
    parser.close()
    parser.handle_data(unescape(html[end:]))  # no tag ends there; the parser would look for an end again and again
    return "".join(parser.parts)


class _Lines(HTMLParser):
    """Collects the text, with a line break where a block begins or has ended, and marks between the cells of a row."""

    def __init__(self) -> None:
        super().__init__()
        self.parts: list[str] = []
        self._hidden = self._ended = False  # within a style or script; a block has ended and nothing came since
        self._cells = [0]  # of the row that is being read, for each table within another one

    def handle_starttag(self, tag: str, attrs: object) -> None:  # noqa: ARG002 - the signature is the library's
        self._hidden = tag in _NO_TEXT
        if tag == "table":
            self._cells.append(0)
        if tag == "tr":
            self._cells[-1] = 0
        if tag in _BLOCKS:
            self.parts.append("\n")
            self._ended = False
        elif tag in _CELLS:
            self._cells[-1] += 1
            self._part_cells()

    def handle_endtag(self, tag: str) -> None:
        self._hidden = False
        if tag == "table" and len(self._cells) > 1:
            self._cells.pop()
        self._ended = self._ended or (tag in _BLOCKS and tag != "br")

    def handle_data(self, data: str) -> None:
        if self._hidden:
            return
        if self._ended and data.strip():
            self.parts.append("\n")
            self._ended = False
        self.parts.append(data)

    def _part_cells(self) -> None:
        """Puts a mark before a cell that is not the first, unless the line or a title has just ended."""
        if self._cells[-1] > 1:
            before = next((part.rstrip(" \t\xa0") for part in reversed(self.parts) if part.strip(" \t\xa0")), "\n")
            self.parts.append(" " if before[-1] in "\r\n:;," else ": " if self._cells[-1] == 2 else ", ")
            self._ended = False

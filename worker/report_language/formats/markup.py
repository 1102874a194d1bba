"""Report text that comes as HTML: the narrative of FHIR, and text values of some SR documents."""

import re
from html.parser import HTMLParser

_MARKUP = re.compile(r"<(?:br|p|div)\b", re.IGNORECASE)
_BLOCKS = frozenset({"p", "br", "div", "li", "tr", "h1", "h2", "h3", "h4"})


def has_markup(text: str) -> bool:
    """Whether a text holds HTML blocks or line breaks: "FINDINGS:<br>Nodule" does, "size < 5 mm" does not."""
    return _MARKUP.search(text) is not None


def without_markup(html: str) -> str:
    r"""Returns the text of HTML or XHTML, each block on its own line: "<p>Nodule.</p><p>Cyst.</p>" has two lines."""
    parser = _Paragraphs()
    parser.feed(html)
    return "".join(parser.parts)


class _Paragraphs(HTMLParser):
    """Collects the text, with a line break where a block begins."""

    def __init__(self) -> None:
        super().__init__()
        self.parts: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:  # noqa: ARG002 - the signature is the library's
        if tag in _BLOCKS:
            self.parts.append("\n")

    def handle_data(self, data: str) -> None:
        self.parts.append(data)

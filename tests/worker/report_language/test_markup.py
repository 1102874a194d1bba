"""Reports that come as HTML: no word is lost, what is no text is left out, and rows of tables are read as they are."""

import base64
import json
from html import escape

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.examples import examples
from tests.support.reports import KIDNEY, LUNG, head, order, text
from worker.report_language import NotAReportError, prompts_from_text
from worker.report_language.formats.markup import has_markup, without_markup
from worker.report_language.formats.read import report_text

TABLE = (
    "<table><tr><th>Location</th><th>Size</th><th>Finding</th></tr>"
    "<tr><td>Right upper lobe</td><td>8 mm</td><td>nodule</td></tr>"
    "<tr><td>Left kidney</td><td>2 cm</td><td>cyst</td></tr></table>"
)
ROWS = ["nodule in the right upper lobe", "cyst in the left kidney"]


def phrases(content: str | bytes) -> list[str]:
    report = content.encode() if isinstance(content, str) else content
    return [prompt.prompt for prompt in prompts_from_text(report_text(report)).prompts]


def fhir(*forms: dict[str, object], **more: object) -> bytes:
    return json.dumps({"resourceType": "DiagnosticReport", "presentedForm": list(forms), **more}).encode()


def attached(content: bytes, kind: str = "text/plain") -> dict[str, object]:
    return {"contentType": kind, "data": base64.b64encode(content).decode()}


def test_a_row_of_a_table_is_a_line_and_its_first_cell_the_place() -> None:
    assert without_markup(TABLE).split("\n")[-1] == "Left kidney: 2 cm, cyst"
    assert phrases(TABLE) == ROWS


def test_a_table_of_titles_keeps_its_sections() -> None:
    rows = {"Indication": "Known mass in the left kidney.", "FINDINGS:": LUNG}
    table = "".join(f"<tr><td>{title}</td><td><p>{words}</p></td></tr>" for title, words in rows.items())
    assert phrases(f"<table>{table}</table>") == ["nodule in the right upper lobe"]


def test_tables_within_a_table_are_read() -> None:
    layout = f"<table><tr><td><table><tr><td>Spleen</td><td>normal</td></tr></table></td></tr><tr><td>{LUNG}</td></tr>"
    assert phrases(layout) == ["nodule in the right upper lobe"]


def test_styles_and_scripts_are_no_text() -> None:
    page = (
        "<html><head><title>CT</title><style>.mass { color: red }</style></head><body>"
        f"<script>var left = 'mass in the left kidney';</script><div style='x'>{LUNG}</div></body></html>"
    )
    assert phrases(page) == ["nodule in the right upper lobe"]
    assert "color" not in report_text(page.encode())


@pytest.mark.parametrize("end", ["size < 6", "no mass & no cyst", "5 &lt", "<"])
def test_the_end_of_a_text_is_not_taken_for_a_tag_that_goes_on(end: str) -> None:
    assert without_markup(f"<p>A</p>{end}").split("\n", 2)[-1] == end.replace("&lt", "<")


@given(
    st.lists(st.tuples(st.sampled_from(["p", "div", "li", "td", "th", "b", "span"]), st.text("ab<&;x ", max_size=9)))
)
@examples(200)
def test_every_word_of_every_element_is_in_the_text(parts: list[tuple[str, str]]) -> None:
    html = "".join(f"<{tag}>{escape(words)}end{n}</{tag}>" for n, (tag, words) in enumerate(parts))
    found = "".join(without_markup(html).split())
    for number, (_, words) in enumerate(parts):
        assert "".join(f"{words}end{number}".split()) in found


@pytest.mark.parametrize("words", ["size < 5 mm", "a<x and x>c", "nodule <p 4 mm", "L4<L5", "<10 mm> or less"])
def test_comparisons_are_no_markup(words: str) -> None:
    assert not has_markup(words)
    assert report_text(words.encode()) == words


@pytest.mark.parametrize(
    "content",
    [
        TABLE,
        (head() + order("A", text(TABLE))),
        fhir(attached(TABLE.encode(), "text/html; charset=utf-8")),
        fhir(attached(TABLE.encode(), "TEXT/HTML")),
        fhir(attached(TABLE.encode())),
        fhir(text={"div": f'<div xmlns="http://www.w3.org/1999/xhtml">{TABLE}</div>'}),
    ],
    ids=["text", "HL7", "FHIR", "FHIR in capitals", "FHIR that calls it plain", "FHIR narrative"],
)
def test_html_is_read_alike_in_every_format(content: str | bytes) -> None:
    assert phrases(content) == ROWS


# -- attachments of FHIR


@pytest.mark.parametrize("kind", ["text/plain", "TEXT/PLAIN", "Text/Plain; charset=UTF-8", "text/markdown"])
def test_the_type_of_an_attachment_is_read_in_any_case(kind: str) -> None:
    assert phrases(fhir(attached(LUNG.encode(), kind))) == ["nodule in the right upper lobe"]


@pytest.mark.parametrize("width", [4, 60, 76])
def test_base64_may_be_broken_into_lines(width: int) -> None:
    data = base64.b64encode(LUNG.encode()).decode()
    broken = "\r\n ".join(data[at : at + width] for at in range(0, len(data), width))
    assert phrases(fhir({"contentType": "text/plain", "data": broken})) == ["nodule in the right upper lobe"]


@pytest.mark.parametrize(
    ("charset", "codec"), [("iso-8859-1", "latin-1"), ("windows-1251", "cp1251"), ("klingon", "utf-8")]
)
def test_the_character_set_of_an_attachment_is_read(charset: str, codec: str) -> None:
    words = {"latin-1": "Läsion", "cp1251": "гематома", "utf-8": "Läsion"}[codec]
    report = fhir(attached(f"{words}. {LUNG}".encode(codec), f"text/plain; charset={charset}"))
    assert report_text(report) == f"{words}. {LUNG}"


@pytest.mark.parametrize(
    "form",
    [
        {"contentType": "text/html", "url": "https://ris.example/report/1"},
        {"contentType": "application/pdf", "data": base64.b64encode(b"%PDF-1.4").decode()},
        {"contentType": "text/rtf", "data": base64.b64encode(rb"{\rtf1 mass in the left kidney}").decode()},
        {"contentType": "pdf", "data": base64.b64encode(b"%PDF-1.4 \0\0").decode()},
        {"contentType": "text/plain", "data": ""},
        {"url": "https://ris.example/report/1"},
    ],
)
def test_where_no_attachment_has_words_the_narrative_is_read(form: dict[str, object]) -> None:
    assert phrases(fhir(form, text={"div": f"<div>{KIDNEY}</div>"})) == ["mass in the left kidney"]
    with pytest.raises(NotAReportError, match="no report text"):
        report_text(fhir(form))

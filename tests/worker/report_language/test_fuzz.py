"""Whatever a sender calls a report is read or refused, in time that grows as its size does."""

import contextlib
import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.examples import examples
from tests.support.reports import ORU, document
from worker.report_language import NotAReportError, ReportError, ReportTooLargeError
from worker.report_language.formats.read import read_report, report_links, report_text
from worker.report_language.formats.report_file import MAX_BYTES
from worker.servers.mllp import ReportReceiver

HEADER = "MSH|^~\\&|RIS|H|NODE|H|20240101||ORU^R01|1|P|2.5.1\rPID|1||4711\rOBR|1||ACC\r"
OBSERVED = HEADER + "OBX|1|TX|^F||"
STARTS = [b"", b"MSH|", HEADER.encode(), OBSERVED.encode(), b"{", b'{"resourceType":"DiagnosticReport",', b"\xff\xfe"]
KEYS = [
    "resourceType",
    "entry",
    "resource",
    "identifier",
    "value",
    "contained",
    "subject",
    "text",
    "div",
    "conclusion",
    "presentedForm",
    "status",
]
MARKS = [
    "|",
    "^",
    "~",
    "&",
    "\\",
    "\r",
    "\n",
    "OBX|",
    "MSH|",
    "ZDS|",
    "{",
    "[",
    '"',
    ":",
    ",",
    "\x00",
    "\u202e",
    "nodule ",
]


def taken(content: bytes) -> None:
    """What the node does with the bytes; ReportError is its only refusal."""
    for read in (report_links, report_text, ReportReceiver(lambda _: None).receive):
        with contextlib.suppress(ReportError):
            read(content)


@given(st.sampled_from(STARTS), st.binary(max_size=200))
@examples(150)
def test_any_bytes_are_read_or_refused(start: bytes, rest: bytes) -> None:
    taken(start + rest)


@given(st.sampled_from(STARTS), st.lists(st.sampled_from(MARKS), max_size=60))
@examples(150)
def test_any_order_of_marks_is_read_or_refused(start: bytes, marks: list[str]) -> None:
    taken(start + "".join(marks).encode())


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
@given(st.data())
@examples(100)
def test_any_damage_to_a_document_is_read_or_refused(data: st.DataObject) -> None:
    content = bytearray(document(StudyInstanceUID="1.2.3", AccessionNumber="A", PatientID="P"))
    for place in data.draw(st.lists(st.integers(132, len(content) - 1), max_size=8)):
        content[place] = data.draw(st.integers(0, 255))
    taken(bytes(content))


@pytest.mark.long
@given(
    st.recursive(
        st.none() | st.text(max_size=5), lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(KEYS), inner)
    )
)
@examples(60)
def test_any_json_is_read_or_refused(value: object) -> None:
    report = {"resourceType": "DiagnosticReport"} | (value if isinstance(value, dict) else {"text": value})
    taken(json.dumps(report).encode())


GROWING: dict[str, Callable[[int], bytes]] = {
    "one long word": lambda n: b"n" * n,
    "text": lambda n: b"nodule " * (n // 7),
    "binary": lambda n: bytes(range(256)) * (n // 256),
    "control characters": lambda n: b"\x07\x1b" * (n // 2),
    "right to left": lambda n: "\u202e\u05d0".encode() * (n // 5),
    "fields": lambda n: (OBSERVED + "|" * n).encode(),
    "components": lambda n: (OBSERVED + "^" * n).encode(),
    "repetitions": lambda n: (OBSERVED + "~" * n).encode(),
    "escapes": lambda n: (OBSERVED + "\\" * n).encode(),
    "observations": lambda n: (HEADER + "OBX|1|TX|^F||w\r" * (n // 14)).encode(),
    "empty segments": lambda n: (HEADER + "\r" * n).encode(),
    "a header without end": lambda n: b"MSH|^~\\&|" + b"~" * n,
    "nested lists": lambda n: b'{"a":' + b"[" * n,
    "entries": lambda n: b'{"resourceType":"DiagnosticReport","entry":[' + b'{"resource":{}},' * (n // 16) + b"{}]}",
    "open markup": lambda n: json.dumps(
        {"resourceType": "DiagnosticReport", "text": {"div": "<div " * (n // 5)}}
    ).encode(),
    "nested documents": lambda n: (
        document() + b"\x40\x00\x30\xa7SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff" * (n // 20)
    ),
}


@pytest.mark.parametrize("kind", GROWING)
def test_four_times_the_bytes_are_about_four_times_the_work(kind: str) -> None:
    """Processor seconds of one run beside each other: quadratic work would be sixteen times as much."""
    spent = []
    for size in (40_000, 160_000):
        content = GROWING[kind](size)
        runs = []
        for _ in range(2):
            start = time.process_time()
            taken(content)
            runs.append(time.process_time() - start)
        spent.append(min(runs))
    assert spent[1] <= 9 * spent[0] + 0.05


@pytest.mark.parametrize("kind", GROWING)
def test_ten_megabytes_are_refused_unread(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "report"
    with path.open("wb") as file:
        file.write(GROWING[kind](1000))
        file.truncate(10 * 1024 * 1024)
    with pytest.raises(ReportTooLargeError) as refused:
        read_report(path)
    assert str(MAX_BYTES) in str(refused.value)


@pytest.mark.parametrize("content", [b"\x00\x01\x02" * 99, b"MSH|", b"{", b'{"a": 1}', ORU.encode()[:60]])
def test_a_refusal_says_what_to_do_in_one_sentence(content: bytes) -> None:
    with pytest.raises(NotAReportError) as refused:
        report_text(content)
    assert "\n" not in str(refused.value)
    assert "; " in str(refused.value)

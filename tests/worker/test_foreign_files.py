"""Protocols and reports that ask for more than they should are refused in one sentence, before the work."""

from pathlib import Path

import pytest
import yaml
from pydicom.uid import ExplicitVRLittleEndian

from tests.support import attacks
from worker.errors import ProtocolError
from worker.ledger import Ledger
from worker.protocols.yaml_file import MOST_CHARACTERS, parse_protocol
from worker.report_language import NotAReportError
from worker.report_language.formats import dicom_sr
from worker.reports.inbox import ReportInbox

MB = 2**20
PROTOCOL = "name: liver\nmatch: {Modality: CT}\nprompts: [liver]\n"


def doubled(levels: int, join: str) -> str:
    """Aliases of aliases: each level stands for ten of the one before."""
    lines = ["a0: &a0 {x: y}" if join == "merge" else "a0: &a0 [x, x]"]
    for level in range(1, levels):
        parts = ", ".join([f"*a{level - 1}"] * 10)
        lines.append(f"a{level}: &a{level} " + (f"{{<<: [{parts}], k{level}: v}}" if join == "merge" else f"[{parts}]"))
    return "\n".join(lines)


@pytest.mark.parametrize("join", ["list", "merge"])
def test_aliases_of_aliases_are_refused_before_they_are_written_out(join, monkeypatch):
    monkeypatch.setattr(yaml, "safe_load", lambda _text: pytest.fail("they were written out"))
    with pytest.raises(ProtocolError, match=r"liver\.yaml: its aliases \(\*\) stand for \d+ entries"):
        parse_protocol(PROTOCOL + doubled(12, join), "liver.yaml")


@pytest.mark.long
@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("prompts: " + "[" * 5000 + "]" * 5000, "nested without end"),
        ("x" * (MOST_CHARACTERS + 1), "characters, and at most"),
        ("a: &a [*a]", r"nested without end|not valid YAML"),
    ],
)
def test_a_protocol_without_end_is_refused(text, says):
    with pytest.raises(ProtocolError, match=says):
        parse_protocol(text, "liver.yaml")


@pytest.fixture
def inbox(tmp_path: Path):
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    yield ReportInbox(tmp_path, ledger)
    ledger.close()


def report(content: bytes, syntax: str = ExplicitVRLittleEndian) -> bytes:
    return attacks.part10("1.2.3.4.5", content, syntax)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (report(attacks.data_set("1.2.3.4.5", behind=attacks.empty_items(500_000, 0x0040A730))), "elements and items"),
        (report(attacks.deflate_bomb("1.2.3.4.5", 64 * MB), attacks.DEFLATED), "more than 8388608 bytes"),
        (report(attacks.data_set("1.2.3.4.5", behind=attacks.deep(100, 0x0040A730))), "deep in each other"),
        (report(attacks.data_set("1.2.3.4.5", behind=attacks.element(0x0040A160, b"UT", b"", 0xFFFFFFF0))), "claims"),
    ],
    ids=["items", "deflate bomb", "depth", "claims 4 GB"],
)
def test_a_structured_report_that_is_none_is_refused_before_it_is_built(inbox, content, says, monkeypatch):
    monkeypatch.setattr(dicom_sr, "dcmread", lambda *_, **__: pytest.fail("it was built"))
    with pytest.raises(NotAReportError, match=says):
        inbox.take(content, source="http", study_uid=attacks.STUDY)

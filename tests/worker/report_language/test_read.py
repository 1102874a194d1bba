"""Report files of every kind give their text; other files are refused in one sentence that quotes nothing."""

import base64
import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import (
    BasicTextSRStorage,
    ComprehensiveSRStorage,
    EnhancedSRStorage,
    ExplicitVRLittleEndian,
    generate_uid,
)

from tests.support.examples import examples
from worker.report_language import NotAReportError, ReportError, ReportTooLargeError, prompts_from_text
from worker.report_language.formats.read import read_report, report_text
from worker.report_language.formats.report_file import MAX_BYTES

TEXT = "8 mm solid nodule in the right upper lobe. No pleural effusion."
PROMPTS = ["solid nodule in the right upper lobe"]


def phrases(text: str) -> list[str]:
    return [prompt.prompt for prompt in prompts_from_text(text).prompts]


def code(value: str, scheme: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def content(value_type: str, concept: Dataset, **attributes: object) -> Dataset:
    item = Dataset()
    item.RelationshipType, item.ValueType, item.ConceptNameCodeSequence = "CONTAINS", value_type, [concept]
    for keyword, value in attributes.items():
        setattr(item, keyword, value)
    return item


def structured_report(path: Path, sop_class: str, *items: Dataset) -> Path:
    """An SR file with `items` under its root container (PS3.3 A.35)."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = sop_class, generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    report = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    report.SOPClassUID, report.SOPInstanceUID, report.Modality = sop_class, meta.MediaStorageSOPInstanceUID, "SR"
    report.ValueType, report.ConceptNameCodeSequence = "CONTAINER", [code("18748-4", "LN", "Diagnostic Imaging Report")]
    report.ContentSequence = list(items)
    report.save_as(path, enforce_file_format=True)
    return path


@pytest.mark.parametrize("sop_class", [BasicTextSRStorage, EnhancedSRStorage, ComprehensiveSRStorage])
def test_structured_reports_of_every_kind_are_walked(tmp_path: Path, sop_class: str) -> None:
    history = content("CONTAINER", code("121060", "DCM", "History"))
    history.ContentSequence = [content("TEXT", code("121060", "DCM", "History"), TextValue="Left lung mass.")]
    findings = content("CONTAINER", code("121070", "DCM", "Findings"))
    findings.ContentSequence = [
        content("TEXT", code("121071", "DCM", "Finding"), TextValue=TEXT),
        content(
            "CODE", code("121071", "DCM", "Finding"), ConceptCodeSequence=[code("1", "SCT", "Cyst of left kidney")]
        ),
    ]
    path = structured_report(tmp_path / "report.dcm", sop_class, history, findings)
    assert phrases(read_report(path)) == [*PROMPTS, "cyst of left kidney"]


def test_html_in_a_structured_report_becomes_lines(tmp_path: Path) -> None:
    item = content("TEXT", code("121077", "DCM", "Conclusion"), TextValue="Impression:<br>No mass<br>Small effusion")
    text = read_report(structured_report(tmp_path / "report.dcm", BasicTextSRStorage, item))
    assert "<br>" not in text
    assert phrases(text) == ["effusion"]


def test_real_basic_text_reports_are_read(shared_data: Callable[..., Path]) -> None:
    folder = shared_data("fruit_pacs")
    texts = [read_report(path) for path in sorted(folder.glob("*/*/FUJI*/*.dcm"))]
    assert len(texts) == 3
    assert all("Befund" in text and "<br>" not in text for text in texts)


def test_an_hl7_message_gives_its_text_observations() -> None:
    message = (
        "MSH|^~\\&|RIS|H|NODE|H|20240101||ORU^R01|1|P|2.5\rPID|1||4711^^^H\r"
        "OBR|1||ACC1|71260^CT CHEST\r"
        "OBX|1|TX|^FINDINGS||FINDINGS: 8 mm solid nodule in the right||||||F\r"
        "OBX|2|TX|^FINDINGS||upper lobe. No pleural effusion.||||||F\r"
        "OBX|3|FT|^IMPRESSION||IMPRESSION: Nodule.\\.br\\No fracture \\T\\ no mass.||||||F\r"
        "OBX|4|ED|^PDF||^application^pdf^Base64^AAAA||||||F\r"
    )
    text = report_text(message.encode())
    assert "No fracture & no mass." in text
    assert "AAAA" not in text
    assert phrases(text) == PROMPTS


@pytest.mark.parametrize("bundled", [False, True])
def test_a_fhir_report_gives_its_attached_text_and_conclusion(bundled: bool) -> None:
    form = {"contentType": "text/plain", "data": base64.b64encode(TEXT.encode()).decode()}
    report = {"resourceType": "DiagnosticReport", "presentedForm": [form], "conclusion": "Splenic cyst."}
    resource = {"resourceType": "Bundle", "entry": [{"resource": report}]} if bundled else report
    assert phrases(report_text(json.dumps(resource).encode())) == [*PROMPTS, "splenic cyst"]


def test_a_fhir_narrative_is_read_when_nothing_is_attached() -> None:
    report = {"resourceType": "DiagnosticReport", "text": {"div": f"<div><p>{TEXT}</p><p>Liver cyst.</p></div>"}}
    assert phrases(report_text(json.dumps(report).encode())) == [*PROMPTS, "liver cyst"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_text_files_of_old_and_new_systems(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "report.txt"
    path.write_bytes(f"{TEXT}\r\nVolume 3 cm³.".encode(encoding))
    assert phrases(read_report(path)) == PROMPTS


@pytest.mark.parametrize(
    "wrong",
    [
        bytes(range(256)) * 40,
        b"",
        b"  \n ",
        b'{"resourceType": "Patient"}',
        b'{"secret": ',
        b'{"resourceType": "DiagnosticReport", "presentedForm": ["secret"]}',
        b'{"resourceType": "DiagnosticReport", "presentedForm": [{"contentType": "text/plain", "data": "***"}]}',
        b"MSH|^~\\&|RIS\rPID|1||secret\r",
        b"\0" * 128 + b"DICM" + b"secret" * 9,
        b"{" * 50_000,
    ],
)
def test_what_is_no_report_is_refused_in_one_sentence(tmp_path: Path, wrong: bytes) -> None:
    path = tmp_path / "wrong.bin"
    path.write_bytes(wrong)
    with pytest.raises(NotAReportError, match=r"wrong\.bin: [^\n]+$") as refused:
        read_report(path)
    assert "secret" not in str(refused.value)


def test_a_large_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "large.txt"
    with path.open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(ReportTooLargeError, match=str(MAX_BYTES)):
        read_report(path)


def test_long_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "long.txt"
    path.write_text("nodule " * 100_000)
    with pytest.raises(ReportTooLargeError, match="characters"):
        read_report(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match=r"absent\.txt: No such file"):
        read_report(tmp_path / "absent.txt")


@given(st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=20))
@examples(150)
@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
def test_a_damaged_structured_report_is_read_or_refused(changes: list[tuple[int, int]]) -> None:
    with TemporaryDirectory() as folder:
        item = content("TEXT", code("121071", "DCM", "Finding"), TextValue=TEXT)
        damaged = bytearray(structured_report(Path(folder) / "report.dcm", BasicTextSRStorage, item).read_bytes())
    for position, value in changes:
        damaged[132 + position % (len(damaged) - 132)] = value
    with contextlib.suppress(ReportError):
        assert report_text(bytes(damaged)).strip()

"""Reports that reach the node: on the disk, linked to their study, asked for by protocols, waited for."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import BasicTextSRStorage, EnhancedSRStorage, XRayRadiationDoseSRStorage

from dicom_node.origin import Origin
from dicom_node.uids import SeriesKey
from tests.support.power import Disk
from tests.support.reports import ORU, document
from worker.ledger import Ledger, SeriesState
from worker.protocols.protocol import FromReport
from worker.report_language import NotAReportError, ReportError
from worker.report_language.formats.read import report_text
from worker.reports.inbox import ReportInbox
from worker.reports.narrative import is_narrative, narrative
from worker.reports.reported import Reported
from worker.settings import load

STUDY, SERIES = "1.2.3.4", "1.2.3.4.1"
ASKED = FromReport(wait_minutes=30)
TEXT = b"FINDINGS: 8 mm solid nodule in the right upper lobe. No pleural effusion. Stable hepatic cysts."


class Clock:
    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        self.now += 0.01
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ledger(tmp_path: Path, clock: Clock) -> Iterator[Ledger]:
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}", clock)
    ledger.series.image_arrived(SeriesKey(STUDY, SERIES), Origin("CT", "VOXTELL", "127.0.0.1"))
    yield ledger
    ledger.close()


@pytest.fixture
def inbox(tmp_path: Path, ledger: Ledger) -> ReportInbox:
    return ReportInbox(tmp_path, ledger)


def texts(reported: Reported) -> list[str]:
    return [prompt.text for prompt in reported.prompts]


def settle(ledger: Ledger) -> None:
    for series in ledger.series.unsettled():
        assert ledger.series.settle(series)


def test_a_report_gives_prompts_with_their_sentences(inbox: ReportInbox) -> None:
    inbox.take(TEXT, source="http", study_uid=STUDY)
    reported = inbox.prompts_for(ASKED, STUDY, "")
    assert [(one.text, one.sentence) for one in reported.prompts] == [
        ("solid nodule in the right upper lobe", "8 mm solid nodule in the right upper lobe."),
        ("hepatic cysts", "Stable hepatic cysts."),
    ]
    assert reported.found
    assert reported.waiting_until is None
    assert reported.line == "2 prompts from the report; left out: 1 negated"


def test_a_report_lies_on_the_disk_under_its_digest_when_take_returns(inbox: ReportInbox, ledger: Ledger) -> None:
    digest = inbox.take(TEXT, source="http", study_uid=STUDY)
    assert [path.name for path in inbox.folder.iterdir()] == [digest]
    assert (inbox.folder / digest).read_bytes() == TEXT
    assert inbox.take(TEXT, source="hl7", study_uid=STUDY) == digest
    (report,) = ledger.reports.on_study(STUDY, "")
    assert (report.id, report.source, report.path) == (digest, "http", digest)


def test_a_report_survives_a_power_cut_once_it_is_taken(
    inbox: ReportInbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(inbox.folder, monkeypatch)
    report_id = inbox.take(TEXT, source="http", study_uid=STUDY)
    assert disk.holds(inbox.folder / report_id)


def test_the_ledger_holds_no_word_of_a_report(inbox: ReportInbox, tmp_path: Path) -> None:
    inbox.take(TEXT, source="http", study_uid=STUDY)
    inbox.prompts_for(ASKED, STUDY, "")
    written = b"".join(path.read_bytes() for path in tmp_path.glob("ledger.sqlite*"))
    assert STUDY.encode() in written
    assert b"nodule" not in written


def test_a_protocol_that_uses_no_report_gets_none(inbox: ReportInbox) -> None:
    inbox.take(TEXT, source="http", study_uid=STUDY)
    assert inbox.prompts_for(FromReport(use=False), STUDY, "") == Reported()


def test_a_study_waits_for_its_report_until_the_time_is_over(inbox: ReportInbox, clock: Clock) -> None:
    waiting = inbox.prompts_for(ASKED, STUDY, "")
    assert waiting.waiting_until == pytest.approx(clock.now + 30 * 60, abs=1)
    assert waiting.line.startswith("waits for a report until ")
    assert not waiting.found
    clock.now += 30 * 60
    assert inbox.prompts_for(ASKED, STUDY, "") == Reported(line="no report came")
    assert inbox.prompts_for(FromReport(), STUDY, "") == Reported(line="no report is there")


def test_the_wait_ends_when_the_report_comes(inbox: ReportInbox) -> None:
    assert inbox.prompts_for(ASKED, STUDY, "").waiting_until
    inbox.take(ORU.encode(), source="hl7")
    assert texts(inbox.prompts_for(ASKED, STUDY, "")) == ["nodule in the right upper lobe"]


def test_a_report_finds_its_study_by_accession_number(inbox: ReportInbox) -> None:
    inbox.take(ORU.replace("ZDS|1.2.3.4^RIS^Application^DICOM\r", "").encode(), source="hl7")
    assert not inbox.prompts_for(ASKED, STUDY, "ACC43").found
    assert inbox.prompts_for(ASKED, STUDY, " Acc 0042 ", patient_id="4711").found


def test_an_accession_number_of_another_patient_does_not_link(inbox: ReportInbox) -> None:
    inbox.take(ORU.replace("ZDS|1.2.3.4^RIS^Application^DICOM\r", "").encode(), source="hl7")
    assert not inbox.prompts_for(ASKED, STUDY, "ACC0042", patient_id="4712").found


def test_a_report_of_another_study_with_the_same_accession_number_is_not_taken(inbox: ReportInbox) -> None:
    inbox.take(ORU.replace("1.2.3.4^", "1.2.3.5^").encode(), source="hl7")
    assert not inbox.prompts_for(ASKED, STUDY, "ACC0042").found


@pytest.mark.parametrize("by_accession", [False, True])
def test_a_late_report_opens_its_study_again(inbox: ReportInbox, ledger: Ledger, *, by_accession: bool) -> None:
    inbox.prompts_for(ASKED, STUDY, "ACC0042")
    settle(ledger)
    assert ledger.series.unsettled() == []
    message = ORU.replace("ZDS|1.2.3.4^RIS^Application^DICOM\r", "") if by_accession else ORU
    inbox.take(message.encode(), source="hl7")
    (series,) = ledger.series.unsettled()
    assert (series.study_uid, series.state) == (STUDY, SeriesState.RECEIVING)
    settle(ledger)
    inbox.take(message.encode(), source="hl7")  # the same bytes again are nothing new
    assert ledger.series.unsettled() == []


def test_a_late_report_opens_its_study_also_when_the_listener_dies_at_once(ledger: Ledger) -> None:
    """Sent again by a sender that heard nothing it is not new any more: the line about it and the question are one."""
    settle(ledger)
    assert ledger.reports.arrived("0" * 64, study_uid=STUDY, accession="", source="http", path="0" * 64)
    assert [one.study_uid for one in ledger.series.unsettled()] == [STUDY]


def test_a_report_that_comes_while_a_series_is_settled_is_not_lost(inbox: ReportInbox, ledger: Ledger) -> None:
    (series,) = ledger.series.unsettled()
    assert not inbox.prompts_for(ASKED, STUDY, "").found
    inbox.take(TEXT, source="http", study_uid=STUDY)
    assert not ledger.series.settle(series)
    assert ledger.series.unsettled()


def test_a_report_sent_again_as_a_whole_replaces_the_older_one(inbox: ReportInbox) -> None:
    inbox.take(b"Cyst in the left kidney.", source="http", study_uid=STUDY)
    inbox.take(b"CORRECTED REPORT: Cyst in the right kidney.", source="http", study_uid=STUDY)
    assert texts(inbox.prompts_for(ASKED, STUDY, "")) == ["cyst in the right kidney"]


def test_an_addendum_adds_to_the_report_before_it(inbox: ReportInbox) -> None:
    inbox.take(b"Cyst in the left kidney. No fracture.", source="http", study_uid=STUDY)
    inbox.take(b"ADDENDUM: Fracture of the left 7th rib.", source="http", study_uid=STUDY)
    assert texts(inbox.prompts_for(ASKED, STUDY, "")) == ["cyst in the left kidney", "fracture of the left 7th rib"]


def test_of_a_thousand_reports_on_a_study_the_newest_are_read(
    inbox: ReportInbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of them asks the protocols again: reading all of them at each question would hold up all other studies."""
    older = [TEXT.replace(b"8 mm", b"%d mm" % size) for size in range(3, 10)]
    for content in (*older, b"FINDINGS: mass in the left kidney."):
        inbox.take(content, source="http", study_uid=STUDY)
    read: list[bytes] = []
    monkeypatch.setattr("worker.reports.inbox.MOST_REPORTS", 3)
    monkeypatch.setattr(
        "worker.reports.inbox.report_text", lambda content, **more: read.append(content) or report_text(content, **more)
    )
    assert texts(inbox.prompts_for(ASKED, STUDY, "")) == ["mass in the left kidney"]
    assert len(read) == 3


def test_an_addendum_alone_counts(inbox: ReportInbox) -> None:
    inbox.take(b"ADDENDUM: Fracture of the left 7th rib.", source="http", study_uid=STUDY)
    assert texts(inbox.prompts_for(ASKED, STUDY, "")) == ["fracture of the left 7th rib"]


def test_limit_and_uncertainty_are_the_protocols(inbox: ReportInbox) -> None:
    inbox.take(b"Cyst in the left kidney. Cyst in the spleen. Possible liver mass.", source="http", study_uid=STUDY)
    assert len(inbox.prompts_for(FromReport(limit=1), STUDY, "").prompts) == 1
    assert texts(inbox.prompts_for(FromReport(uncertain=True), STUDY, ""))[-1] == "liver mass"


def test_the_side_of_a_long_phrase_outlives_every_cut(inbox: ReportInbox) -> None:
    text = "Nodular consolidation areas in the upper lobe and the lower lobe laterobasal segments of the left lung."
    inbox.take(text.encode(), source="http", study_uid=STUDY)
    (prompt,) = inbox.prompts_for(ASKED, STUDY, "").prompts
    assert len(prompt.text) > 64
    assert prompt.label.startswith("left consolidation")
    assert len(prompt.label) <= 64


def test_line_breaks_do_not_make_another_job(inbox: ReportInbox) -> None:
    inbox.take(b"Cyst in the\nleft kidney.", source="http", study_uid=STUDY)
    before = inbox.prompts_for(ASKED, STUDY, "").prompts
    inbox.take(b"Cyst in  the left kidney.", source="http", study_uid=STUDY)
    assert inbox.prompts_for(ASKED, STUDY, "").prompts == before


@pytest.mark.parametrize(
    ("content", "links", "problem"),
    [
        (TEXT, {}, "neither Study Instance UID nor accession number"),
        (TEXT, {"study_uid": "1" * 65}, "too long"),
        (b"\x00\x01\x02" * 50, {"study_uid": STUDY}, "binary data"),
        (b" \n ", {"study_uid": STUDY}, "holds no report text"),
        (b"a" * (9 * 1024 * 1024), {"study_uid": STUDY}, "at most"),
    ],
)
def test_what_is_no_report_is_refused_and_leaves_nothing(
    inbox: ReportInbox, content: bytes, links: dict[str, str], problem: str
) -> None:
    with pytest.raises(ReportError, match=problem):
        inbox.take(content, source="http", **links)
    assert list(inbox.folder.iterdir()) == []


def test_a_full_disk_leaves_nothing_behind_in_the_ledger(
    inbox: ReportInbox, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("worker.reports.inbox.write_new", full)
    with pytest.raises(OSError, match="No space left"):
        inbox.take(TEXT, source="http", study_uid=STUDY)
    assert ledger.reports.on_study(STUDY, "") == []


def test_a_report_whose_file_is_gone_counts_as_none(inbox: ReportInbox) -> None:
    digest = inbox.take(TEXT, source="http", study_uid=STUDY)
    (inbox.folder / digest).unlink()
    assert not inbox.prompts_for(ASKED, STUDY, "").found


def test_documents_of_a_study_are_taken_and_measurements_are_not(inbox: ReportInbox, tmp_path: Path) -> None:
    def header(sop_class: str, **attributes: Any) -> Dataset:
        dataset = Dataset()
        dataset.SOPClassUID, dataset.SOPInstanceUID, dataset.StudyInstanceUID = sop_class, "1.2.3.9", STUDY
        for keyword, value in attributes.items():
            setattr(dataset, keyword, value)
        return dataset

    title = Dataset()
    title.CodeValue, title.CodingSchemeDesignator = "126000", "DCM"
    assert is_narrative(header(BasicTextSRStorage))
    assert not is_narrative(header(XRayRadiationDoseSRStorage))
    assert not is_narrative(header(EnhancedSRStorage, ConceptNameCodeSequence=[title]))

    text = Dataset()
    text.ValueType, text.TextValue = "TEXT", "Cyst in the left kidney."
    text.ConceptNameCodeSequence = [Dataset()]
    text.ConceptNameCodeSequence[0].CodeMeaning = "Finding"
    path, damaged = tmp_path / "report.dcm", tmp_path / "damaged.dcm"
    path.write_bytes(document(StudyInstanceUID=STUDY, ValueType="CONTAINER", ContentSequence=[text]))
    damaged.write_bytes(b"no report")
    documents = [narrative(one, header(BasicTextSRStorage)) for one in (damaged, path)]
    assert narrative(path, header(XRayRadiationDoseSRStorage)) is None
    inbox.take_documents(documents)
    assert texts(inbox.prompts_for(ASKED, STUDY, "")) == ["cyst in the left kidney"]


def test_no_word_of_a_report_reaches_a_log(
    inbox: ReportInbox, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    inbox.take(TEXT, source="http", study_uid=STUDY)
    inbox.take(ORU.replace("ZDS|1.2.3.4^RIS^Application^DICOM\r", "").encode(), source="hl7")
    inbox.prompts_for(ASKED, STUDY, "ACC0042", patient_id="4712")
    for wrong in (b"nodule\x00\x01" * 9, b'{"resourceType": "nodule"}', b'{"nodule'):
        with pytest.raises(NotAReportError) as refused:
            inbox.take(wrong, source="http", study_uid=STUDY)
        assert "nodule" not in str(refused.value)
    told = caplog.text + "".join(capsys.readouterr())
    assert "report_received" in told
    assert "report_of_another_patient" in told
    for word in ("nodule", "effusion", "cyst", "FINDINGS", "DOE"):
        assert word not in told


def test_two_studies_may_have_reports_of_the_same_words(inbox: ReportInbox, ledger: Ledger) -> None:
    ledger.series.image_arrived(SeriesKey("1.2.9", "1.2.9.1"), Origin("CT", "VOXTELL", "127.0.0.1"))
    for study in (STUDY, "1.2.9"):
        inbox.take(TEXT, source="http", study_uid=study)
    assert texts(inbox.prompts_for(ASKED, STUDY, "")) == texts(inbox.prompts_for(ASKED, "1.2.9", ""))
    (report,) = ledger.reports.on_study("1.2.9", "")
    inbox.forget(report)
    assert inbox.prompts_for(ASKED, STUDY, "").found
    assert not inbox.prompts_for(ASKED, "1.2.9", "").found


def test_a_new_ledger_learns_of_the_reports_on_the_disk(inbox: ReportInbox, tmp_path: Path) -> None:
    inbox.take(ORU.encode(), source="hl7")
    inbox.take(TEXT, source="http", study_uid=STUDY)
    (inbox.folder / ".unfinished").write_bytes(b"half")
    other = Ledger(f"sqlite:///{tmp_path / 'new.sqlite'}")
    recovered = ReportInbox(tmp_path, other)
    assert recovered.recover() == 1
    assert recovered.recover() == 0
    assert texts(recovered.prompts_for(ASKED, STUDY, "")) == ["nodule in the right upper lobe"]
    other.close()


@pytest.mark.parametrize(("declared", "nested"), [(None, True), (None, False), ("ISO_IR 6", True)])
def test_the_sites_character_set_is_that_of_a_structured_report_too(
    tmp_path: Path, declared: str | None, nested: bool
) -> None:
    words = "Иванов has a nodule in the left lung."
    item = Dataset()
    item.ValueType, item.TextValue = "TEXT", "?" * len(words)
    whole = item
    if nested:
        whole = Dataset()
        whole.ValueType, whole.ContentSequence = "CONTAINER", [item]
    more = {"SpecificCharacterSet": declared} if declared else {}
    content = document(StudyInstanceUID=STUDY, ContentSequence=[whole], **more)
    content = content.replace(b"?" * len(words), words.encode("cp1251"))
    settings = load(home=tmp_path, character_set="cp1251")
    ledger = Ledger(settings.ledger_url)
    inbox = ReportInbox.of(settings, ledger)
    inbox.take(content, source="http")
    (prompt,) = inbox.prompts_for(ASKED, STUDY, "").prompts
    assert (prompt.text, prompt.sentence) == ("nodule in the left lung", words)
    ledger.close()

"""Reports over HTTP and MLLP, over real sockets, into the inbox of a node."""

import json
import logging
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import requests
from structlog.testing import capture_logs

from dicom_node.errors import ListenerError
from dicom_node.origin import Origin
from dicom_node.uids import SeriesKey
from tests.support.reports import ORU, Sender
from worker.errors import LedgerError, ReceiverError, SettingsError
from worker.ledger import Ledger
from worker.protocols.protocol import FromReport
from worker.report_language.formats.report_file import MAX_BYTES
from worker.reports.inbox import ReportInbox
from worker.servers.ports import serving_reports
from worker.settings import Settings

STUDY = "1.2.3.4"
TEXT = b"FINDINGS: 8 mm solid nodule in the right upper lobe. No pleural effusion."
TOKEN = {"Authorization": "Bearer secret-token"}

Post = Callable[..., requests.Response]

pytestmark = pytest.mark.peers


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    ledger.series.image_arrived(SeriesKey(STUDY, "1.2.3.4.1"), Origin("CT", "VOXTELL", "127.0.0.1"))
    yield ledger
    ledger.close()


@pytest.fixture
def inbox(tmp_path: Path, ledger: Ledger) -> ReportInbox:
    return ReportInbox(tmp_path, ledger)


def receiving_reports(settings: Settings, inbox: ReportInbox) -> AbstractContextManager[None]:
    """The servers for reports."""
    return serving_reports(settings, inbox)


@pytest.fixture
def ports(tmp_path: Path, inbox: ReportInbox) -> Iterator[dict[str, int]]:
    """The ports on which the node takes reports."""
    token = tmp_path / "token"
    token.write_text("secret-token\n")
    settings = Settings(home=tmp_path, hl7_port=0, reports_http_port=0, reports_token_file=token)
    with capture_logs() as told, receiving_reports(settings, inbox):
        yield {one["event"]: one["port"] for one in told}


@pytest.fixture
def post(ports: dict[str, int]) -> Post:
    def send(content: bytes, *, headers: dict[str, str] = TOKEN, **query: str) -> requests.Response:
        url = f"http://127.0.0.1:{ports['http_listening']}/reports"
        return requests.post(url, data=content, params=query, headers=headers, timeout=10)

    return send


def prompts(inbox: ReportInbox, accession: str = "") -> list[str]:
    return [prompt.text for prompt in inbox.prompts_for(FromReport(), STUDY, accession).prompts]


def test_a_text_over_http_finds_its_study(post: Post, inbox: ReportInbox) -> None:
    answer = post(TEXT, study=STUDY)
    assert (answer.status_code, len(answer.json()["report"])) == (201, 64)
    assert (inbox.folder / answer.json()["report"]).read_bytes() == TEXT
    assert prompts(inbox) == ["solid nodule in the right upper lobe"]
    assert post(TEXT, study=STUDY).json() == answer.json()


def test_a_fhir_report_over_http_brings_its_own_links(post: Post, inbox: ReportInbox) -> None:
    report = {
        "resourceType": "DiagnosticReport",
        "status": "final",
        "identifier": [{"type": {"coding": [{"code": "ACSN"}]}, "value": "ACC-7"}],
        "conclusion": "Cyst in the left kidney.",
    }
    assert post(json.dumps(report).encode()).status_code == 201
    assert prompts(inbox, "acc-7") == ["cyst in the left kidney"]


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": "Bearer secret-token2"}])
def test_without_the_token_nothing_is_taken(post: Post, inbox: ReportInbox, headers: dict[str, str]) -> None:
    assert post(TEXT, headers=headers, study=STUDY).status_code == 401
    assert list(inbox.folder.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "status", "problem"),
    [
        (TEXT, 400, "neither Study Instance UID nor accession number"),
        (b"\x00\x01" * 100, 400, "binary data"),
        (b"", 400, "no report text"),
        (b"a" * (MAX_BYTES + 1), 413, "at most"),
        (b"a " * 80_000, 413, "at most"),
    ],
)
def test_what_is_no_report_is_refused_with_a_sentence(
    post: Post, inbox: ReportInbox, content: bytes, status: int, problem: str
) -> None:
    answer = post(content, **({"study": STUDY} if content != TEXT else {}))
    assert (answer.status_code, list(inbox.folder.iterdir())) == (status, [])
    assert problem in answer.json()["detail"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), LedgerError("the ledger does not answer")])
def test_what_could_not_be_kept_may_be_sent_again(
    post: Post, inbox: ReportInbox, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*arguments: object, **links: object) -> str:
        raise error

    monkeypatch.setattr(inbox, "take", fail)
    assert post(TEXT, study=STUDY).status_code == 503
    monkeypatch.undo()
    assert post(TEXT, study=STUDY).status_code == 201


def test_there_is_nothing_else_to_see(ports: dict[str, int]) -> None:
    for path in ("/", "/docs", "/openapi.json", "/reports"):
        url = f"http://127.0.0.1:{ports['http_listening']}{path}"
        answer = requests.get(url, headers=TOKEN, timeout=10)
        assert answer.status_code in (404, 405)
        assert answer.json()["status"] == answer.status_code
        assert requests.get(url, timeout=10).status_code == 401


def test_an_oru_is_acknowledged_when_the_inbox_has_it(ports: dict[str, int], inbox: ReportInbox) -> None:
    sender = Sender(ports["mllp_listening"])
    assert "MSA|AA|MSG7" in sender.send(ORU)
    assert len(list(inbox.folder.iterdir())) == 1
    assert "MSA|AR|MSG8" in sender.send(ORU.replace("MSG7", "MSG8").replace("|TX|", "|ED|"))
    sender.close()
    assert prompts(inbox) == ["nodule in the right upper lobe"]


def test_no_word_of_a_report_reaches_a_log(
    post: Post, ports: dict[str, int], caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.WARNING, "urllib3")  # the sender of this test
    sender = Sender(ports["mllp_listening"])
    with capture_logs() as told:
        post(TEXT, study=STUDY)
        post(b'{"resourceType": "nodule"}', study=STUDY, accession="ACC0042")
        sender.send(ORU)
        sender.send(ORU.replace("|TX|", "|ED|"))
    sender.close()
    everything = caplog.text + str(told) + "".join(capsys.readouterr())
    assert "report_received" in everything
    for word in ("nodule", "effusion", "FINDINGS", "DOE", "ACC0042", "secret-token"):
        assert word not in everything


@pytest.mark.peers
def test_a_taken_port_and_a_missing_token_are_named(tmp_path: Path, inbox: ReportInbox) -> None:
    token = tmp_path / "token"
    token.write_text("")
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with (
            pytest.raises(ReceiverError, match=f"127.0.0.1:{port}: .+; give a free address"),
            receiving_reports(Settings(home=tmp_path, hl7_port=port), inbox),
        ):
            pass
        for file, problem in ((None, "needs a token"), (token, "needs a token"), (tmp_path / "none", "cannot be read")):
            with (
                pytest.raises(SettingsError, match=problem),
                receiving_reports(Settings(home=tmp_path, reports_http_port=0, reports_token_file=file), inbox),
            ):
                pass
        token.write_text("secret-token")
        with (
            pytest.raises(ListenerError, match=f"Port {port} on 127.0.0.1 cannot be listened on"),
            receiving_reports(Settings(home=tmp_path, reports_http_port=port, reports_token_file=token), inbox),
        ):
            pass

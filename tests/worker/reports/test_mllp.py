"""Reports over MLLP: acknowledged only when they are on the disk, over a real socket."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from worker.reports import prompts_from_text
from worker.reports.errors import ReceiverError
from worker.reports.mllp import ReceivedReport, ReportReceiver
from worker.reports.read import read_report

ORU = (
    "MSH|^~\\&|RIS|HOSPITAL|NODE|HOSPITAL|20240101||ORU^R01|MSG7|P|2.5.1\r"
    "PID|1||4711^^^HOSPITAL^MR||DOE^JANE\r"
    "ORC|RE|PLACER1|FILLER1\r"
    "OBR|1|PLACER1|FILLER1|71260^CT CHEST||||||||||||||ACC42\r"
    "OBX|1|TX|^FINDINGS||8 mm solid nodule in the right upper lobe. No pleural effusion.||||||F\r"
    "ZDS|1.2.3.4^RIS^Application^DICOM\r"
)


class Sender:
    """A peer that sends MLLP frames and reads the answers."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=10)

    def send(self, message: str) -> str:
        """The answer to a message; empty when the connection was ended instead."""
        self.send_bytes(b"\x0b" + message.encode() + b"\x1c\r")
        answer = b""
        while not answer.endswith(b"\x1c\r"):
            received = self._socket.recv(65536)
            if not received:
                return ""
            answer += received
        return answer[1:-2].decode()

    def send_bytes(self, content: bytes) -> None:
        self._socket.sendall(content)

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def taken() -> list[ReceivedReport]:
    return []


@pytest.fixture
def receiver(tmp_path: Path, taken: list[ReceivedReport]) -> Iterator[ReportReceiver]:
    with ReportReceiver(tmp_path / "reports", taken.append, port=0) as running:
        yield running


@pytest.fixture
def sender(receiver: ReportReceiver) -> Iterator[Sender]:
    peer = Sender(receiver.port)
    yield peer
    peer.close()


def test_an_acknowledged_report_is_on_the_disk_with_its_links(sender: Sender, taken: list[ReceivedReport]) -> None:
    assert "MSA|AA|MSG7" in sender.send(ORU)
    (report,) = taken
    assert report.path.read_bytes() == ORU.encode()
    assert report.links.patient_id == "4711"
    assert report.links.accession_numbers == ("ACC42", "FILLER1", "PLACER1")
    assert report.links.study_uid == "1.2.3.4"
    prompts = prompts_from_text(read_report(report.path)).prompts
    assert [prompt.prompt for prompt in prompts] == ["solid nodule in the right upper lobe"]


def test_the_same_report_twice_is_one_file_and_two_acknowledgements(sender: Sender, receiver: ReportReceiver) -> None:
    answers = [sender.send(ORU), sender.send(ORU)]
    assert all("MSA|AA|MSG7" in answer for answer in answers)
    assert len(list(receiver.folder.iterdir())) == 1


def test_the_study_uid_may_come_as_an_observation(sender: Sender, taken: list[ReceivedReport]) -> None:
    sender.send(ORU.replace("ZDS|1.2.3.4^RIS^Application^DICOM", "OBX|2|HD|113014^DICOM Study^DCM||1.2.9||||||F"))
    assert taken[0].links.study_uid == "1.2.9"


def test_another_kind_of_message_is_rejected_for_good(sender: Sender, taken: list[ReceivedReport]) -> None:
    assert "MSA|AR|MSG7" in sender.send(ORU.replace("ORU^R01", "ADT^A01"))
    assert taken == []


def test_a_full_disk_asks_the_sender_to_try_again(
    sender: Sender, taken: list[ReceivedReport], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("worker.reports.mllp.write_new", full)
    assert "MSA|AE|MSG7" in sender.send(ORU)
    assert taken == []
    monkeypatch.undo()
    assert "MSA|AA|MSG7" in sender.send(ORU)


def test_a_failing_intake_asks_the_sender_to_try_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def fail(report: ReceivedReport) -> None:
        raise RuntimeError("secret nodule")

    with ReportReceiver(tmp_path, fail, port=0) as receiver:
        peer = Sender(receiver.port)
        assert "MSA|AE|MSG7" in peer.send(ORU)
        peer.close()
    assert "MSG7" in caplog.text
    assert "secret" not in caplog.text
    assert "nodule" not in caplog.text


@pytest.mark.parametrize("wrong", ["", "hello", "MSH", "MSH|", "MSH|^~\\&|RIS|H|NODE|H|20240101||ORU|1|P|2.5\r"])
def test_what_is_no_message_ends_the_connection_and_not_the_receiver(
    receiver: ReportReceiver, sender: Sender, wrong: str
) -> None:
    assert sender.send(wrong) == ""
    other = Sender(receiver.port)
    assert "MSA|AA" in other.send(ORU)
    other.close()


def test_a_frame_without_its_start_ends_the_connection(receiver: ReportReceiver, sender: Sender) -> None:
    sender.send_bytes(b"no start\x1c\r")
    assert sender.send(ORU) == ""
    other = Sender(receiver.port)
    assert "MSA|AA" in other.send(ORU)
    other.close()


def test_a_half_sent_message_leaves_nothing(receiver: ReportReceiver, sender: Sender) -> None:
    sender.send_bytes(b"\x0b" + ORU.encode()[:100])
    sender.close()
    other = Sender(receiver.port)
    other.send(ORU.replace("MSG7", "MSG8"))
    other.close()
    assert len(list(receiver.folder.iterdir())) == 1


def test_a_taken_port_is_named(receiver: ReportReceiver, tmp_path: Path) -> None:
    second = ReportReceiver(tmp_path / "second", lambda report: None, port=receiver.port)
    with pytest.raises(ReceiverError, match=f"127.0.0.1:{receiver.port}: .+; give a free address"):
        second.start()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ReceiverError, match="give a writable folder"):
        ReportReceiver(tmp_path / "file" / "reports", lambda report: None, port=0).start()

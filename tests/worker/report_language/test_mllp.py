"""Reports over MLLP, over a real socket: acknowledged only when whoever keeps them has said so."""

from collections.abc import Iterator

import pytest
from structlog.testing import capture_logs

from tests.support.reports import Sender
from worker.errors import ReceiverError
from worker.report_language import NotAReportError
from worker.servers.mllp import ReportReceiver

pytestmark = pytest.mark.peers

ORU = (
    "MSH|^~\\&|RIS|HOSPITAL|NODE|HOSPITAL|20240101||ORU^R01|MSG7|P|2.5.1\r"
    "PID|1||4711^^^HOSPITAL^MR||DOE^JANE\r"
    "ORC|RE|PLACER1|FILLER1\r"
    "OBR|1|PLACER1|FILLER1|71260^CT CHEST||||||||||||||ACC42\r"
    "OBX|1|TX|^FINDINGS||8 mm solid nodule in the right upper lobe. No pleural effusion.||||||F\r"
    "ZDS|1.2.3.4^RIS^Application^DICOM\r"
)


@pytest.fixture
def taken() -> list[bytes]:
    return []


@pytest.fixture
def receiver(taken: list[bytes]) -> Iterator[ReportReceiver]:
    with ReportReceiver(taken.append, port=0) as running:
        yield running


@pytest.fixture
def sender(receiver: ReportReceiver) -> Iterator[Sender]:
    peer = Sender(receiver.port)
    yield peer
    peer.close()


def answer_when(error: Exception) -> str:
    """The answer to a report that `error` keeps from being taken."""

    def fail(content: bytes) -> None:
        raise error

    with ReportReceiver(fail, port=0) as receiver:
        peer = Sender(receiver.port)
        answer = peer.send(ORU)
        peer.close()
    return answer


def test_a_taken_report_is_acknowledged(sender: Sender, taken: list[bytes]) -> None:
    assert "MSA|AA|MSG7" in sender.send(ORU)
    assert taken == [ORU.encode()]


def test_another_kind_of_message_is_rejected_for_good(sender: Sender, taken: list[bytes]) -> None:
    assert "MSA|AR|MSG7" in sender.send(ORU.replace("ORU^R01", "ADT^A01"))
    assert taken == []


@pytest.mark.parametrize(
    "retracted", [ORU.replace("||||||F\r", "||||||W\r"), ORU.replace("|ACC42\r", "|ACC42|||||||X\r")]
)
def test_a_result_that_is_taken_back_is_no_report(sender: Sender, taken: list[bytes], retracted: str) -> None:
    assert retracted != ORU
    assert "MSA|AR|MSG7" in sender.send(retracted)
    assert taken == []


def test_a_full_disk_asks_the_sender_to_try_again() -> None:
    assert "MSA|AE|MSG7" in answer_when(OSError(28, "No space left on device"))


def test_a_report_that_cannot_be_read_is_rejected_for_good() -> None:
    """The log has it as a warning with the address: of many in a minute there are two lines."""
    with capture_logs() as told:
        assert "MSA|AR|MSG7" in answer_when(NotAReportError("the message: holds no report text"))
    (line,) = told
    assert (line["event"], line["log_level"], line["address"]) == ("report_refused", "warning", "127.0.0.1")


def test_a_failure_is_logged_without_the_report(caplog: pytest.LogCaptureFixture) -> None:
    with capture_logs() as told:
        assert "MSA|AE|MSG7" in answer_when(RuntimeError("secret nodule"))
    (line,) = told
    assert (line["event"], line["control_id"], line["problem"]) == ("report_not_taken", "MSG7", "RuntimeError")
    assert "secret" not in caplog.text + str(told)
    assert "nodule" not in caplog.text + str(told)


@pytest.mark.parametrize("wrong", ["", "hello", "MSH", "MSH|", "MSH|^~\\&|RIS|H|NODE|H|20240101||"])
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


def test_a_half_sent_message_leaves_nothing(receiver: ReportReceiver, sender: Sender, taken: list[bytes]) -> None:
    sender.send_bytes(b"\x0b" + ORU.encode()[:100])
    sender.close()
    whole = ORU.replace("MSG7", "MSG8")
    other = Sender(receiver.port)
    other.send(whole)
    other.close()
    assert taken == [whole.encode()]


def test_a_taken_port_is_named(receiver: ReportReceiver) -> None:
    second = ReportReceiver(lambda content: None, port=receiver.port)
    with pytest.raises(ReceiverError, match=f"127.0.0.1:{receiver.port}: .+; give a free address"):
        second.start()


@pytest.mark.timeout(60)
def test_whatever_keeps_the_receiver_from_starting_is_said() -> None:
    """Not only an error of the operating system, which is what a taken port is."""
    with pytest.raises(ReceiverError, match=r"127.0.0.1:70000: .*port must be 0-65535; give a free address"):
        ReportReceiver(lambda content: None, port=70000).start()

"""MLLP as systems send it and as attackers do: each frame gets an answer with its reason, and nobody shuts the port."""

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import hl7
import pytest
from structlog.testing import capture_logs

from dicom_node.scp.access import Access
from tests.support.certificates import Authority
from tests.support.reports import KIDNEY, LUNG, head, order, text
from tests.support.waiting import wait_until
from worker.ledger import Ledger
from worker.report_language.formats.report_file import MAX_BYTES
from worker.reports.inbox import ReportInbox
from worker.servers.mllp import ReportReceiver
from worker.servers.mllp_frames import FrameLimits

pytestmark = pytest.mark.peers

PLAIN = head("C1") + order("A1", text(LUNG))
ATTACHED = "OBX|2|ED|PDF^PDF||^application^pdf^Base64^{}||||||F"


def frame(message: str | bytes, end: bytes = b"\x1c\r") -> bytes:
    return b"\x0b" + (message.encode() if isinstance(message, str) else message) + end


@dataclass
class Line:
    """A connection to the port."""

    port: int
    made: socket.socket = field(init=False)

    def __post_init__(self) -> None:
        self.made = socket.create_connection(("127.0.0.1", self.port), timeout=20)

    def answers(self, count: int = 1) -> list[str]:
        """The next answers; fewer when the connection ends."""
        received = b""
        with contextlib.suppress(ConnectionError):
            while received.count(b"\x1c\r") < count and (part := self.made.recv(65536)):
                received += part
        return [one.lstrip(b"\x0b").decode() for one in received.split(b"\x1c\r")[:-1]]

    def asks(self, content: bytes) -> str:
        """The answer to one frame; empty when the connection ends instead."""
        with contextlib.suppress(ConnectionError):
            self.made.sendall(content)
        return (self.answers() or [""])[0]

    def is_closed(self) -> bool:
        try:
            return self.made.recv(1) == b""
        except ConnectionError:
            return True


@pytest.fixture
def lines() -> Iterator[contextlib.ExitStack]:
    with contextlib.ExitStack() as stack:
        yield stack


@pytest.fixture
def inbox(tmp_path: Path) -> Iterator[ReportInbox]:
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    yield ReportInbox(tmp_path, ledger)
    ledger.close()


def connect(receiver: ReportReceiver, lines: contextlib.ExitStack) -> Line:
    line = Line(receiver.port)
    lines.enter_context(line.made)
    return line


# -- frames as systems send them

NO_TAIL = "MSH|^~\\&|RIS|HOSP|NODE|AI|20260101||ORU^R01|C1\rPID|1||P1\r" + order("A1", text(LUNG))
FRAMES: dict[str, tuple[bytes, str, str, int]] = {
    # name: the bytes, the code of the answer, words of its reason, reports that are kept
    "plain": (frame(PLAIN), "AA", "", 1),
    "segments end by LF": (frame(PLAIN.replace("\r", "\n")), "AA", "", 1),
    "segments end by CR LF": (frame(PLAIN.replace("\r", "\r\n")), "AA", "", 1),
    "segments end by two CR": (frame(PLAIN.replace("\r", "\r\r")), "AA", "", 1),
    "a line end first": (frame("\r\n" + PLAIN), "AA", "", 1),
    "line ends before the frame": (b"\r\n" + frame(PLAIN), "AA", "", 1),
    "the end without CR": (frame(PLAIN, b"\x1c"), "AA", "", 1),
    "the end with LF": (frame(PLAIN, b"\x1c\n"), "AA", "", 1),
    "the end with CR LF": (frame(PLAIN, b"\x1c\r\n"), "AA", "", 1),
    "a type without trigger": (frame(PLAIN.replace("ORU^R01", "ORU")), "AA", "", 1),
    "ORU^R30": (frame(PLAIN.replace("ORU^R01", "ORU^R30^ORU_R30")), "AA", "", 1),
    "MDM^T02": (frame(PLAIN.replace("ORU^R01", "MDM^T02")), "AR", "no result; send an ORU", 0),
    "ADT": (frame("MSH|^~\\&|RIS|H|N|A|20260101||ADT^A08|C1|P|2.5\rPID|1||P1\r"), "AR", "no result; send an ORU", 0),
    "no MSH-11 and MSH-12": (frame(NO_TAIL), "AA", "", 1),
    "no control id": (frame(PLAIN.replace("|C1|", "||")), "AA", "", 1),
    "a batch": (frame(f"FHS|^~\\&|RIS\rBHS|^~\\&|RIS\r{PLAIN}BTS|1\rFTS|1\r"), "AA", "", 1),
    "two messages": (frame(PLAIN + head("C2", "P2") + order("B", text(KIDNEY))), "AR", "holds 2 messages", 0),
    "two orders": (frame(PLAIN + order("B", text(KIDNEY))), "AA", "", 2),
    "another component separator": (frame(PLAIN.replace("^", "@")), "AA", "", 1),
    "another field separator": (frame(PLAIN.replace("|", "$")), "AA", "", 1),
    "no link": (frame(head("C1") + order("", text(LUNG))), "AR", "neither Study Instance UID nor accession", 0),
    "a PDF alone": (frame(head("C1") + order("A1", ATTACHED.format("JVBERi0K"))), "AR", "holds no report text", 0),
    "a PDF and text": (frame(head("C1") + order("A1", text(LUNG), ATTACHED.format("JVBERi0K"))), "AA", "", 1),
    "a link to the report": (frame(head("C1") + order("A1", text("http://ris", kind="RP"))), "AR", "no report text", 0),
    "codes alone": (frame(head("C1") + order("A1", text("R91.1^nodule^I10", kind="CE"))), "AR", "no report text", 0),
    "preliminary": (frame(head("C1") + order("A1", text(LUNG, "P"))), "AA", "", 1),
    "withdrawn": (frame(head("C1") + order("A1", text(LUNG, "W"))), "AR", "taken back by its sender", 0),
    "cancelled": (frame(head("C1") + order("A1", text(LUNG), status="X")), "AR", "taken back by its sender", 0),
    "9 MB": (frame(head("C1") + order("A1", text(LUNG), ATTACHED.format("A" * 9_000_000))), "AR", "longer than", 0),
    "too many segments": (frame(PLAIN + "NTE|1||a\r" * 30_000), "AR", "more than 20000 segments", 0),
    "UTF-8": (frame(head("C1", charset="UNICODE UTF-8") + order("A1", text(f"Läsion. {LUNG}"))), "AA", "", 1),
    "8859/2": (
        frame((head("C1", charset="8859/2") + order("A1", text(f"płuco. {LUNG}"))).encode("iso8859-2")), "AA", "", 1,
    ),
    "UTF-16": (frame(PLAIN.encode("utf-16")), "AA", "", 1),
    "a byte order mark": (frame(b"\xef\xbb\xbf" + PLAIN.encode()), "AA", "", 1),
    "LF and CR": (frame(PLAIN.replace("\r", "\n", 2)), "AR", "send CR", 0),
}  # fmt: skip


@pytest.mark.parametrize("name", FRAMES)
def test_every_frame_is_answered_and_a_refusal_says_why(
    inbox: ReportInbox, lines: contextlib.ExitStack, name: str
) -> None:
    content, code, reason, kept = FRAMES[name]
    with ReportReceiver(lambda report: inbox.take(report, source="hl7"), port=0) as receiver:
        line = connect(receiver, lines)
        answered = line.asks(content)
        again = line.asks(frame(head("C2") + order("A2", text(KIDNEY))))
    acknowledgement = hl7.parse(answered)
    assert str(acknowledgement.segment("MSA")(1)) == code
    assert str(acknowledgement.segment("MSA")(2)) == ("" if name == "no control id" else "C1")
    if code == "AR":
        assert reason in str(acknowledgement.segment("MSA")(3))
        assert reason in str(acknowledgement.segment("ERR")(8))
        assert str(acknowledgement.segment("ERR")(4)) == "E"
        assert "Nodule" not in answered
    assert all(str(acknowledgement.segment("MSH")(number)) for number in (9, 10, 11, 12))
    assert "MSA|AA|C2" in again, "the connection goes on"
    assert len(list(inbox.folder.iterdir())) == kept + 1


def test_two_frames_in_one_write_have_two_answers(lines: contextlib.ExitStack) -> None:
    with ReportReceiver(lambda _: None, port=0) as receiver:
        line = connect(receiver, lines)
        line.made.sendall(frame(PLAIN) + frame(PLAIN.replace("|C1|", "|C2|"), b"\x1c"))
        assert ["MSA|AA|C1" in one or "MSA|AA|C2" in one for one in line.answers(2)] == [True, True]


def test_a_frame_that_comes_byte_by_byte_is_whole(lines: contextlib.ExitStack) -> None:
    taken: list[bytes] = []
    with ReportReceiver(taken.append, port=0) as receiver:
        line = connect(receiver, lines)
        line.made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in frame(PLAIN):
            line.made.sendall(bytes([byte]))
        assert "MSA|AA|C1" in line.answers()[0]
    assert taken == [PLAIN.encode()]


@pytest.mark.parametrize("first", [b"\x00", b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01", b"MSH|"])
def test_what_is_no_frame_ends_the_connection(lines: contextlib.ExitStack, first: bytes) -> None:
    with capture_logs() as told, ReportReceiver(lambda _: None, port=0) as receiver:
        line = connect(receiver, lines)
        line.made.sendall(first)
        assert line.is_closed()
        wait_until(lambda: told)
    assert [(one["event"], one["reason"]) for one in told] == [("mllp_connection_closed", "NoFrameError")]


# -- who may connect, how many, how long


def test_an_address_that_is_not_allowed_sends_no_report(lines: contextlib.ExitStack) -> None:
    taken: list[bytes] = []
    access = Access(networks=("10.1.0.0/16",))
    with capture_logs() as told, ReportReceiver(taken.append, port=0, access=access) as receiver:
        for _ in range(20):
            line = connect(receiver, lines)
            assert line.asks(frame(PLAIN)) == ""
    assert taken == []
    lines_of = {(one["event"], one["address"], one["log_level"]) for one in told}
    assert lines_of == {("door_connection_closed", "127.0.0.1", "warning")}, "which the log counts as one"
    with ReportReceiver(taken.append, port=0, access=Access(networks=("127.0.0.0/8",))) as receiver:
        assert "MSA|AA" in connect(receiver, lines).asks(frame(PLAIN))


@pytest.mark.parametrize("first", [b"", b"\x0bMSH|^~\\&|half"])
def test_connections_that_ask_nothing_shut_out_nobody(lines: contextlib.ExitStack, first: bytes) -> None:
    limits = {"connections": 8, "per_address": 8}
    with ReportReceiver(lambda _: None, port=0, **limits) as receiver:
        for _ in range(100):
            connect(receiver, lines).made.sendall(first)
        for _ in range(3):
            assert "MSA|AA" in connect(receiver, lines).asks(frame(PLAIN))


def test_one_address_leaves_room_for_the_others(lines: contextlib.ExitStack) -> None:
    limits = {"connections": 8, "per_address": 3}
    with ReportReceiver(lambda _: None, port=0, **limits) as receiver:
        kept = socket.create_connection(("127.0.0.1", receiver.port), 20, source_address=("127.0.0.2", 0))
        with kept:
            for _ in range(50):
                connect(receiver, lines)
            connect(receiver, lines).asks(frame(PLAIN))
            kept.sendall(frame(PLAIN))
            assert b"MSA|AA" in kept.recv(65536)


def test_a_connection_whose_message_is_being_kept_is_never_the_one_that_goes(lines: contextlib.ExitStack) -> None:
    release = threading.Event()
    with ReportReceiver(lambda _: release.wait(20), port=0, connections=2, per_address=2) as receiver:
        first = connect(receiver, lines)
        first.made.sendall(frame(PLAIN))
        time.sleep(0.3)
        for _ in range(10):
            connect(receiver, lines)
        release.set()
        assert "MSA|AA|C1" in first.answers()[0]


@pytest.mark.parametrize("sent", [b"", b"\x0bMSH|"])
def test_silence_ends_the_connection_in_time(lines: contextlib.ExitStack, sent: bytes) -> None:
    limits = FrameLimits(idle_seconds=0.3, message_seconds=0.3)
    with ReportReceiver(lambda _: None, port=0, limits=limits) as receiver:
        line = connect(receiver, lines)
        line.made.sendall(sent)
        assert line.is_closed()


def test_a_message_that_trickles_gains_no_time(lines: contextlib.ExitStack) -> None:
    with ReportReceiver(lambda _: None, port=0, limits=FrameLimits(message_seconds=0.5)) as receiver:
        line = connect(receiver, lines)
        line.made.sendall(b"\x0b")

        def is_cut_off_at_one_byte_more() -> bool:
            try:
                line.made.sendall(b"M")
            except ConnectionError:
                return True
            return False

        wait_until(is_cut_off_at_one_byte_more)


def test_a_handshake_that_does_not_come_shuts_out_nobody(lines: contextlib.ExitStack, tmp_path: Path) -> None:
    authority = Authority(tmp_path, "authority")
    certificate, key = authority.issue("node")
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate, key)
    client = ssl.create_default_context(cafile=str(authority.certificate))
    client.check_hostname = False
    with ReportReceiver(lambda _: None, port=0, tls=server, connections=4, per_address=4) as receiver:
        for _ in range(30):
            connect(receiver, lines)
        with client.wrap_socket(socket.create_connection(("127.0.0.1", receiver.port), 20)) as line:
            line.sendall(frame(PLAIN))
            assert b"MSA|AA" in line.recv(65536)


def test_long_messages_wait_for_each_other_and_short_ones_do_not(lines: contextlib.ExitStack) -> None:
    with ReportReceiver(lambda _: None, port=0, limits=FrameLimits(large=1)) as receiver:
        half = connect(receiver, lines)
        half.made.sendall(b"\x0b" + PLAIN.encode() + b"A" * 200_000)
        time.sleep(0.3)
        other = connect(receiver, lines)
        other.made.sendall(frame(head("C3") + order("A1", text(LUNG), ATTACHED.format("A" * 200_000))))
        assert "MSA|AA|C1" in connect(receiver, lines).asks(frame(PLAIN))
        other.made.settimeout(0.3)
        with pytest.raises(TimeoutError):
            other.made.recv(1)
        half.made.close()
        other.made.settimeout(20)
        assert "MSA|AA|C3" in other.answers()[0]


def test_a_message_without_end_is_not_kept_whole(lines: contextlib.ExitStack) -> None:
    with ReportReceiver(lambda _: None, port=0) as receiver:
        line = connect(receiver, lines)
        line.made.sendall(b"\x0b" + PLAIN.encode())
        for _ in range(3 * MAX_BYTES // 2**20):
            line.made.sendall(b"A" * 2**20)
        assert f"longer than {MAX_BYTES} bytes" in line.asks(b"\x1c\r")

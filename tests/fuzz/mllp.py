"""HL7 v2 messages and their frames, for the MLLP port."""

import random
from typing import Final

from tests.fuzz.door import Case, FindingError, exchange
from tests.fuzz.mutations import mutated
from tests.support.reports import ORU

_START, _END = b"\x0b", b"\x1c\r"
WORDS: Final = (
    b"\r",
    b"\n",
    b"\x0b",
    b"\x1c\r",
    b"\x1c",
    b"|",
    b"^",
    b"~",
    b"\\",
    b"&",
    b"\\.br\\",
    b"\\X" + b"0" * 400 + b"\\",
    b"MSH|^~\\&|",
    b"OBX|1|TX|^F||",
    b"OBR|1|A|B\r",
    b"ZDS|" + b"9" * 200,
    b"\xff\xfe",
    b"\xc3\x28",
    b"\0",
    b"||||||||||||||||||UNICODE UTF-16",
)


class Mllp:
    """Connections with one message or several, whose frames or fields are wrong."""

    name = "MLLP"
    is_port = True

    def __init__(self, port: int) -> None:
        self._port = port

    def make(self, chance: random.Random, number: int, *, sound: bool) -> bytes:
        """One framed report, or what is left of some after changes."""
        if sound:
            return _framed(_report(number))
        frames = [_frame(chance, number) for _ in range(chance.choice((1, 1, 2, 5)))]
        stream = b"".join(frames)
        return mutated(chance, stream, words=WORDS, most=2) if chance.random() < 0.2 else stream

    def send(self, case: Case) -> str:
        """Says how the first message was acknowledged (MSA-1), or that the connection was closed."""
        received = exchange(case, self._port, is_answered=lambda said: case.sound and said.endswith(_END))
        if case.stranger and received:
            raise FindingError(f"an address that may not connect got {received[:80]!r}")
        acknowledged = received.partition(b"MSA|")[2][:2].decode("ascii", "replace")
        if case.sound and acknowledged != "AA":
            raise FindingError(f"a sound report was answered by {received[:200]!r}")
        if acknowledged == "AE":
            raise FindingError("it is to be sent again, without end: the report could not be kept")
        return acknowledged or ("stranger closed" if case.stranger else "closed")


def _report(number: int) -> bytes:
    return (
        ORU.replace("MSG7", f"M{number}")
        .replace("acc 0042", f"A{number}")
        .replace("1.2.3.4^", f"1.2.{number}^")
        .encode()
    )


def _framed(message: bytes) -> bytes:
    return _START + message + _END


def _frame(chance: random.Random, number: int) -> bytes:
    """A message with changes in its fields, its segments or its frame."""
    message = _report(number)
    match chance.randrange(8):
        case 0:
            return mutated(chance, _framed(message), words=WORDS)
        case 1:
            segments = message.split(b"\r")
            chance.shuffle(segments)
            message = b"\r".join(segments)
        case 2:
            message += chance.choice((b"OBX|1|TX|^F||x\r", b"OBR|1|A|B\r", b"\r", b"X", b"PID|1\r")) * chance.choice(
                (10, 1000, 25_000)
            )
        case 3:
            message = message.replace(b"||ORU", b"|" * chance.choice((3, 500, 100_000)) + b"ORU")
        case 4:
            message = message.decode().encode(chance.choice(("utf-16", "utf-32", "utf-16-be", "utf-7")))
        case 5:
            message = message.replace(b"Nodule in", chance.choice(WORDS) * chance.choice((1, 300)))
        case 6:
            return chance.randbytes(chance.randrange(200))
    return _framed(mutated(chance, message, words=WORDS) if chance.random() < 0.7 else message)

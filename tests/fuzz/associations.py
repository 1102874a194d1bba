"""Associations byte by byte, for the DICOM port (PS3.8 section 9.3)."""

import random
import struct
from typing import Final

from tests.fuzz.door import Case, FindingError, exchange
from tests.fuzz.mutations import mutated
from tests.support.association_bytes import CT, IMPLICIT, RELEASE, VERIFICATION, echo_command, item, request
from tests.support.wire import command, pdu, store

_ACCEPTED, _REJECTED, _RELEASED, _ABORTED = 2, 3, 6, 7  # PDU types that the node sends (PS3.8 section 9.3)
_NAMES: Final = (b"\r\n[error] forged", b"\x1b[2J", b"A\\B", b"\0" * 16, b"\xff" * 16, b"", b"VOXTELL", b" " * 16)
_UIDS: Final = (b"", b"1.2.840.10008.1.1", b"../../x", b"1." * 32, b"9" * 300, CT, b"\0")


def pdus_of(received: bytes) -> list[tuple[int, bytes]]:
    """The PDUs in what came back."""
    found, at = [], 0
    while at + 6 <= len(received):
        kind, length = struct.unpack_from(">BxL", received, at)
        found.append((kind, received[at + 6 : at + 6 + length]))
        at += 6 + length
    return found


def asked(case: Case, port: int) -> bytes:
    """What comes back on a request for an association, and on what follows when that is answered."""
    first = 6 + int.from_bytes(case.content[2:6], "big")
    return exchange(case, port, is_answered=is_over, first=first if first < len(case.content) else None)


def is_over(received: bytes) -> bool:
    return any(kind in (_REJECTED, _RELEASED, _ABORTED) for kind, _ in pdus_of(received))


def ended_how(case: Case, received: bytes) -> str:
    """What became of an association, in a word. Raises FindingError when a stranger got an answer."""
    kinds = [kind for kind, _ in pdus_of(received)]
    if case.stranger:
        if received:
            raise FindingError(f"an address that may not connect got PDUs of types {kinds}")
        return "stranger closed"
    words = {_RELEASED: "released", _ABORTED: "aborted", _REJECTED: "rejected", _ACCEPTED: "accepted, then closed"}
    return next((word for kind, word in words.items() if kind in kinds), "closed")


class Associations:
    """Requests and PDUs with something wrong in their bytes, their order or their items."""

    name = "associations"
    is_port = True

    def __init__(self, port: int) -> None:
        self._port = port

    def make(self, chance: random.Random, number: int, *, sound: bool) -> bytes:
        """A request, a C-ECHO or a C-STORE, and a release."""
        if sound:
            return request() + echo_command() + RELEASE
        said, content = store(1)
        pdus = [self._request(chance), pdu((1, 3, said)), pdu((1, 2, content)), echo_command(3), RELEASE]
        match chance.randrange(6):
            case 0:
                chance.shuffle(pdus)
            case 1:
                pdus[chance.randrange(len(pdus))] = chance.randbytes(chance.randrange(60))
            case 2:
                pdus.insert(chance.randrange(len(pdus)), struct.pack(">BxLBBBB", 7, 4, 0, 0, chance.randrange(9), 1))
            case 3:
                pdus[1:] = [_odd_data(chance) for _ in range(chance.randint(1, 5))]
        stream = b"".join(pdus)
        return mutated(chance, stream, near=150) if chance.random() < 0.7 else stream

    def _request(self, chance: random.Random) -> bytes:
        contexts = [(1, CT, [b"1.2.840.10008.1.2.1"]), (3, VERIFICATION, [IMPLICIT])]
        if chance.random() < 0.3:
            contexts += [_odd_context(chance) for _ in range(chance.choice((1, 2, 40, 200)))]
        more = item(0x54, b"\0\x11" + VERIFICATION + b"\1\1")
        if chance.random() < 0.3:
            kinds = (0x51, 0x52, 0x53, 0x54, 0x55, 0x56, 0x57, 0x58, 0x59, 0x99)
            more += b"".join(item(chance.choice(kinds), chance.randbytes(chance.randrange(12))) for _ in range(4))
        names = [chance.choice(_NAMES) if chance.random() < 0.2 else name for name in (b"VOXTELL", b"ODD")]
        return request(*contexts, called=names[0][:16], calling=names[1][:16], more=more)

    def send(self, case: Case) -> str:
        """Says how it ended."""
        received = asked(case, self._port)
        said = ended_how(case, received)
        if case.sound and said != "released":
            raise FindingError(f"a C-ECHO and a release were answered by: {said}")
        return said


def _odd_context(chance: random.Random) -> tuple[int, bytes | None, list[bytes]]:
    """A presentation context that lacks something, or has too much."""
    abstract = chance.choice((None, *_UIDS))
    return chance.randrange(256), abstract, [chance.choice(_UIDS) for _ in range(chance.choice((0, 1, 1, 30)))]


def _odd_data(chance: random.Random) -> bytes:
    """A P-DATA-TF of contexts, headers and commands that nobody agreed on."""
    values = []
    for _ in range(chance.randint(1, 3)):
        kind = chance.choice((0x0001, 0x8001, 0x0020, 0x0021, 0x0030, 0x0100, 0x0110, 0x0130, 0x0FFF, 0x7777))
        content = command(kind, number=chance.randrange(65536), data_set=chance.random() < 0.5)
        content = mutated(chance, content) if chance.random() < 0.5 else content
        values.append((chance.choice((1, 1, 3, 5, 255)), chance.choice((0, 1, 2, 3, 7, 255)), content))
    return pdu(*values)

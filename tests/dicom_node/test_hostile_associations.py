"""Peers that break the protocol: each costs one connection for a moment and one line of the log, and nobody else."""

import contextlib
import logging
import random
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pynetdicom.acse import ACSE

from dicom_node.listener import Listener
from dicom_node.scp.access import Limits
from dicom_node.scu.association import Timeouts, echo
from dicom_node.upper_layer.reactor import UpperLayer
from tests.support.association_bytes import (
    CT,
    IMPLICIT,
    RELEASE,
    VERIFICATION,
    answer,
    connect,
    echo_command,
    echoed,
    item,
    request,
)
from tests.support.waiting import wait_until
from tests.support.wire import command, pdu, store

pytestmark = pytest.mark.peers

SOON = Timeouts(
    connect=2, association=2, response=2
)  # seconds; an allowed peer is answered within it, whatever others do


def threads_of_associations() -> list[threading.Thread]:
    return [
        thread for thread in threading.enumerate() if "AcceptorThread" in thread.name or isinstance(thread, UpperLayer)
    ]


def descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


@pytest.fixture
def unharmed(site, caplog) -> Callable[..., contextlib.AbstractContextManager]:
    """`with unharmed() as here:` a listener that in the end answers at once, and has no thread or connection left."""

    @contextlib.contextmanager
    def run(**options) -> Iterator:
        with caplog.at_level(logging.WARNING), site(**options) as here:
            echo(here.peer, calling_ae="A")
            wait_until(lambda: not threads_of_associations())
            before = descriptors()
            yield here
            assert echo(here.peer, calling_ae="A", timeouts=SOON).peer == here.peer
            wait_until(lambda: not threads_of_associations())
            wait_until(lambda: descriptors() <= before)
        assert [record for record in caplog.records if record.exc_info or "\n" in record.getMessage()] == []

    return run


def test_requests_with_contexts_that_lack_something_keep_no_connection(unharmed):
    """110 of them shut the door: each killed its upper layer's thread and kept its connection."""
    with unharmed(limits=Limits(request_seconds=2)) as here, contextlib.ExitStack() as held:
        for context in [(1, CT, []), (1, None, [IMPLICIT]), (2, CT, [IMPLICIT]), (1, None, [])] * 30:
            connection = held.enter_context(connect(here.peer.port))
            connection.sendall(request(context))
            kind, _ = answer(connection)
            assert kind == 2
            connection.sendall(struct.pack(">BxLBBBB", 7, 4, 0, 0, 0, 0))


ENDS = {
    "an abort of source 8": struct.pack(">BxLBBBB", 7, 4, 0, 0, 8, 200),
    "an abort of nothing": struct.pack(">BxL", 7, 0),
    "an abort of much": struct.pack(">BxL", 7, 1000) + bytes(1000),
}


@pytest.mark.parametrize("established", [False, True], ids=["before", "within an association"])
@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_an_abort_ends_whatever_it_holds(unharmed, caplog, end, established):
    with unharmed() as here, connect(here.peer.port) as connection:
        if established:
            connection.sendall(request())
            assert answer(connection)[0] == 2
        connection.sendall(end)
        assert answer(connection) == (0, b"")
    assert caplog.records == []


BROKEN = {
    "an acceptance": struct.pack(">BxLHxx64x", 2, 68, 1),
    "a rejection": struct.pack(">BxLBBBB", 3, 4, 0, 1, 1, 1),
    "a second request": request(),
    "a PDU of type 0": bytes(6),
    "a PDU of type 0x44": struct.pack(">BxL", 0x44, 4) + bytes(4),
    "a release confirmed": struct.pack(">BxLL", 6, 4, 0),
    "data of no context": pdu((77, 3, echo_command()[12:])),
    "a command of no kind": pdu((1, 3, command(0x7777, data_set=False, sop_class=VERIFICATION.decode()))),
    "a command of a number": pdu((1, 3, struct.pack("<HHL", 0, 0x0100, 2) + b"\x30\0")),
    "words": b"GET / HTTP/1.1\r\n\r\n",
}


@pytest.mark.parametrize("stream", BROKEN.values(), ids=BROKEN)
def test_what_is_out_of_place_ends_its_association_with_one_line(unharmed, caplog, stream):
    with unharmed() as here, connect(here.peer.port) as connection:
        connection.sendall(request(calling=b"BAD\x1bONE"))
        assert answer(connection)[0] == 2
        connection.sendall(stream)
        while answer(connection)[0]:
            pass
        wait_until(lambda: not threads_of_associations())
    (line,) = caplog.records
    assert line.getMessage() in ("association_aborted", "connection_closed")
    assert (line.peer, line.address) == ("BAD?ONE at 127.0.0.1", "127.0.0.1")
    assert line.reason
    assert "unforeseen" not in line.reason


def raises(*_args, **_kwargs) -> None:
    raise KeyError("ROE^JANE")  # an error's text may quote a patient


@pytest.mark.parametrize(
    ("owner", "name"),
    [(ACSE, "negotiate_association"), (UpperLayer, "answer_request"), (UpperLayer, "_process_recv_primitive")],
    ids=["the association's", "the upper layer's", "the upper layer's, at once"],
)
def test_whatever_a_thread_raises_closes_its_connection_with_one_line(unharmed, caplog, monkeypatch, owner, name):
    with unharmed() as here, monkeypatch.context() as patch:
        with connect(here.peer.port) as connection:
            patch.setattr(owner, name, raises)
            connection.sendall(request())
            assert answer(connection) == (0, b"")
            wait_until(lambda: not threads_of_associations())
        patch.undo()
    (line,) = caplog.records
    assert line.getMessage() == "connection_closed"
    assert line.peer.endswith("127.0.0.1")
    assert line.reason.startswith("unforeseen KeyError at test_hostile_associations.py:")
    assert "ROE" not in str(vars(line))


def test_an_error_while_a_message_is_served_ends_its_association_alone(unharmed, caplog, monkeypatch):
    with unharmed() as here, connect(here.peer.port) as other:
        other.sendall(request())
        assert answer(other)[0] == 2
        with monkeypatch.context() as patch, connect(here.peer.port) as connection:
            patch.setattr(Listener, "_begin", raises)
            connection.sendall(request((1, CT, [IMPLICIT]), calling=b"UNLUCKY"))
            assert answer(connection)[0] == 2
            connection.sendall(pdu((1, 3, store(1)[0])))
            assert answer(connection) == (0, b"")
        assert echoed(other)
        assert len(here.ends) >= 1
    (line,) = caplog.records
    assert (line.getMessage(), line.peer) == ("connection_closed", "UNLUCKY at 127.0.0.1")


# mutations

ROUNDS = 400


def conversation() -> list[bytes]:
    """An association as it should be: request, C-STORE, C-ECHO, release."""
    said, content = store(1)
    asked = request(
        (1, CT, [b"1.2.840.10008.1.2.1"]),
        (3, VERIFICATION, [IMPLICIT]),
        more=item(0x54, b"\0\x11" + VERIFICATION + b"\1\1"),
    )
    return [asked, pdu((1, 3, said)), pdu((1, 2, content)), echo_command(3), RELEASE]


def mutated(chance: random.Random) -> bytes:
    """A conversation with some bytes changed, cut out or put in, or its PDUs in another order."""
    pdus = conversation()
    match chance.randrange(5):
        case 0:
            chance.shuffle(pdus)
        case 1:
            pdus[chance.randrange(len(pdus))] = chance.randbytes(chance.randrange(60))
    stream = bytearray(b"".join(pdus))
    for _ in range(chance.randrange(1, 5)):
        place = min(int(chance.expovariate(1 / 150)), len(stream) - 1)  # most in the request
        match chance.randrange(4):
            case 0:
                stream[place] = chance.randrange(256)
            case 1:
                stream[place] ^= 1 << chance.randrange(8)
            case 2:
                del stream[place : place + chance.randrange(1, 9)]
            case 3:
                stream[place:place] = chance.randbytes(chance.randrange(1, 9))
    return bytes(stream)


@pytest.mark.filterwarnings("ignore:Invalid value for VR:UserWarning")
def test_mutated_associations_leave_no_thread_no_connection_and_no_traceback(unharmed, caplog, tmp_path):
    chance = random.Random(16)
    limits = Limits(request_seconds=0.5, idle_seconds=0.5, free_bytes=0)
    with unharmed(limits=limits) as here, contextlib.ExitStack() as held:
        for number in range(ROUNDS):
            connection = held.enter_context(connect(here.peer.port))
            with contextlib.suppress(ConnectionError):  # the node may have closed already
                connection.sendall(mutated(chance))
            if number % 3 == 0:
                connection.close()
            if number % 100 == 50:
                assert echo(here.peer, calling_ae="A", timeouts=SOON).peer == here.peer
    ends = ("association_aborted", "association_refused", "connection_closed")
    assert 50 < sum(record.getMessage() in ends for record in caplog.records) <= ROUNDS
    assert all(line.isprintable() for record in caplog.records for line in map(str, vars(record).values()))
    assert "Small" not in " ".join(str(vars(record)) for record in caplog.records)  # the patient of the instance

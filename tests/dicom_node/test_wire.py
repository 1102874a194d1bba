"""Bytes on a real association that no sender in its right mind would send, and those that only few do."""

import itertools
import logging
import struct
import threading
from contextlib import contextmanager

import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, MRImageStorage
from pynetdicom.dsutils import encode
from pynetdicom.presentation import build_context
from pynetdicom.sop_class import Verification

from dicom_node.scp.access import Limits
from dicom_node.scu.association import associated
from dicom_node.storage.incoming import Incoming
from tests.support.examples import examples
from tests.support.instances import small_instance
from tests.support.waiting import wait_until
from tests.support.wire import C_ECHO_RQ, command, pdu, store

pytestmark = pytest.mark.peers

CONTEXTS = [build_context(CTImageStorage, ExplicitVRLittleEndian), build_context(Verification, ExplicitVRLittleEndian)]
CT, ECHO, NEVER = 1, 3, 5  # presentation contexts, the last was not negotiated


def echo(message: int) -> bytes:
    """The command set of a C-ECHO request."""
    return command(C_ECHO_RQ, message, data_set=False, sop_class=Verification)


def cut(content: bytes, places: list[int]) -> list[bytes]:
    """The pieces between places, of which none is behind the end."""
    places = sorted({place for place in places if 0 < place < len(content)})
    return [content[start:end] for start, end in zip([0, *places], [*places, len(content)], strict=True)]


def values(context: int, content: bytes, places: list[int], *, is_command: bool) -> list[tuple[int, int, bytes]]:
    """Presentation data values of a message, cut at `places`."""
    pieces = cut(content, places)
    return [(context, is_command + 2 * (number == len(pieces) - 1), fragment) for number, fragment in enumerate(pieces)]


class Line:
    """The bytes of an association whose negotiation was pynetdicom's."""

    def __init__(self, association) -> None:
        self.association = association

    def sends(self, *stream: bytes) -> None:
        for content in stream:
            self.association.dul.socket.socket.sendall(content)

    def hears(self) -> tuple[int, int]:
        """Message and status of the next response."""
        _, response = self.association.dimse.get_msg(block=True)
        return response.MessageIDBeingRespondedTo, response.Status


@pytest.fixture
def line():
    """`with line(here) as peer:` is an association to write bytes into."""

    @contextmanager
    def run(here):
        with associated(here.peer, CONTEXTS, calling_ae="SCU") as association:
            association._reactor_checkpoint.clear()  # pynetdicom takes no message off its queue
            wait_until(lambda: association._is_paused)
            try:
                yield Line(association)
            finally:
                association._reactor_checkpoint.set()

    return run


def unfinished(here) -> list:
    return [path for path in (here.store.home / "incoming").rglob("*") if path.is_file()]


@given(st.data())
@examples(12, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_messages_arrive_however_they_are_cut_into_values_pdus_and_writes(site, line, tmp_path_factory, data):
    """Two C-STOREs with a C-ECHO between them, and no waiting for a response."""
    places = st.lists(st.integers(1, 500), max_size=8)
    said = []
    for message, number in ((1, 1), (2, None), (3, 2)):
        if number is None:
            said += values(ECHO, echo(message), data.draw(places), is_command=True)
        else:
            first, second = store(number, message)
            said += values(CT, first, data.draw(places), is_command=True)
            said += values(CT, second, data.draw(places), is_command=False)
    ends = sorted({0, len(said), *data.draw(st.lists(st.integers(0, len(said)), max_size=8))})
    stream = b"".join(pdu(*said[start:end]) for start, end in itertools.pairwise(ends))
    with site(home=tmp_path_factory.mktemp("home")) as here, line(here) as peer:
        peer.sends(*cut(stream, data.draw(st.lists(st.integers(1, len(stream)), max_size=6))))
        assert sorted(peer.hears() for _ in range(3)) == [(1, 0), (2, 0), (3, 0)]
        assert [dcmread(stored.path).InstanceNumber for stored in here.store.walk()] == [1, 2]
        wait_until(lambda: not unfinished(here))


def hostile() -> dict[str, bytes]:
    """Streams after which an association cannot go on."""
    said, content = store(2)
    begun = pdu((CT, 3, said))
    return {
        "a presentation context that was not negotiated": pdu((NEVER, 3, said), (NEVER, 2, content)),
        "another context in the middle of a message": begun + pdu((ECHO, 2, content)),
        "data before any command": pdu((CT, 2, content)),
        "a command in the middle of a data set": begun + pdu((CT, 0, content[:100])) + pdu((CT, 3, said)),
        "a PDU longer than negotiated": begun + struct.pack(">BBL", 4, 0, 2**31),
        "a value longer than its PDU": begun + struct.pack(">BBLLBB", 4, 0, 100, 1000, CT, 2),
        "a PDU type that is none": begun + struct.pack(">BBL", 0x44, 0, 100),
        "a command set of garbage": pdu((CT, 3, b"no command at all, only words")),
        "a control PDU of four gigabytes": struct.pack(">BBL", 5, 0, 0xFFFFFFF0),
    }


@pytest.mark.parametrize("stream", hostile().values(), ids=hostile())
def test_what_cannot_go_on_is_aborted_keeps_what_was_acknowledged_and_leaves_nothing_else(site, line, stream):
    with site() as here:
        with line(here) as peer:
            said, content = store(1)
            peer.sends(pdu((CT, 3, said), (CT, 2, content)))
            assert peer.hears() == (7, 0)
            peer.sends(stream)
            wait_until(lambda: here.ends)
            peer.association._reactor_checkpoint.set()
        assert here.ends[0].aborted
        assert [stored.sop_uid for stored in here.store.walk()] == ["1.2.3.4.1"]
        wait_until(lambda: not unfinished(here))  # by another thread than the one that told the end
        assert here.quarantined() == []
        with line(here) as other:
            said, content = store(3)
            other.sends(pdu((CT, 3, said), (CT, 2, content)))
            assert other.hears() == (7, 0)


@pytest.mark.parametrize("silent_in", ["a PDU header", "a PDU", "a release request"])
def test_a_peer_that_falls_silent_is_given_up(site, line, silent_in):
    """A cable that was pulled out sends no end."""
    said, content = store(1)
    stream = {
        "a PDU header": pdu((CT, 3, said)) + b"\4\0",
        "a PDU": pdu((CT, 3, said)) + pdu((CT, 2, content))[:-20],
        "a release request": b"\5\0",
    }
    with site(limits=Limits(free_bytes=0, idle_seconds=0.5)) as here:
        with line(here) as peer:
            peer.sends(stream[silent_in])
            wait_until(lambda: here.ends)
            peer.association._reactor_checkpoint.set()
        assert here.ends[0].aborted
        assert list(here.store.walk()) == []
        wait_until(lambda: not unfinished(here))


def test_a_long_data_set_is_never_held_in_memory(site, line, monkeypatch):
    """Its pieces are written as they come, and no piece is longer than what is read at once."""
    written, write = [], Incoming.write
    monkeypatch.setattr(Incoming, "write", lambda self, content: (written.append(len(content)), write(self, content)))
    content = encode(small_instance(1, PixelData=bytes(2**24)), is_implicit_vr=False, is_little_endian=True)
    with site() as here, line(here) as peer:
        pieces = cut(content, list(range(0, len(content), 100_000)))
        peer.sends(pdu((CT, 3, store(1)[0])))
        for number, piece in enumerate(pieces):
            peer.sends(pdu((CT, 2 * (number == len(pieces) - 1), piece)))
        assert peer.hears() == (7, 0)
        (stored,) = here.store.walk()
        assert len(dcmread(stored.path).PixelData) == 2**24
    assert sum(written) > 2**24
    assert max(written) <= 2**18


def test_the_responses_of_one_association_wait_for_no_other(site, line):
    """One that waits for its disk holds up nobody."""
    reached, go_on = threading.Event(), threading.Event()

    def slow(arrival) -> None:
        if arrival.sop_uid == "1.2.3.4.1":
            reached.set()
            assert go_on.wait(20)

    with site(on_arrival=slow) as here, line(here) as first, line(here) as second:
        said, content = store(1)
        first.sends(pdu((CT, 3, said), (CT, 2, content)))
        assert reached.wait(20)
        said, content = store(2, 9)
        second.sends(pdu((CT, 3, said), (CT, 2, content)))
        assert second.hears() == (9, 0)
        go_on.set()
        assert first.hears() == (7, 0)


def test_another_sop_class_than_that_of_its_context_is_refused(site, line, caplog):
    """0x0122, SOP class not supported (PS3.7 section 9.1.1.1.9); the instance is put aside, and the next one taken."""
    other = small_instance(1, sop_class=MRImageStorage)
    content = encode(other, is_implicit_vr=False, is_little_endian=True)
    with caplog.at_level(logging.WARNING), site() as here, line(here) as peer:
        peer.sends(pdu((CT, 3, command(sop_uid="1.2.3.4.1", sop_class=MRImageStorage)), (CT, 2, content)))
        assert peer.hears() == (7, 0x0122)
        assert list(here.store.walk()) == []
        assert len(here.quarantined()) == 1
        (said,) = [record for record in caplog.records if record.getMessage() == "instance_quarantined"]
        assert said.reason == f"its SOP class is not {CTImageStorage}, that of its context"
        said, content = store(2)
        peer.sends(pdu((CT, 3, said), (CT, 2, content)))
        assert peer.hears() == (7, 0)

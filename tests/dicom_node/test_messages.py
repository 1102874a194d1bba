"""DIMSE messages in pieces: C-STORE requests are served one after the other, everything else is passed on whole."""

import itertools
from io import BytesIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pynetdicom.dimse_messages import C_STORE_RSP
from pynetdicom.dsutils import decode

from dicom_node.upper_layer.command import C_STORE_RQ, Command, MalformedCommandError, read_command, store_response
from dicom_node.upper_layer.messages import Messages
from dicom_node.upper_layer.pdata import MalformedPduError, Piece
from tests.support.wire import C_ECHO_RQ, command

STORAGE, OTHER = 1, 3
N_ACTION_RQ = 0x0130


class Kept:
    """A C-STORE request being served, and what became of it."""

    def __init__(self, request: Command, syntax) -> None:
        self.request, self.syntax, self.content, self.ended = request, syntax, b"", ""

    def write(self, content: memoryview) -> None:
        self.content += content

    def finish(self) -> tuple[int, str]:
        self.ended = "finished"
        return 0, ""

    def discard(self) -> None:
        self.ended = self.ended or "discarded"


class Peer:
    """The messages of one association, with what was kept and what passed on."""

    def __init__(self) -> None:
        self.kept: list[Kept] = []
        self.passed_on: list[tuple[int, bytes]] = []
        self.messages = Messages({STORAGE: ExplicitVRLittleEndian}, self._begin, self._pass_on)

    def _begin(self, *request) -> Kept:
        self.kept.append(Kept(*request))
        return self.kept[-1]

    def _pass_on(self, *fragment) -> None:
        self.passed_on.append(fragment)

    def sends(self, content: bytes, *, cuts=(), is_command=True, context=STORAGE) -> list[bytes]:
        """A command set or a data set in pieces that end at `cuts`; the answers."""
        places = [0, *sorted(cuts), len(content)]
        pieces = [content[start:end] for start, end in itertools.pairwise(places)]
        last = len(pieces) - 1
        answers = [
            self.messages.take(Piece(context, is_command, memoryview(piece), number == last))
            for number, piece in enumerate(pieces)
        ]
        return [answer for answer in answers if answer]


requests = st.tuples(
    st.sampled_from([C_STORE_RQ, C_ECHO_RQ, N_ACTION_RQ]), st.integers(0, 65535), st.binary(max_size=60), st.data()
)


@given(st.lists(requests, max_size=5))
@settings(deadline=None)
def test_whatever_comes_in_whatever_pieces_is_served_in_its_order(messages):
    peer, kept, passed_on = Peer(), [], []
    for field, number, content, data in messages:
        has_data_set = field != C_ECHO_RQ
        said = command(field, number, data_set=has_data_set)
        cuts = st.lists(st.integers(0, len(said)), max_size=4)
        answers = peer.sends(said, cuts=data.draw(cuts))
        if has_data_set:
            cuts = st.lists(st.integers(0, len(content)), max_size=4)
            answers += peer.sends(content, cuts=data.draw(cuts), is_command=False)
        if field == C_STORE_RQ:
            kept.append((number, content))
            assert answers == [store_response(peer.kept[-1].request, 0)]
        else:
            passed_on.append((STORAGE, b"\3" + said))
            if has_data_set:
                passed_on.append((STORAGE, b"\2" + content))
            assert answers == []
    assert [(one.request.message_id, one.content) for one in peer.kept] == kept
    assert all(one.ended == "finished" for one in peer.kept)
    assert peer.passed_on == passed_on


def test_a_c_store_where_no_storage_was_negotiated_is_passed_on():
    peer = Peer()
    peer.sends(command(), context=OTHER)
    peer.sends(b"data", is_command=False, context=OTHER)
    assert peer.kept == []
    assert peer.passed_on == [(OTHER, b"\3" + command()), (OTHER, b"\2data")]


def test_what_does_not_come_to_its_end_leaves_nothing():
    peer = Peer()
    peer.sends(command())
    peer.messages.take(Piece(STORAGE, False, memoryview(b"half"), False))
    peer.messages.discard()
    assert [one.ended for one in peer.kept] == ["discarded"]


def test_a_request_without_a_data_set_is_answered_at_once():
    peer = Peer()
    (answer,) = peer.sends(command(data_set=False))
    assert answer
    assert [one.content for one in peer.kept] == [b""]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (Piece(STORAGE, False, memoryview(b"x"), True), None),
        (Piece(STORAGE, True, memoryview(command()), True), Piece(STORAGE, True, memoryview(command()), True)),
        (Piece(STORAGE, True, memoryview(command()), True), Piece(OTHER, False, memoryview(b"x"), True)),
        (Piece(STORAGE, True, memoryview(b"x"), False), Piece(OTHER, True, memoryview(b"x"), False)),
        (Piece(STORAGE, True, memoryview(bytes(2**15 + 1)), False), None),
    ],
    ids=["data before a command", "a command in a data set", "two contexts", "two contexts in a command", "too long"],
)
def test_pieces_that_do_not_belong_together_end_the_association(first, second):
    messages = Peer().messages
    with pytest.raises(MalformedPduError):  # noqa: PT012 (either of the two)
        messages.take(first)
        if second:
            messages.take(second)


@given(st.binary(max_size=120))
def test_any_bytes_are_a_command_set_or_refused(content):
    try:
        found = read_command(content)
    except MalformedCommandError:
        return
    assert 0 <= found.field <= 0xFFFF


@given(st.integers(0, len(command()) - 1))
def test_a_command_set_that_was_cut_is_refused_or_lacks_only_its_end(length):
    try:
        found = read_command(command()[:length])
    except MalformedCommandError:
        return
    assert (found.field, found.sop_uid) == (C_STORE_RQ, "")


@pytest.mark.parametrize(("status", "comment"), [(0, ""), (0xA700, "too little free disk space"), (0xC000, "odd")])
def test_pynetdicom_reads_the_response(status, comment):
    encoded = store_response(Command(C_STORE_RQ, 513, True, CTImageStorage, "1.2.3"), status, comment)
    message = C_STORE_RSP()
    message.command_set = decode(BytesIO(encoded), True, True)
    message.data_set = BytesIO()
    response = message.message_to_primitive()
    assert response.MessageIDBeingRespondedTo == 513
    assert (response.AffectedSOPClassUID, response.AffectedSOPInstanceUID) == (CTImageStorage, "1.2.3")
    assert response.Status == status
    assert (response.ErrorComment or "") == comment
    assert message.command_set.CommandGroupLength == len(encoded) - 12
    assert message.command_set.CommandDataSetType == 0x0101

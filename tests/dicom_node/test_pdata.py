"""P-DATA-TF PDUs: however a stream is cut into PDUs, values and reads, the fragments come out; lies are found out."""

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dicom_node.upper_layer.pdata import MalformedPduError, PDataReader, Piece, command_pdus
from tests.support.wire import Value, pdu

LONGEST = 4096


def read(stream: bytes, cuts: list[int] = [], longest: int = LONGEST) -> list[Value]:  # noqa: B006 (never changed)
    """The whole fragments in a stream that arrives in pieces which end at `cuts`."""
    reader, waiting, found = PDataReader(longest), b"", []
    content = b""
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        waiting += stream[start:end]
        for piece in reader.pieces(memoryview(waiting)):
            content += piece.content
            if piece.last:
                found.append((piece.context_id, 2 + piece.is_command, content))
                content = b""
        waiting = waiting[reader.taken :]
    assert not waiting
    assert not reader.inside
    return found


fragments = st.binary(max_size=40)
values = st.tuples(st.integers(1, 255), st.sampled_from([0, 1, 2, 3]), fragments)


@given(st.lists(st.lists(values, min_size=1, max_size=4), max_size=5), st.data())
@settings(deadline=None)
def test_the_fragments_come_out_however_the_stream_is_cut(pdus, data):
    stream = b"".join(pdu(*values) for values in pdus)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    expected, content = [], b""
    for context_id, control, fragment in (value for values in pdus for value in values):
        content += fragment
        if control & 2:
            expected.append((context_id, control, content))
            content = b""
    assert read(stream, cuts) == expected


@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=6))
@settings(deadline=None)
def test_any_bytes_are_read_or_refused_and_never_read_twice(stream, cuts):
    reader, waiting, given_out = PDataReader(LONGEST), b"", 0
    cuts = sorted(cut for cut in cuts if cut <= len(stream))
    try:
        for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
            waiting += stream[start:end]
            given_out += sum(len(piece.content) for piece in reader.pieces(memoryview(waiting)))
            waiting = waiting[reader.taken :]
    except MalformedPduError:
        pass
    assert given_out <= len(stream)


@pytest.mark.parametrize(
    ("stream", "reason"),
    [
        (struct.pack(">BBL", 4, 0, LONGEST + 1), "4097 bytes where 4096"),
        (struct.pack(">BBL", 4, 0, 0xFFFFFFFF), "where 4096 were negotiated"),
        (struct.pack(">BBL", 4, 0, 0), "0 bytes of a PDU cannot hold"),
        (struct.pack(">BBLL", 4, 0, 4, 0), "4 bytes of a PDU cannot hold"),
        (struct.pack(">BBLLBB", 4, 0, 6, 0, 1, 3), "value of 0 bytes"),
        (struct.pack(">BBLLBB", 4, 0, 6, 1, 1, 3), "value of 1 bytes"),
        (struct.pack(">BBLLBB", 4, 0, 6, 3, 1, 3), "value of 3 bytes in 6"),
        (struct.pack(">BBLLBB", 4, 0, 100, 97, 1, 3), "value of 97 bytes in 100"),
        (struct.pack(">BBLLBB", 4, 0, 100, 0xFFFFFFFF, 1, 3), "value of 4294967295 bytes"),
        (struct.pack(">BBLLBBL", 4, 0, 10, 2, 1, 3, 0), "4 bytes of a PDU cannot hold"),
    ],
)
def test_lengths_that_lie_are_found_out_from_the_headers_alone(stream, reason):
    with pytest.raises(MalformedPduError, match=reason):
        list(PDataReader(LONGEST).pieces(memoryview(stream)))


def test_a_pdu_of_another_type_is_left_alone():
    release = struct.pack(">BBLL", 5, 0, 4, 0)
    reader = PDataReader(LONGEST)
    (piece,) = reader.pieces(memoryview(pdu((1, 3, b"ab")) + release))
    assert (bytes(piece.content), piece.last) == (b"ab", True)
    assert reader.taken == len(pdu((1, 3, b"ab")))
    assert not reader.inside


def test_an_empty_last_fragment_completes_what_came_before():
    assert read(pdu((1, 0, b"ab"), (1, 2, b""))) == [(1, 2, b"ab")]


def test_the_reserved_bits_of_the_control_header_mean_nothing():
    (piece,) = PDataReader(LONGEST).pieces(memoryview(pdu((1, 0xFF, b"ab"))))
    assert piece == Piece(1, True, memoryview(b"ab"), True)


@given(st.binary(min_size=1, max_size=300), st.integers(0, 60))
def test_a_response_fits_the_pdus_that_its_peer_takes(command, longest):
    stream = command_pdus(3, command, longest)
    assert read(stream) == [(3, 3, command)]
    place = 0
    while place < len(stream):
        _, _, length = struct.unpack_from(">BBL", stream, place)
        assert not longest or length <= max(longest, 7)
        place += 6 + length

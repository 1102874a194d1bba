"""Association requests as devices send them: each is accepted, or rejected with a reason and one line of the log."""

import logging
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom_node.scp.access import Access, Limits
from dicom_node.upper_layer.pdata import MalformedPduError
from dicom_node.upper_layer.request import read_request
from tests.support.association_bytes import (
    CT,
    ECHO,
    IMPLICIT,
    VERIFICATION,
    answer,
    connect,
    context_item,
    echoed,
    item,
    request,
    results,
)
from tests.support.examples import examples


def role(uid: bytes, *roles: int) -> bytes:
    return item(0x54, len(uid).to_bytes(2, "big") + uid + bytes(roles))


def identity(kind: int) -> bytes:
    return item(0x58, struct.pack(">BBH", kind, 1, 3) + b"ann" + struct.pack(">H", 0))


RELATED = struct.pack(">H", len(CT)) + CT + struct.pack(">H", len(VERIFICATION)) + VERIFICATION + struct.pack(">H", 0)

TAKEN = {
    "as it should be": {},
    "AE titles padded with NUL": {"calling": b"OLDCT".ljust(16, b"\0"), "called": b"VOXTELL".ljust(16, b"\0")},
    "an AE title in Latin-1": {"calling": "MÜNCHEN".encode("latin-1")},
    "an AE title with a backslash and a bell": {"calling": b"CT\\1\x07"},
    "an AE title of line ends": {"calling": b"A\r\n\x1b[2Jlevel=err"},
    "an empty version name": {"name": b""},
    "a version name of 20 characters": {"name": b"V" * 20},
    "no version name": {"name": None},
    "an implementation UID with a NUL": {"implementation": b"1.2.276.0.7\0"},
    "an empty implementation UID": {"implementation": b""},
    "an implementation UID with a leading zero": {"implementation": b"1.02.3"},
    "an implementation UID that is none": {"implementation": b"none at all"},
    "an application context with a NUL": {"application": b"1.2.840.10008.3.1.1.1\0"},
    "no maximum length": {"longest": None},
    "a maximum length of two bytes": {"longest": b"\1\0"},
    "a maximum length without limit": {"longest": bytes(4)},
    "the longest maximum length": {"longest": b"\xff" * 4},
    "the shortest maximum length": {"longest": struct.pack(">L", 7)},
    "two versions of the protocol": {"version": 3},
    "no user information": {"user": False},
    "asynchronous operations": {"more": item(0x53, bytes(4))},
    "half asynchronous operations": {"more": item(0x53, b"\0")},
    "a user's name": {"more": identity(1)},
    "a Kerberos ticket": {"more": identity(3)},
    "an identity of no known type": {"more": identity(200)},
    "an unknown user item": {"more": item(0x5A, b"what")},
    "an empty user item of type 0": {"more": item(0, b"")},
    "a role of a class that is not proposed": {"more": role(CT, 1, 1)},
    "a role of neither": {"more": role(VERIFICATION, 0, 0)},
    "a role of 7": {"more": role(VERIFICATION, 7, 255)},
    "a role of nothing": {"more": item(0x54, b"")},
    "extended negotiation": {"more": item(0x56, struct.pack(">H", len(CT)) + CT + b"\1\0")},
    "common extended negotiation": {"more": item(0x57, RELATED)},
}


@pytest.mark.peers
@pytest.mark.parametrize("odd", TAKEN.values(), ids=TAKEN)
def test_what_is_odd_but_harmless_is_taken_without_a_word(site, caplog, odd):
    with caplog.at_level(logging.INFO), site() as here, connect(here.peer.port) as connection:
        connection.sendall(request(**odd))
        kind, content = answer(connection)
        assert (kind, results(content)) == (2, {1: 0})
        assert echoed(connection)
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


CONTEXTS = {
    "UIDs padded with NUL": ([(1, VERIFICATION + b"\0", [IMPLICIT + b"\0"])], {1: 0}),
    "an even ID": ([(2, VERIFICATION, [IMPLICIT])], {2: 0}),
    "the ID 0": ([(0, VERIFICATION, [IMPLICIT])], {0: 0}),
    "odd and even IDs": ([(2, VERIFICATION, [IMPLICIT]), (1, CT, [IMPLICIT])], {1: 0, 2: 0}),
    "no transfer syntax": ([ECHO, (3, CT, [])], {1: 0, 3: 4}),
    "an empty transfer syntax": ([ECHO, (3, CT, [b""])], {1: 0, 3: 4}),
    "an empty transfer syntax beside another": ([ECHO, (3, CT, [b"", IMPLICIT])], {1: 0, 3: 0}),
    "a transfer syntax that is a path": ([ECHO, (3, CT, [b"../../x"])], {1: 0, 3: 4}),
    "no abstract syntax": ([ECHO, (3, None, [IMPLICIT])], {1: 0, 3: 3}),
    "an empty abstract syntax": ([ECHO, (3, b"", [IMPLICIT])], {1: 0, 3: 3}),
    "an abstract syntax of letters": ([ECHO, (3, b"CT Image", [IMPLICIT])], {1: 0, 3: 3}),
    "neither": ([ECHO, (5, None, [])], {1: 0, 5: 3}),
    "a flaw in the first": ([(3, CT, []), ECHO], {1: 0, 3: 4}),
    "one ID twice": ([ECHO, (1, CT, [IMPLICIT])], {1: 0}),
}


@pytest.mark.peers
@pytest.mark.parametrize("private", [False, True], ids=["", "private classes"])
@pytest.mark.parametrize(("contexts", "expected"), CONTEXTS.values(), ids=CONTEXTS)
def test_contexts_are_accepted_or_refused_one_by_one(site, caplog, contexts, expected, private):
    with (
        caplog.at_level(logging.WARNING),
        site(access=Access(private_classes=private)) as here,
        connect(here.peer.port) as connection,
    ):
        connection.sendall(request(*contexts))
        kind, content = answer(connection)
        assert (kind, results(content)) == (2, expected)
        echo = next(number for number, uid, _ in contexts if uid is not None and uid.startswith(VERIFICATION))
        assert echoed(connection, echo)
    refused = [number for number, result in expected.items() if result]
    assert [(line.getMessage(), line.peer) for line in caplog.records] == [
        ("contexts_refused", "ODD at 127.0.0.1")
    ] * len(refused)
    assert all(f"presentation context {number} has no " in caplog.records[0].reason for number in refused)


REJECTED = {
    "a blank calling AE title": ({"calling": b""}, (1, 1, 3), "", "it gives no AE title of its own"),
    "a calling AE title of NULs": ({"calling": bytes(16)}, (1, 1, 3), "", "it gives no AE title of its own"),
    "a blank called AE title": ({"called": b""}, (1, 1, 7), "ODD", "it gives no AE title that it calls"),
    "another protocol": ({"version": 2}, (1, 2, 2), "ODD", "it knows protocol version 1 not (0x0002)"),
    "another application": (
        {"application": b"1.2.3"},
        (1, 1, 2),
        "ODD",
        "its application context is not that of DICOM",
    ),
    "no application": ({"application": None}, (1, 1, 2), "ODD", "its application context is not that of DICOM"),
    "PDUs for nothing": (
        {"longest": struct.pack(">L", 6)},
        (1, 2, 1),
        "ODD",
        "its longest PDU, 6 bytes, can hold nothing",
    ),
}


@pytest.mark.peers
@pytest.mark.parametrize(("odd", "why", "calling", "reason"), REJECTED.values(), ids=REJECTED)
def test_what_cannot_be_is_rejected_with_a_reason_and_a_line(site, caplog, odd, why, calling, reason):
    with caplog.at_level(logging.WARNING), site() as here, connect(here.peer.port) as connection:
        connection.sendall(request(**odd))
        assert answer(connection) == (3, bytes([0, *why]))
        assert answer(connection) == (0, b"")
    (line,) = caplog.records
    assert (line.getMessage(), line.address, line.calling_ae) == ("association_refused", "127.0.0.1", calling)
    assert line.reason == reason


def test_a_request_without_contexts_is_rejected():
    empty = request().replace(context_item(*ECHO), b"")
    whole = empty[:2] + struct.pack(">L", len(empty) - 6) + empty[6:]
    rejection = read_request(whole).rejection
    assert rejection is not None
    assert rejection.sentence == "it proposes no presentation context"
    assert rejection.encoded() == bytes([3, 0, 0, 0, 0, 4, 0, 1, 1, 1])


@pytest.mark.peers
@pytest.mark.parametrize(
    ("options", "why", "reason"),
    [
        ({"access": Access(calling_aes=("CT1",))}, (1, 1, 3), "its AE title is not in the list"),
        ({"access": Access(called_ae_must_match=True)}, (1, 1, 7), "it calls the node by another AE title"),
    ],
)
def test_a_refusal_by_the_settings_is_a_line_too(site, caplog, options, why, reason):
    with caplog.at_level(logging.WARNING), site(**options) as here, connect(here.peer.port) as connection:
        connection.sendall(request(called=b"SOMEBODY"))
        assert answer(connection) == (3, bytes([0, *why]))
    (line,) = caplog.records
    assert (line.getMessage(), line.address, line.calling_ae) == ("association_refused", "127.0.0.1", "ODD")
    assert line.reason == reason


@pytest.mark.peers
def test_an_association_too_many_is_a_line_too(site, caplog):
    with (
        caplog.at_level(logging.WARNING),
        site(limits=Limits(associations=1)) as here,
        connect(here.peer.port) as first,
    ):
        first.sendall(request())
        assert answer(first)[0] == 2
        with connect(here.peer.port) as second:
            second.sendall(request(calling=b"SECOND"))
            assert answer(second) == (3, bytes([0, 2, 3, 2]))
        (line,) = caplog.records
        assert (line.getMessage(), line.address, line.calling_ae) == ("association_refused", "127.0.0.1", "SECOND")
        assert line.reason == "the limit of associations is reached"
        assert echoed(first)


@pytest.mark.peers
def test_an_ae_title_has_no_character_that_a_log_could_take_for_more(site, caplog):
    with site() as here, connect(here.peer.port) as connection, caplog.at_level(logging.WARNING):
        connection.sendall(request((1, CT, []), calling=b"A\n\x1b[31m\x9bB\\", called=b"X\r\nY"))
        assert answer(connection)[0] == 2
    (line,) = caplog.records
    assert line.peer == "A??[31m?B? at 127.0.0.1"


CUT = {
    "nothing": b"",
    "half of the fixed part": request()[6:40],
    "half an item": request()[6:-1],
    "the head of an item": request()[6:] + b"\x50",
    "an item within an item": request(more=struct.pack(">BxH", 0x54, 200) + b"\0")[6:],
    "a context of two bytes": request()[6:74] + item(0x20, b"\1\0"),
}


@pytest.mark.peers
@pytest.mark.parametrize("body", CUT.values(), ids=CUT)
def test_items_that_do_not_fit_are_aborted_with_a_line(site, caplog, body):
    with caplog.at_level(logging.WARNING), site() as here, connect(here.peer.port) as connection:
        connection.sendall(struct.pack(">BxL", 1, len(body)) + body)
        assert answer(connection)[0] == 7
        assert answer(connection) == (0, b"")
    (line,) = caplog.records
    assert (line.getMessage(), line.peer, line.exc_info) == ("association_aborted", "127.0.0.1", None)


@given(st.binary(max_size=200), st.integers(0, 260))
@examples(300, derandomize=True)
def test_whatever_comes_is_a_request_or_is_malformed(junk, place):
    """And a request that is not rejected is written as one that reads the same, but for what was put right."""
    whole = request((2, CT, [IMPLICIT, b"1.2.3"]), (3, None, []), ECHO, more=role(CT, 1, 0))
    try:
        read = read_request(whole[:place] + junk + whole[place + len(junk) :])
    except MalformedPduError:
        return
    if read.rejection is None:
        again = read_request(read.encoded())
        assert again.rejection is None
        assert (again.calling_ae, again.called_ae, again.user) == (read.calling_ae, read.called_ae, read.user)
        assert all(context.context_id % 2 and not context.flaw for context in again.contexts)
        assert len(again.contexts) == len(read.contexts)

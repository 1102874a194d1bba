"""The judge of connections: its limits hold whatever comes, who asks is never closed, one address cannot take all."""

import socket
from collections import Counter
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom_node.admission import ConnectionAdmission, Refusal, SocketAddress, network_of, plain

ADDRESSES = ["10.0.0.1", "10.0.0.2", "::ffff:10.0.0.1", "fd00::1", "fd00::2", "fd00:0:0:1::1", "192.168.0.1"]


@dataclass(eq=False)
class Fake(socket.socket):
    """A connection that is open until it is shut down or closed."""

    peer: SocketAddress
    shut: bool = field(default=False, init=False)
    gone: bool = field(default=False, init=False)

    def fileno(self) -> int:
        return -1 if self.gone else 7


@pytest.fixture(autouse=True)
def shut_without_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections are closed below TLS, so by the base class."""
    monkeypatch.setattr(socket.socket, "shutdown", lambda connection, _how: setattr(connection, "shut", True))


def allowed(address: str) -> bool:
    return not plain(address).startswith("192.")


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("comes"), st.sampled_from(ADDRESSES)),
        st.tuples(st.sampled_from(["asks", "waits", "leaves"]), st.integers(0, 30)),
    ),
    max_size=60,
)


@given(STEPS, st.integers(1, 6), st.integers(1, 6), st.integers(0, 2), st.integers(0, 2))
def test_whatever_comes_the_limits_hold(steps, most, per_address, spare, strangers):
    admission = ConnectionAdmission(
        allowed, connections=most, per_address=per_address, spare=spare, strangers=strangers
    )
    here: list[Fake] = []
    asking: set[SocketAddress] = set()
    for number, (what, which) in enumerate(steps):
        if what == "comes":
            new = Fake((which, number))
            ruling = admission.admit(new, new.peer)
            assert (ruling.refusal is Refusal.ADDRESS) <= (not allowed(which))
            here += [] if ruling.refusal else [new]
            for closed in [one for one in here if one.shut]:
                assert closed.peer not in asking, "who asks keeps its place"
                assert ruling.gave_way == plain(closed.peer[0])
                here.remove(closed)
        elif which < len(here):
            one = here[which]
            if what == "leaves":
                here.pop(which).gone = True
            (asking.add if what == "asks" else asking.discard)(one.peer)
            admission.asks(one.peer, what == "asks")
        inside = [one for one in here if allowed(one.peer[0])]
        assert len(inside) <= most + spare
        assert len(here) - len(inside) <= strangers
        assert max(Counter(network_of(one.peer[0]) for one in inside).values(), default=0) <= per_address + spare


def test_where_all_ask_one_more_is_too_many():
    admission = ConnectionAdmission(allowed, connections=2, per_address=2)
    connections = [Fake((f"10.0.0.{number}", 1)) for number in range(3)]
    for one in connections[:2]:
        assert admission.admit(one, one.peer).refusal is None
        admission.asks(one.peer, True)
    assert admission.admit(connections[2], connections[2].peer).refusal is Refusal.CROWD
    connections[0].gone = True
    assert admission.admit(connections[2], connections[2].peer).refusal is None


def test_room_is_made_by_the_address_that_holds_most():
    """An attacker with one address and a scanner that has just connected: the attacker's oldest goes."""
    admission = ConnectionAdmission(allowed, connections=4, per_address=4)
    scanner, *attacker = [Fake(("10.0.0.1", 1)), *(Fake(("10.0.0.2", port)) for port in range(4))]
    for one in (scanner, *attacker[:3]):
        admission.admit(one, one.peer)
    assert admission.admit(attacker[3], attacker[3].peer).gave_way == "10.0.0.2"
    assert [one.shut for one in (scanner, *attacker)] == [False, True, False, False, False]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("10.0.0.1", "::ffff:10.0.0.1", True),
        ("10.0.0.1", "10.0.0.2", False),
        ("fd00::1", "fd00::ffff:1", True),
        ("fd00::1", "fd00:0:0:1::1", False),
        ("fe80::1%eth0", "fe80::2", True),
    ],
)
def test_what_counts_as_one_address(one, other, same):
    assert (network_of(one) == network_of(other)) is same

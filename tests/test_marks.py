"""Every test has one kind, and does only what its kind permits."""

import multiprocessing
import socket
import subprocess
import sys

import pytest

from tests.support.marks import GUARD, KINDS, PEERS, PROCESSES, UNIT, NotPermittedError, kind_of
from tests.support.ports import LOOPBACK, free_port

SLEEP = ["sleep", "0"]
PYTHON = [sys.executable, "-c", ""]


def listen() -> None:
    with socket.socket() as door:
        door.bind((LOOPBACK, 0))


def test_a_test_has_one_kind() -> None:
    assert kind_of(["parametrize", "peers"]) == PEERS
    assert kind_of(["parametrize"]) == UNIT
    with pytest.raises(ValueError, match="it is marked unit and torture; a test has one of"):
        kind_of(["torture", "unit"])


def test_this_test_is_one_of_them(request: pytest.FixtureRequest) -> None:
    """The hook in tests/conftest.py has marked it, so that `pytest -m unit` finds it."""
    assert [mark.name for mark in request.node.iter_markers() if mark.name in KINDS] == [UNIT]


def test_a_unit_test_listens_on_nothing_and_starts_nothing() -> None:
    with pytest.raises(NotPermittedError, match=r"socket\.bind .* in a unit test; mark it peers"):
        listen()
    with pytest.raises(NotPermittedError, match=r"subprocess\.Popen .* in a unit test; mark it peers"):
        subprocess.run(SLEEP, check=True)
    with pytest.raises(NotPermittedError, match="in a unit test; mark it processes"):
        subprocess.run(PYTHON, check=True)
    with pytest.raises(NotPermittedError, match="in a unit test; mark it processes"):
        multiprocessing.get_context("spawn").Process(target=listen).start()
    with pytest.raises(NotPermittedError, match=r"sleep.*python"):  # as at the end of the test, had it swallowed them
        GUARD.check()
    GUARD.check()


def test_a_test_with_peers_starts_no_process_of_the_node() -> None:
    with GUARD.watching(PEERS):
        listen()
        subprocess.run(SLEEP, check=True)
        with pytest.raises(NotPermittedError, match="in a peers test; mark it processes"):
            subprocess.run(PYTHON, check=True)
    with GUARD.watching(PROCESSES):
        subprocess.run(PYTHON, check=True)
    with pytest.raises(NotPermittedError):
        GUARD.check()


def test_a_port_is_found_in_any_test() -> None:
    assert 0 < free_port() < 65536
    with pytest.raises(NotPermittedError):
        listen()
    with pytest.raises(NotPermittedError):
        GUARD.check()

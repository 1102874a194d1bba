"""Reports are received in a process of their own: what happens to it does not reach the DICOM port."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from tests.support.peers import running
from tests.support.ports import LOOPBACK, free_port
from tests.support.reports import ORU

pytestmark = pytest.mark.processes

ROOT = Path(__file__).parents[2]
LISTEN = """
from worker import roles
from worker.settings import load
roles.RESTART_SECONDS = 0.2
roles.listen(load())
"""
SECONDS = 60.0  # a loaded machine may take long; a hang must still end


@contextmanager
def listening(home: Path, **settings: int) -> Iterator[subprocess.Popen[bytes]]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("VOXTELL_")}
    environment |= {"VOXTELL_HOME": str(home)} | {f"VOXTELL_{name}".upper(): str(n) for name, n in settings.items()}
    home.mkdir(mode=0o700)
    with (
        (home / "log").open("wb") as lines,
        running([sys.executable, "-c", LISTEN], cwd=ROOT, env=environment, stdout=lines, stderr=lines) as process,
    ):
        yield process


def soon(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def receivers(listener: subprocess.Popen[bytes]) -> list[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        return [
            child for child in psutil.Process(listener.pid).children() if "receive-reports" in " ".join(child.cmdline())
        ]
    return []


def answer(port: int) -> bytes:
    """The answer to a report; empty while nobody takes it."""
    with suppress(OSError), socket.create_connection((LOOPBACK, port), 20) as line:
        line.sendall(b"\x0b" + ORU.encode() + b"\x1c\r")
        return line.recv(65536)
    return b""


def is_open(port: int) -> bool:
    with suppress(OSError), socket.create_connection((LOOPBACK, port), 20):
        return True
    return False


@pytest.mark.timeout(240)
def test_a_receiver_that_dies_takes_nothing_along_and_comes_again(tmp_path: Path) -> None:
    dicom, hl7 = free_port(), free_port()
    with listening(tmp_path / "home", port=dicom, hl7_port=hl7) as listener:
        soon(lambda: b"MSA|AA|MSG7" in answer(hl7))
        (first,) = receivers(listener)
        held = [socket.create_connection((LOOPBACK, hl7), 20) for _ in range(200)]
        assert psutil.Process(listener.pid).num_fds() < 100, "they are not the listener's"
        first.kill()
        assert is_open(dicom)
        soon(lambda: b"MSA|AA|MSG7" in answer(hl7))
        (second,) = receivers(listener)
        assert second.pid != first.pid
        for line in held:
            line.close()
        listener.send_signal(signal.SIGKILL)
        soon(lambda: not second.is_running() or second.status() == psutil.STATUS_ZOMBIE)
    assert "role_ended" in (tmp_path / "home" / "log").read_text()


@pytest.mark.timeout(240)
def test_a_port_for_reports_that_is_taken_ends_the_listener_with_a_sentence(tmp_path: Path) -> None:
    with socket.create_server((LOOPBACK, 0)) as other:
        hl7 = other.getsockname()[1]
        with listening(tmp_path / "home", port=free_port(), hl7_port=hl7) as listener:
            assert listener.wait(SECONDS * 2) != 0
    told = (tmp_path / "home" / "log").read_text()
    assert f"{LOOPBACK}:{hl7}: Address already in use; give a free address" in told
    assert "receive-reports ended at once" in told


@pytest.mark.timeout(240)
def test_a_listener_ends_with_its_receiver_when_it_is_told_to(tmp_path: Path) -> None:
    hl7 = free_port()
    with listening(tmp_path / "home", port=free_port(), hl7_port=hl7) as listener:
        soon(lambda: is_open(hl7))
        (receiver,) = receivers(listener)
        listener.terminate()
        assert listener.wait(SECONDS) == 0
        assert not receiver.is_running()

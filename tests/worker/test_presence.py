"""Who is at work on a home: a lock for each role, which ends with its process, and one for `up`."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.command_line import sentence, voxtell_dicom
from worker.maintenance.presence import LISTEN, SEGMENT, AlreadyUpError, alone_up, at_work, is_at_work
from worker.queue.embedded_server import queue_answers, running_queue
from worker.settings import Settings

HOLD = """
import sys
from pathlib import Path
from worker.maintenance.presence import at_work
with at_work(Path(sys.argv[1]), "listen"):
    print("holds", flush=True)
    sys.stdin.read()
"""


def test_a_role_is_at_work_as_long_as_one_process_of_it_is(tmp_path: Path) -> None:
    assert not is_at_work(tmp_path, LISTEN)
    assert list(tmp_path.iterdir()) == [], "asking makes nothing"
    with at_work(tmp_path, LISTEN):
        with at_work(tmp_path, LISTEN):
            assert is_at_work(tmp_path, LISTEN)
        assert is_at_work(tmp_path, LISTEN), "another one still is"
        assert not is_at_work(tmp_path, SEGMENT)
    assert not is_at_work(tmp_path, LISTEN)


@pytest.mark.processes
def test_a_process_that_was_killed_is_not_at_work(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"holds\n"
        assert is_at_work(tmp_path, LISTEN)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert not is_at_work(tmp_path, LISTEN)


def facts(home: Path) -> dict[str, tuple[int, int, int]]:
    """Mode, size and time of everything in a home, but for sockets, which have none."""
    return {
        str(path.relative_to(home)): (path.stat().st_mode, path.stat().st_size, path.stat().st_mtime_ns)
        for path in sorted(home.rglob("*"))
    }


@pytest.mark.processes
def test_a_second_up_on_a_home_touches_nothing(tmp_path: Path, free_port: int) -> None:
    home = tmp_path / "home"
    settings = Settings(home=home)
    with alone_up(home), running_queue(settings):
        home.chmod(0o755)  # the start of a node would close it
        before = facts(home)
        done = voxtell_dicom("up", home=home, port=free_port)
        assert sentence(done).startswith(f"voxtell-dicom: a node is up on {home} already; ")
        assert facts(home) == before
        assert home.stat().st_mode & 0o777 == 0o755
        assert queue_answers(settings), "the queue of the node that is up goes on"


def test_a_home_is_free_again_when_its_node_has_ended(tmp_path: Path) -> None:
    home = tmp_path / "new" / "home"
    with alone_up(home), pytest.raises(AlreadyUpError), alone_up(home):
        pass
    with alone_up(home):
        assert home.stat().st_mode & 0o777 == 0o700

"""One process computes at a time; a process that dies in its turn takes nothing along."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from worker.engines import devices
from worker.engines.devices import device_lock, processes_for
from worker.maintenance.destination_lock import destination_lock

HOLDS_ITS_TURN = """
import sys, time
from pathlib import Path
from worker.engines.devices import device_lock
with device_lock(Path(sys.argv[1]), "cuda:0"):
    print("mine", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def rival(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process as in another container, with a /tmp of its own: it has its turn at cuda:0 and does not let go."""
    (tmp_path / "tmp").mkdir()
    environment = {**os.environ, "TMPDIR": str(tmp_path / "tmp")}
    command = [sys.executable, "-c", HOLDS_ITS_TURN, str(tmp_path / "home")]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "mine\n"
        yield process
        process.kill()


@pytest.mark.processes
def test_a_process_waits_until_the_one_before_it_is_done_however_that_ends(
    rival: subprocess.Popen[str], tmp_path: Path
) -> None:
    mine = threading.Event()

    def wait_for_it() -> None:
        with device_lock(tmp_path / "home", "cuda:0"):
            mine.set()

    thread = threading.Thread(target=wait_for_it)
    thread.start()
    assert not mine.wait(0.5)
    rival.send_signal(signal.SIGKILL)
    assert mine.wait(30)
    thread.join()


@pytest.mark.processes
@pytest.mark.usefixtures("rival")
def test_another_device_is_free_meanwhile_and_so_is_a_destination_of_that_name(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with device_lock(home, "cuda:1"), device_lock(home, "cpu"), destination_lock(home, "cuda:0") as mine:
        assert mine
    assert list((tmp_path / "tmp").iterdir()) == []


def test_one_at_a_time_is_at_a_destination_and_nobody_waits_for_it(tmp_path: Path) -> None:
    with destination_lock(tmp_path, "../pacs") as mine:
        assert mine
        with destination_lock(tmp_path, "../pacs") as second, destination_lock(tmp_path, "archive") as other:
            assert (second, other) == (False, True)
    with destination_lock(tmp_path, "../pacs") as mine:
        assert mine


def test_a_gpu_gets_two_processes_and_a_cpu_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = tmp_path / "nvidiactl"
    monkeypatch.setattr(devices, "GPU_FILES", (gpu,))
    assert [processes_for(device) for device in ("cuda", "cuda:1", "cpu", "auto")] == [2, 2, 1, 1]
    gpu.touch()
    assert [processes_for(device) for device in ("cpu", "auto")] == [1, 2]

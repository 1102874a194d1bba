"""`up` keeps the roles running: one that cannot be started again for the moment takes no other along."""

import errno
import os
import signal
import subprocess
from pathlib import Path

import pytest

from worker import child_processes, logs, roles
from worker.settings import Settings

pytestmark = pytest.mark.peers


@pytest.mark.timeout(120)
def test_a_role_that_cannot_be_started_again_now_is_tried_at_the_next_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The delivery is killed at a moment when the machine takes no more processes."""
    started: list[tuple[str, subprocess.Popen[bytes]]] = []
    tried: list[str] = []

    def start(role: str) -> subprocess.Popen[bytes]:
        tried.append(role)
        if len(tried) == len(roles.ROLES) + 1:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        process = subprocess.Popen(["sleep", "600"])
        started.append((role, process))
        if len(tried) == len(roles.ROLES):
            process.kill()
        elif len(tried) > len(roles.ROLES):
            assert all(other.poll() is None for name, other in started if name != "deliver-worker")
            os.kill(os.getpid(), signal.SIGTERM)
        return process

    monkeypatch.setattr(child_processes, "start_role", start)
    monkeypatch.setattr(roles, "RESTART_SECONDS", 0.1)
    monkeypatch.setattr(logs, "configure", lambda *_: None)
    roles.up(Settings(home=tmp_path))
    assert tried == [*roles.ROLES, "deliver-worker", "deliver-worker"]
    assert all(process.poll() is not None for _, process in started)

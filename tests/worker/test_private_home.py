"""HOME is for the node's user alone: what is written there, what an earlier version left, and what `doctor` says."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from typer.testing import CliRunner

from worker.__main__ import app
from worker.private_home import keep_private, open_to_others

ROOT = Path(__file__).parents[2]


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.processes
def test_what_is_written_is_for_this_user_only(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with capture_logs() as told:
        keep_private(home)
    (home / "studies").mkdir()
    (home / "studies" / "image.dcm").write_bytes(b"DICM")
    child = [sys.executable, "-c", "import sys; open(sys.argv[1], 'w')", str(home / "by-a-child")]
    subprocess.run(child, check=True)
    paths = [home / "studies", home / "studies" / "image.dcm", home / "by-a-child"]
    assert [oct(mode(path)) for path in (home, *paths)] == ["0o700", "0o700", "0o600", "0o600"]
    assert told == []


def test_a_home_of_before_is_closed_with_one_line(tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / "studies").mkdir(parents=True)
    (home / "ledger.sqlite").write_bytes(b"names")
    outside = tmp_path / "protocols"
    outside.mkdir()
    (home / "protocols").symlink_to(outside)
    with capture_logs() as told:
        keep_private(home)
        keep_private(home)
    assert [(line["event"], line["mode"]) for line in told] == [("home_closed_to_others", "0755")]
    assert (mode(home), mode(home / "studies"), mode(home / "ledger.sqlite")) == (0o700, 0o700, 0o600)
    assert mode(outside) == 0o755, "it lies elsewhere and is the site's own affair"


def test_a_home_that_may_not_be_changed_is_left_with_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_path: Path, _mode: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "chmod", refuse)
    with capture_logs() as told:
        keep_private(tmp_path)
    if open_to_others(tmp_path):
        (line,) = told
        assert (line["event"], line["problem"]) == ("home_open_to_others", "Operation not permitted")


@pytest.mark.peers
@pytest.mark.parametrize(("permissions", "mark"), [(0o755, "FAIL"), (0o750, "FAIL"), (0o700, "ok  ")])
def test_doctor_says_who_else_may_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, permissions: int, mark: str
) -> None:
    tmp_path.chmod(permissions)
    monkeypatch.setenv("VOXTELL_HOME", str(tmp_path))
    monkeypatch.setenv("VOXTELL_MIN_FREE_BYTES", "0")
    line = next(line for line in CliRunner().invoke(app, ["doctor"]).stdout.splitlines() if " home " in line)
    assert line.startswith(mark)
    assert (f"mode {permissions:04o}" in line) == (mark == "FAIL")


@pytest.mark.peers
@pytest.mark.parametrize(
    "command",
    ["jobs", "jobs show 0", "protocols check", "protocols explain --study 1.2", "ledger rebuild", "doctor"],
)
def test_a_home_that_a_command_makes_is_for_this_user_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    home = tmp_path / "home"
    monkeypatch.setenv("VOXTELL_HOME", str(home))
    monkeypatch.setenv("VOXTELL_PORT", "1")
    CliRunner().invoke(app, command.split())
    assert home.is_dir()
    assert [path for path in (home, *home.rglob("*")) if open_to_others(path)] == []


ROLE = """
import os, signal, sys, threading, time
from worker import roles
from worker.settings import load
def stop():
    while signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        time.sleep(0.05)
    os.kill(os.getpid(), signal.SIGTERM)
threading.Thread(target=stop).start()
roles.listen(load())
"""


@pytest.mark.processes
def test_a_listener_leaves_nothing_that_others_can_read(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o755)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("VOXTELL_")}
    environment |= {"VOXTELL_HOME": str(home), "VOXTELL_PORT": "0"}
    done = subprocess.run(
        [sys.executable, "-c", ROLE],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "home_closed_to_others" in done.stderr
    wide = [path for path in (home, *home.rglob("*")) if open_to_others(path)]
    assert (home / "ledger.sqlite").exists()
    assert wide == []

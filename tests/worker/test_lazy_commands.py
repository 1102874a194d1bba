"""A command imports what it needs and no more; the list of commands imports none of them."""

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from worker.__main__ import COMMANDS, app
from worker.ledger import Ledger
from worker.settings import Settings

HEAVY = {
    "SimpleITK",
    "alembic",
    "celery",
    "dicom_node.scu.stow",
    "dicomweb_client",
    "fastapi",
    "highdicom",
    "hl7",
    "nibabel",
    "numpy",
    "pydantic",
    "pydicom",
    "pynetdicom",
    "redis",
    "sqlalchemy",
    "sqlalchemy.dialects.postgresql",
    "structlog",
    "torch",
    "uvicorn",
    "voxtell",
}
RUN = """
import sys
sys.argv = ["voxtell-dicom", *sys.argv[1:]]
from worker.__main__ import main
try:
    main()
finally:
    print("loaded", *sys.modules, file=sys.stderr)
"""


def heavy_modules(home: Path, *words: str) -> tuple[int, set[str]]:
    """The exit code of a command in a process of its own, and which of the heavy packages and modules it loaded."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("VOXTELL_")}
    environment["VOXTELL_HOME"] = str(home)
    command = [sys.executable, "-c", RUN, *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    mark, *loaded = done.stderr.splitlines()[-1].split()
    assert mark == "loaded"
    return done.returncode, HEAVY & set(loaded)


@pytest.mark.processes
@pytest.mark.parametrize("words", [("--help",), ("--version",), ("listen", "--help"), ("jobs", "--nonsense")])
def test_help_and_wrong_words_load_nothing_heavy(tmp_path: Path, words: tuple[str, ...]):
    _, loaded = heavy_modules(tmp_path, *words)
    expected = {"jobs": {"pydantic", "sqlalchemy"}, "listen": {"pydantic"}}  # of the settings
    assert loaded <= expected.get(words[0], set())


@pytest.mark.processes
def test_jobs_loads_the_database_alone(tmp_path: Path):
    Ledger(Settings(home=tmp_path).ledger_url).close()  # whose tables are up to date
    assert heavy_modules(tmp_path, "jobs") == (0, {"pydantic", "sqlalchemy"})
    assert heavy_modules(tmp_path, "jobs", "--json") == (0, {"pydantic", "sqlalchemy"})


@pytest.mark.processes
def test_imports_are_taken_off_the_garbage_collector_once(tmp_path: Path):
    script = """
import gc
from worker.__main__ import COMMANDS
freeze, calls = gc.freeze, []
gc.freeze = lambda: calls.append(freeze())
COMMANDS[0].load()
COMMANDS[1].load()
print(len(calls), gc.get_freeze_count(), gc.isenabled())
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    calls, frozen, enabled = done.stdout.split()
    assert (calls, enabled) == ("1", "True")
    assert int(frozen) > 10_000


@pytest.mark.processes
def test_a_line_of_the_log_does_not_go_to_standard_output():
    script = "from worker.logs import get_logger; get_logger().warning('said')"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert (done.stdout, "said" in done.stderr) == ("", True)


@pytest.mark.processes
def test_echo_loads_the_network_side_of_dicom_alone(tmp_path: Path):
    code, loaded = heavy_modules(tmp_path, "echo", "NOBODY@127.0.0.1:1")
    assert (code, loaded) == (1, {"numpy", "pydantic", "pydicom", "pynetdicom"})  # pydicom brings numpy


@pytest.mark.parametrize("declared", COMMANDS, ids=lambda one: one.name)
def test_the_list_says_what_the_command_says_of_itself(declared):
    first = (declared.load().help or "").strip().split("\n\n")[0].replace("\n", " ")
    assert declared.help == first
    assert declared.listed().help == first


def test_the_list_holds_every_command_and_their_help_is_the_real_one():
    listed = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "200"}).output
    assert all(f" {one.name} " in listed and one.help[:40] in listed for one in COMMANDS)
    assert list(get_command(app).commands) == [one.name for one in COMMANDS]
    assert "Only jobs in this state." in CliRunner().invoke(app, ["jobs", "--help"]).output
    assert "--save-combined" in CliRunner().invoke(app, ["predict", "--help"], env={"COLUMNS": "200"}).output


def test_a_command_that_is_not_there_is_named(tmp_path: Path):
    answer = CliRunner().invoke(app, ["jbos"])
    assert answer.exit_code == 2
    assert "No such command 'jbos'" in answer.output


def test_the_version_is_that_of_the_distribution():
    answer = CliRunner().invoke(app, ["--version"])
    assert (answer.exit_code, answer.output) == (0, f"voxtell-dicom {version('voxtell-dicom')}\n")

"""The ledger's databases: made, upgraded, shared by several processes; and one sentence when they do not answer."""

import os
import sqlite3
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext

from dicom_node.storage.durable import locked
from tests.support.ledger_stories import work
from tests.support.postgres import postgres
from worker.errors import LedgerError
from worker.findings import Finding, VolumeFindings
from worker.ledger import JobState, Ledger, SeriesState
from worker.ledger.decisions import MOST_CHARACTERS
from worker.ledger.engine import open_engine
from worker.ledger.schema import metadata

ROOT = Path(__file__).parents[2]
FIRST_VERSION = {"study_uid", "series_uid", "instances", "protocol", "protocol_digest", "prompts", "model", "outputs"}
CLAIM_ALL = """
import sys
from worker.ledger import Ledger
ledger = Ledger(sys.argv[1])
print("open", flush=True)
sys.stdin.readline()
for job_id in ledger.jobs.due():
    if job := ledger.jobs.claim(job_id, 60.0):
        print(job.id)
"""


@pytest.fixture
def processes(ledger_url):
    """Four processes that open the ledger and then wait for a line before they claim all they can."""
    command = [sys.executable, "-c", CLAIM_ALL, ledger_url]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("VOXTELL_")}
    started = [
        subprocess.Popen(
            command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for _ in range(4)
    ]
    yield started
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("ledger_url", ["sqlite", "postgresql"], indirect=True)  # without the mark `peers`
@pytest.mark.processes
def test_of_several_processes_that_race_for_200_jobs_each_gets_its_own(processes, ledger_url):
    for process in processes:  # all four met an empty database at once
        assert process.stdout.readline() == b"open\n", process.stderr.read().decode()
    ledger = Ledger(ledger_url)
    ids = [work(series=f"1.2.{number}").job_id for number in range(200)]
    for number in range(200):
        ledger.jobs.add(work(series=f"1.2.{number}"))
    outputs = [process.communicate(timeout=60) for process in _told_to_go(processes)]
    claims = Counter(line for output, _ in outputs for line in output.decode().split())
    assert claims == Counter(ids)
    assert {job.attempts for job in ledger.jobs.find(JobState.SEGMENTING)} == {1}
    ledger.close()


@pytest.mark.long
def test_a_new_database_is_opened_by_one_process_after_the_other(tmp_path):
    """SQLite may say "database is locked" at once to those who turn it to WAL together."""
    opened = threading.Event()

    def open_it() -> None:
        Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}").close()
        opened.set()

    with locked(tmp_path):
        other = threading.Thread(target=open_it)
        other.start()
        assert not opened.wait(0.5)
    assert opened.wait(60)
    other.join()


def _told_to_go(processes):
    """Writes to all before anything is read from one, so that they race."""
    for process in processes:
        process.stdin.write(b"go\n")
        process.stdin.flush()
    return processes


def test_the_migrations_make_the_schema_that_the_code_uses(ledger_url):
    engine = open_engine(ledger_url)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []
    engine.dispose()


def test_a_ledger_that_is_up_to_date_opens_again_with_its_facts(ledger_url):
    first = Ledger(ledger_url)
    first.jobs.add(work())
    first.close()
    again = Ledger(ledger_url)
    assert [job.id for job in again.jobs.find()] == [work().job_id]
    again.close()


def of_version(ledger_url: str, version: str, table: str, *rows: dict) -> None:
    """Makes the ledger's tables as that version had them, with rows in one of them."""
    engine = sa.create_engine(ledger_url)
    config = Config()
    config.set_main_option("script_location", str(ROOT / "worker" / "ledger" / "migrations"))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, version)
        connection.execute(sa.insert(sa.Table(table, sa.MetaData(), autoload_with=connection)), rows)
    engine.dispose()


def test_jobs_of_the_first_version_are_read_and_sent_where_they_were_to_go(ledger_url):
    old = work().model_dump(mode="json", include=FIRST_VERSION) | {"destinations": ["pacs", "planning"]}
    numbers = dict.fromkeys(("attempts", "claims", "created_at", "updated_at", "next_try_at", "lease_until"), 0)
    row = {"id": "0" * 16, "study_uid": "1.2", "series_uid": "1.2.3", "protocol": "liver", "state": "queued"}
    of_version(ledger_url, "0001", "jobs", {**row, **numbers, "reason": "", "work": old, "result": {}})
    ledger = Ledger(ledger_url)
    assert [route.to for route in ledger.jobs.get("0" * 16).spec.routes] == ["pacs", "planning"]
    ledger.close()


def condition(text: str, found: str, holds: bool | None, level: int = 0, **volume: str) -> dict:
    return {"condition": text, "found": found, "holds": holds, "level": level, **volume}


def test_decisions_that_kept_their_conditions_one_by_one_say_what_they_said(ledger_url):
    """By every command; and a version that is put back reads them too."""
    one = [condition("any of these", "", True), condition("Modality equals 'CT'", "CT", True, 1)]
    echoes = [
        condition("EchoTime min 50.0", "5.5", False, volume="EchoTime=5.5"),
        condition("EchoTime min 50.0", "90", True, volume="EchoTime=90"),
        condition(
            "one regular volume", "4 slices, 3.00 mm apart, axial, and some words more", True, volume="EchoTime=90"
        ),
    ]
    said = {
        "alone": ("any of these: yes; Modality equals 'CT': yes, it is CT", one),
        "echoes": (
            "EchoTime=5.5: EchoTime min 50.0: no, it is 5.5 | "
            "EchoTime=90: EchoTime min 50.0: yes, it is 90; one regular volume: yes, "
            "it is 4 slices, 3.00 mm apart, axial, and some words more",
            echoes,
        ),
        "first version": ("Modality equals 'CT': no, it is MR", []),
    }
    key = {"study_uid": "1.2", "series_uid": "1.2.3"}
    before = [
        {**key, "protocol": name, "taken": name != "first version", "reason": reason, "conditions": conditions, "at": 5}
        for name, (reason, conditions) in said.items()
    ]
    of_version(ledger_url, "0007", "decisions", *before)
    ledger = Ledger(ledger_url)
    assert sorted((one.json_facts() for one in ledger.series.decisions_on("1.2")), key=str) == sorted(before, key=str)
    ledger.close()
    engine, config = sa.create_engine(ledger_url), Config()
    config.set_main_option("script_location", str(ROOT / "worker" / "ledger" / "migrations"))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "0007")
        table = sa.Table("decisions", sa.MetaData(), autoload_with=connection)
        rows = {row.protocol: row.conditions for row in connection.execute(sa.select(table))}
    assert rows == {name: conditions for name, (_, conditions) in said.items()}
    engine.dispose()


def test_series_that_were_set_aside_are_unreadable(ledger_url):
    """A name that was in use for a while."""
    row = {"study_uid": "1.2", "series_uid": "1.2.3", "state": "set aside", "reason": "three looks", "looks": 3}
    sender = {"calling_ae": "CT", "called_ae": "VOXTELL", "address": "10.0.0.1"}
    of_version(ledger_url, "0008", "series", row | sender | {"first_at": 5, "last_at": 6, "full_with": 0})
    ledger = Ledger(ledger_url)
    assert [one.state for one in ledger.series.of_study("1.2")] == [SeriesState.UNREADABLE]
    ledger.close()


def test_a_committed_fact_in_sqlite_survives_a_power_cut(tmp_path):
    engine = open_engine(f"sqlite:///{tmp_path}/new/folder/ledger.sqlite")
    with engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2  # FULL
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
    engine.dispose()


def test_what_a_header_says_is_written_whatever_it_says(ledger_url):
    """A NUL, and more characters than a value of its kind may have."""
    ledger = Ledger(ledger_url)
    shown = Finding("SeriesDescription equals 'liver'", "he\0ad" + "x" * 10_000, False)
    ledger.series.decide("1.2", "1.2.3", "liver", [VolumeFindings("EchoTime=5", (shown,))])
    (decision,) = ledger.series.decisions_on("1.2")
    ((finding,),) = (one.findings for one in decision.volumes)
    assert finding.found == "head" + "x" * (MOST_CHARACTERS - 7) + "..."
    assert decision.reason.startswith("SeriesDescription equals 'liver': no, it is headx")
    ledger.studies.note_accession("1.2", "A" * 70)
    assert ledger.studies.of_report("", "A" * 70) == ["1.2"]
    ledger.close()


@pytest.mark.peers
def test_a_server_that_restarts_is_worth_trying_again():
    with postgres(durable=True) as server:
        ledger = Ledger(server.new_database())
        ledger.jobs.add(work())
        server.stop()
        with pytest.raises(LedgerError, match=r"^the ledger does not answer: ") as caught:
            ledger.jobs.claim(work().job_id, 60.0)
        assert caught.value.retry == "later"
        server.start_again()
        assert ledger.jobs.claim(work().job_id, 60.0) is not None
        ledger.close()


@pytest.mark.peers
@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("", {"connect_timeout": "5", "keepalives_idle": "30", "tcp_user_timeout": "30000"}),
        ("&connect_timeout=60", {"connect_timeout": "60", "keepalives_idle": "30", "tcp_user_timeout": "30000"}),
    ],
)
def test_a_server_that_vanished_is_not_waited_for_unless_the_url_says_so(postgres_server, said, kept):
    engine = open_engine(postgres_server.new_database() + said)
    with engine.connect() as connection:
        parameters = connection.connection.dbapi_connection.info.get_parameters()
    assert {name: parameters.get(name) for name in kept} == kept
    engine.dispose()


def test_a_lock_that_is_held_for_too_long_is_worth_trying_again(tmp_path, monkeypatch):
    monkeypatch.setattr("worker.ledger.engine.BUSY_SECONDS", 0.1)
    ledger = Ledger(f"sqlite:///{tmp_path}/ledger.sqlite")
    with sqlite3.connect(tmp_path / "ledger.sqlite") as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(LedgerError, match=r"^the ledger does not answer: database is locked$"):
            ledger.jobs.add(work())
    ledger.close()


def test_a_ledger_of_a_newer_version_is_left_alone(ledger_url):
    engine = open_engine(ledger_url)
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    engine.dispose()
    with pytest.raises(LedgerError, match=r"^ledger \S+: Can't locate revision.*'9999'; check VOXTELL_DATABASE_URL$"):
        Ledger(ledger_url)


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        (
            "ledger.sqlite",
            r"VOXTELL_DATABASE_URL cannot be used \(Could not parse .*\); such a URL is postgresql\+psycopg",
        ),
        ("nosuch://host/name", r"VOXTELL_DATABASE_URL cannot be used \(.*nosuch\)"),
        (
            "postgresql+psycopg://me:secret@127.0.0.1:1/name",
            r"ledger postgresql\+psycopg://\*\*\*@127.0.0.1:1/name: ",
        ),
        ("sqlite:////proc/nowhere/ledger.sqlite", "ledger sqlite:////proc/nowhere/ledger.sqlite: "),
    ],
)
def test_a_database_that_cannot_be_opened_is_one_sentence_without_the_password(url, sentence):
    with pytest.raises(LedgerError, match=sentence) as raised:
        Ledger(url)
    assert "\n" not in str(raised.value)
    assert "secret" not in str(raised.value)


def test_a_file_that_is_no_database_is_one_sentence(tmp_path):
    path = tmp_path / "ledger.sqlite"
    path.write_text("this is a letter, not a database; it is longer than the header of one. " * 20)
    with pytest.raises(LedgerError, match=f"ledger sqlite:///{path}: .*file is not a database"):
        Ledger(f"sqlite:///{path}")


def test_sqlite_on_a_full_disk_is_told_from_a_wrong_url(tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _folder: SimpleNamespace(free=4096))
    (tmp_path / "ledger.sqlite").mkdir()  # stands for what SQLite cannot write
    with pytest.raises(LedgerError, match=r"^ledger \S+: .*unable to open.*; its disk is full: make room there$"):
        Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}")

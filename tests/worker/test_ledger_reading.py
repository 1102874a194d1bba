"""Reading the ledger takes no lock: a query that is held open stops neither writers nor other readers."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.support.ledger_stories import LEASE, work
from worker.errors import LedgerError
from worker.ledger import JobState, Ledger
from worker.ledger.schema import jobs

ROOT = Path(__file__).parents[2]
SECONDS = 20.0  # less than SQLite waits for a lock

OPEN_AND_LIST = """
import sys
from worker.ledger import Ledger
ledger = Ledger(sys.argv[1])
print(len(ledger.jobs.find()))
print("alembic" in sys.modules)
"""


@pytest.fixture
def open_read(ledger):
    """A read that has begun and is held until the test ends."""
    with ledger.database.read() as connection:
        assert connection.execute(sa.select(jobs)).all() == []
        yield connection


def in_time(task) -> None:
    """Runs the task in a thread of its own; AssertionError if it is held up."""
    problems: list[BaseException] = []

    def run() -> None:
        try:
            task()
        except BaseException as problem:  # noqa: BLE001 (raised again below)
            problems.append(problem)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(SECONDS)
    assert not thread.is_alive(), "it waits for the open read"
    assert not problems, problems


def test_a_read_that_is_held_open_stops_no_writer_and_no_reader(ledger, ledger_url, clock, open_read):
    other = Ledger(ledger_url, clock)
    in_time(lambda: ledger.jobs.add(work()))
    in_time(lambda: other.jobs.claim(work().job_id, LEASE))
    assert [job.state for job in ledger.jobs.find()] == [JobState.SEGMENTING]
    assert [job.state for job in other.jobs.find()] == [JobState.SEGMENTING]
    assert not open_read.closed
    other.close()


def test_a_read_goes_on_while_another_process_writes(ledger):
    """A transaction that holds the write lock, on a connection of its own."""
    ledger.jobs.add(work())
    with ledger.database.write() as writing:
        writing.execute(sa.update(jobs).values(reason="not yet committed"))
        in_time(lambda: ledger.jobs.get(work().job_id))
        assert ledger.jobs.get(work().job_id).reason == ""
    assert ledger.jobs.get(work().job_id).reason == "not yet committed"


def test_a_reading_transaction_cannot_write(ledger):
    """And the connection writes again when it comes back from the pool for that."""
    ledger.jobs.add(work())
    refused = pytest.raises((LedgerError, sa.exc.SQLAlchemyError), match=r"readonly|read-only")
    with refused, ledger.database.read() as connection:
        connection.execute(sa.update(jobs).values(reason="changed"))
    assert ledger.jobs.get(work().job_id).reason == ""
    assert ledger.jobs.claim(work().job_id, LEASE) is not None


@pytest.mark.parametrize("ledger_url", ["sqlite", "postgresql"], indirect=True)  # without the mark `peers`
@pytest.mark.processes
def test_a_ledger_that_is_up_to_date_opens_without_alembic_and_without_the_write_lock(ledger, ledger_url):
    ledger.jobs.add(work())
    with ledger.database.write() as writing:
        writing.execute(sa.update(jobs).values(reason="held"))
        done = subprocess.run(
            [sys.executable, "-c", OPEN_AND_LIST, ledger_url],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=SECONDS * 2,
            check=False,
        )
    assert done.stdout.split() == ["1", "False"], done.stderr

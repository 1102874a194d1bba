"""`jobs`, as a person at the node uses it: release what waits for them, start again what failed, read why."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner, Result

from dicom_node.store import Store
from dicom_node.synthesis import ct_series
from tests.support.ledger_stories import LEASE, deliver, work
from worker import result
from worker.cli.jobs import app
from worker.errors import UnknownJobError
from worker.job_spec import Priority, Route
from worker.ledger import DeliveryState, Job, JobState, Ledger
from worker.ledger.commitments import GIVEN_UP
from worker.maintenance.retries import NothingLeftError

ROUTES = (Route(to="pacs", fallback="archive"),)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VOXTELL_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def ledger(home: Path) -> Iterator[Ledger]:
    opened = Ledger(f"sqlite:///{home / 'ledger.sqlite'}")
    yield opened
    opened.close()


def jobs(*words: str) -> Result:
    return CliRunner().invoke(app, list(words))


def segmented(ledger: Ledger, home: Path, **circumstances: object) -> Job:
    """A job with its images and its one result on disk."""
    task = work(images=1).model_copy(update={"routes": ROUTES, **circumstances})
    store = Store(home)
    store.put(b"an image", study_uid=task.study_uid, series_uid=task.series_uid, sop_uid=task.instances[0])
    assert ledger.jobs.add(task)
    job = ledger.jobs.claim(task.job_id, LEASE)
    assert job is not None
    with store.results(job.id) as folder:
        ct_series(np.zeros((1, 8, 8)), (1.0, 1.0, 1.0), folder)
        (folder / "0001.dcm").rename(folder / "seg.dcm")
    assert ledger.jobs.segmented(job, result.Result.model_validate({"files": ["seg.dcm"]}))
    return ledger.jobs.get(job.id)


def failed(ledger: Ledger, home: Path) -> Job:
    job = segmented(ledger, home)
    deliver(ledger, job, "pacs", DeliveryState.FAILED, "refused")
    assert deliver(ledger, job, "archive", DeliveryState.FAILED, "no room") is JobState.FAILED
    return job


@pytest.mark.parametrize("terminal", [False, True], ids=["in a pipe", "on a terminal of 80 columns"])
def test_what_one_copies_out_of_a_table_is_whole(
    ledger: Ledger, home: Path, monkeypatch: pytest.MonkeyPatch, terminal: bool
) -> None:
    long = "1.2.826.0.1.3680043.8.498." + "7" * 38
    assert ledger.jobs.add(work(series=long))
    (job,) = ledger.jobs.find()
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(Console, "is_terminal", terminal)
    listed = jobs("-v").output
    assert job.id in listed
    assert "\N{HORIZONTAL ELLIPSIS}" not in listed
    assert (long in listed) is not terminal
    _, first, *more = listed.splitlines()
    column = first.index("1.2.826")
    assert "".join(line[column:].split("  ")[0].strip() for line in (first, *more)) == long


def test_without_jobs_the_list_says_so(ledger: Ledger, home: Path) -> None:
    assert jobs().output == jobs("--state", "failed").output == "no jobs\n"
    assert jobs("--json").output == "[]\n"


def test_a_result_in_review_is_released(ledger: Ledger, home: Path) -> None:
    job = segmented(ledger, home, release=True)
    assert jobs("release", job.id[:6]).output == f"job {job.id} is sending\n"
    assert ledger.deliveries.due() == [(job.id, "pacs")]


def test_a_retry_of_a_failed_delivery_delivers(ledger: Ledger, home: Path) -> None:
    job = failed(ledger, home)
    assert jobs("retry", job.id).output == f"job {job.id} is sending again\n"


def test_a_retry_makes_lost_results_again(ledger: Ledger, home: Path) -> None:
    job = failed(ledger, home)
    (home / "results" / job.id / "seg.dcm").unlink()
    assert jobs("retry", job.id).output == f"job {job.id} is queued again\n"
    again = ledger.jobs.claim(job.id, LEASE)
    assert again is not None
    assert ledger.jobs.segmented(again, result.Result.model_validate({"files": ["seg.dcm"]}))
    assert deliver(ledger, job, "pacs", DeliveryState.DELIVERED) is JobState.DELIVERED


def test_what_was_delivered_before_the_results_were_lost_is_not_sent_again(ledger: Ledger, home: Path) -> None:
    job = segmented(ledger, home, routes=(Route(to="one"), Route(to="two")))
    deliver(ledger, job, "one", DeliveryState.DELIVERED)
    deliver(ledger, job, "two", DeliveryState.FAILED, "refused")
    (home / "results" / job.id / "seg.dcm").unlink()
    jobs("retry", job.id)
    again = ledger.jobs.claim(job.id, LEASE)
    assert again is not None
    ledger.jobs.segmented(again, result.Result.model_validate({"files": ["seg.dcm"]}))
    assert ledger.deliveries.due() == [(job.id, "two")]


def test_where_neither_results_nor_images_are_left_a_retry_says_so(ledger: Ledger, home: Path) -> None:
    job = failed(ledger, home)
    (home / "results" / job.id / "seg.dcm").unlink()
    (home / "studies" / job.study_uid / job.series_uid / f"{job.spec.instances[0]}.dcm").unlink()
    done = jobs("retry", job.id)
    assert isinstance(done.exception, NothingLeftError)
    assert "send the series again and then retry the job" in str(done.exception)
    assert ledger.jobs.get(job.id).state is JobState.FAILED


def test_after_a_pacs_was_down_every_failed_job_is_started_again(ledger: Ledger, home: Path) -> None:
    job = failed(ledger, home)
    hopeless = work(series="1.9", images=1)
    ledger.jobs.add(hopeless)
    claim = ledger.jobs.claim(hopeless.job_id, LEASE)
    assert claim is not None
    ledger.jobs.segmented(claim, result.Result.model_validate({"files": ["seg.dcm"]}))
    with ledger.database.engine.begin() as connection:
        connection.exec_driver_sql(f"UPDATE jobs SET state = 'failed' WHERE id = '{hopeless.job_id}'")
    done = jobs("retry", "--all")
    assert done.exit_code == 0
    assert done.stdout == f"job {job.id} is sending again\n"
    assert "send the series again and then retry the job" in done.stderr
    assert jobs("retry").exit_code == jobs("retry", "--all", job.id).exit_code == 2


def test_a_result_that_a_newer_one_has_replaced_is_not_sent_after_it(ledger: Ledger, home: Path) -> None:
    old = failed(ledger, home)
    late = work(images=2).model_copy(update={"routes": ROUTES})
    assert ledger.jobs.add(late)
    claim = ledger.jobs.claim(late.job_id, LEASE)
    assert claim is not None
    ledger.jobs.segmented(claim, result.Result.model_validate({"files": ["seg.dcm"]}))
    assert deliver(ledger, claim, "pacs", DeliveryState.DELIVERED) is JobState.DELIVERED
    done = jobs("retry", "--all")
    assert (done.exit_code, done.output) == (0, "no failed job is left to retry\n")
    one = jobs("retry", old.id)
    assert isinstance(one.exception, UnknownJobError)
    assert str(one.exception) == (
        f"job {old.id} is superseded by job {late.job_id}: its result is out of date, retry that job"
    )
    assert ledger.jobs.get(old.id).state is JobState.FAILED
    assert ledger.deliveries.due() == ledger.jobs.due() == []


def test_a_retry_of_a_delivered_job_asks_again_for_commitment(ledger: Ledger, home: Path) -> None:
    job = segmented(ledger, home)
    claim = ledger.deliveries.claim(job.id, "pacs", LEASE)
    assert claim is not None
    ledger.deliveries.end(claim, DeliveryState.DELIVERED, transaction_uid="2.25.1")
    assert ledger.commitments.claim(job.id, "pacs", "2.25.2", 0.0) is not None
    ledger.commitments.give_up(1)
    assert ledger.jobs.get(job.id).reason == GIVEN_UP
    assert jobs("retry", job.id).output == f"job {job.id} is delivered again\n"
    assert ledger.commitments.due() == [(job.id, "pacs")]


def test_show_says_where_a_result_went_and_why_it_waits(ledger: Ledger, home: Path) -> None:
    job = segmented(ledger, home, priority=Priority.URGENT, window=("22:00", "22:00"))
    deliver(ledger, job, "pacs", DeliveryState.FAILED, "refused")
    shown = jobs("show", job.id).output
    assert "urgent" in shown
    assert "22:00 to 22:00" in shown
    assert "to archive instead of pacs: pending, attempt 0" in shown
    assert "to pacs: failed, attempt 1 refused" in shown

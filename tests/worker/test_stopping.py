"""A worker that systemd or Docker stops gives back what it cannot finish, and the attempt does not count."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pydicom
import pytest

from dicom_node.store import Store
from dicom_node.synthesis import ct_series
from worker import stopping
from worker.job_spec import JobSpec, Prompt
from worker.ledger import JobState, Ledger
from worker.queue.broker import Broker, celery_app
from worker.queue.embedded_server import running_queue
from worker.settings import load


def queued(home: Path, folder: Path, ledger: Ledger) -> str:
    """The id of a QUEUED job whose images are in the store."""
    store, uids = Store(home), []
    for path in ct_series(np.full((3, 8, 8), 700, np.float32), (2.0, 1.0, 1.0), folder):
        header = pydicom.dcmread(path, stop_before_pixels=True)
        uids.append((header.StudyInstanceUID, header.SeriesInstanceUID, header.SOPInstanceUID))
        store.put(path.read_bytes(), study_uid=uids[-1][0], series_uid=uids[-1][1], sop_uid=uids[-1][2])
    spec = JobSpec.of(
        study_uid=uids[0][0],
        series_uid=uids[0][1],
        instances=[sop_uid for _, _, sop_uid in uids],
        protocol="test",
        protocol_digest="d",
        prompts=(Prompt(text="above 300"),),
        model=None,
    )
    assert ledger.jobs.add(spec)
    return spec.job_id


def reach(ledger: Ledger, job_id: str, state: JobState) -> None:
    """Waits until the job is in the state."""
    deadline = time.monotonic() + 120
    while ledger.jobs.get(job_id).state is not state:
        assert time.monotonic() < deadline, ledger.jobs.get(job_id)
        time.sleep(0.05)


@pytest.mark.processes
def test_a_long_job_outlives_three_stops_with_two_attempts(tmp_path: Path) -> None:
    settings = load(home=tmp_path / "home", max_attempts=2)
    computes = tmp_path / "computes"
    computes.touch()
    environment = {**os.environ, "VOXTELL_HOME": str(settings.home)}
    with running_queue(settings, ours=True):
        ledger = Ledger(settings.ledger_url)
        job_id = queued(settings.home, tmp_path / "series", ledger)
        for stops in (True, True, True, False):
            Broker(celery_app(settings)).segment([job_id])
            if not stops:
                computes.unlink()
            with subprocess.Popen(
                [sys.executable, "-m", "tests.support.slow_worker", computes], env=environment
            ) as worker:
                reach(ledger, job_id, JobState.SEGMENTING if stops else JobState.SEGMENTED)
                worker.send_signal(signal.SIGTERM)
                assert worker.wait(60) in (os.EX_OK, os.EX_SOFTWARE), "at the latest when its time is over"
            if stops:
                waiting = ledger.jobs.get(job_id)
                assert (waiting.state, waiting.attempts) == (JobState.QUEUED, 0)
                assert waiting.reason == "given back: the worker was stopped"
        assert ledger.jobs.get(job_id).attempts == 1
        ledger.close()


def test_children_are_told_before_their_time_is_over() -> None:
    assert not stopping.must_give_back()
    stopping.stop_within(60)
    assert not stopping.must_give_back()
    stopping.go_on()
    stopping.stop_within(stopping.GIVING_BACK_SECONDS)
    stopping.stop_within(60)  # a second signal
    assert stopping.must_give_back()
    stopping.go_on()
    assert not stopping.must_give_back()

"""Several listener processes on one port: it makes no difference which of them got an image."""

import errno
import json
import os
import subprocess
import sys
import time
from contextlib import ExitStack

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pynetdicom.presentation import build_context

from dicom_node.scu.association import Peer, associated
from dicom_node.storage.durable import try_lock
from dicom_node.synthesis import ct_series
from tests.support.node import node
from tests.support.peers import running, wait_for_peer
from tests.support.ports import LOOPBACK, free_port
from tests.support.waiting import wait_until
from worker.ledger import Ledger
from worker.maintenance.leader_lock import Leadership

CT = [build_context(CTImageStorage, ExplicitVRLittleEndian)]
ASSOCIATIONS = 12  # the kernel deals them out: that one process gets all of them happens once in two thousand runs
QUIET = 1.5

WAITS = """\
name: any
match: {Modality: CT}
prompts: [liver]
"""

INTAKE_ENDS = """
import sys
from worker.steps.intake import Intake
def run(*_):
    raise RuntimeError("the intake has ended")
Intake.run = run
sys.argv[1:] = ["listen"]
from worker.__main__ import main
main()
"""


def announced(home) -> list[list]:
    """The series that each listener process says it has an association for."""
    return [json.loads(path.read_text()) for path in home.glob("incoming/*/open-series.json")]


@pytest.mark.processes
def test_a_series_that_two_processes_receive_is_one_job_once_both_are_done(tmp_path):
    images = [
        dcmread(path)
        for path in ct_series(np.zeros((2 * ASSOCIATIONS, 8, 8), np.float32), (3.0, 1.0, 1.0), tmp_path / "ct")
    ]
    uids = [image.SOPInstanceUID for image in images]
    key = [str(images[0].StudyInstanceUID), str(images[0].SeriesInstanceUID)]
    with (
        node(tmp_path / "home", pacs=None, protocol=WAITS, listeners=2, quiet_seconds=QUIET) as here,
        ExitStack() as lines,
    ):
        # For the node to be there, one is enough.
        wait_until(lambda: here.log.read_text().count("] dicom_listening ") == 2)
        opened = [lines.enter_context(associated(here.peer, CT, calling_ae="SCANNER")) for _ in range(ASSOCIATIONS)]
        for line in opened:
            assert line.send_c_store(images.pop()).Status == 0x0000
        assert announced(here.home) == [[key], [key]]
        for line in opened[1:]:
            assert line.send_c_store(images.pop()).Status == 0x0000
            line.release()
        ledger = Ledger(f"sqlite:///{here.home / 'ledger.sqlite'}")
        time.sleep(2 * QUIET)
        assert [series.series_uid for series in ledger.series.unsettled()] == [
            key[1]
        ]  # whichever process has the last one
        assert opened[0].send_c_store(images.pop()).Status == 0x0000
        opened[0].release()
        job = here.job(until=lambda job: True)
        assert set(job.spec.instances) == set(uids)
        assert len(ledger.jobs.find()) == 1
        ledger.close()


def test_one_process_leads_and_another_takes_over_when_it_is_gone(tmp_path):
    with Leadership(tmp_path) as second:
        with Leadership(tmp_path) as first:
            assert first.held()
            assert not second.held()
            assert first.held()
        assert second.held()


def test_a_process_that_cannot_ask_for_the_lead_asks_again(tmp_path, monkeypatch):
    """As one without a descriptor left, or on a file system that does not answer for a moment."""

    def refused(_path):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with Leadership(tmp_path) as leadership:
        monkeypatch.setattr("worker.maintenance.leader_lock.try_lock", refused)
        assert not leadership.held()
        monkeypatch.setattr("worker.maintenance.leader_lock.try_lock", try_lock)
        assert leadership.held()


@pytest.mark.processes
def test_a_listener_receives_also_before_its_queue_is_there(tmp_path):
    """The queue only carries ids, and the ledger knows them."""
    (image,) = ct_series(np.zeros((1, 8, 8), np.float32), (3.0, 1.0, 1.0), tmp_path / "ct")
    peer = Peer("VOXTELL", LOOPBACK, free_port())
    nobody = f"redis://{LOOPBACK}:{free_port()}/0"
    environment = {k: v for k, v in os.environ.items() if not k.startswith("VOXTELL_")}
    environment |= {"VOXTELL_HOME": str(tmp_path), "VOXTELL_PORT": str(peer.port), "VOXTELL_REDIS_URL": nobody}
    with (
        (tmp_path / "log").open("wb") as log,
        running([sys.executable, "-m", "worker", "listen"], env=environment, stdout=log, stderr=log) as listener,
    ):
        wait_for_peer(peer, listener)
        with associated(peer, CT, calling_ae="SCANNER") as line:
            assert line.send_c_store(dcmread(image)).Status == 0x0000
    assert f"no queue answers at {nobody}; start Redis" in (tmp_path / "log").read_text()


@pytest.mark.processes
@pytest.mark.timeout(120)
def test_a_listener_whose_intake_ends_by_an_error_ends_with_it(tmp_path):
    """Else it would live on with its port closed, and nobody would start it again."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("VOXTELL_")}
    environment |= {"VOXTELL_HOME": str(tmp_path), "VOXTELL_PORT": str(free_port())}
    command = [sys.executable, "-c", INTAKE_ENDS]
    with (
        (tmp_path / "log").open("wb") as log,
        running(command, env=environment, stdout=log, stderr=subprocess.STDOUT) as listener,
    ):
        assert listener.wait(60) == 1
    assert "unexpected RuntimeError: the intake has ended" in (tmp_path / "log").read_text()

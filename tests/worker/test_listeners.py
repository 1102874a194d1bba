"""Several listener processes on one port: it makes no difference which of them got an image."""

import json
import time
from contextlib import ExitStack

import numpy as np
from pydicom import dcmread
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pynetdicom.presentation import build_context

from dicom_node.peer import associated
from dicom_node.synthesis import ct_series
from tests.node import node
from worker.ledger import Ledger
from worker.upkeep.leadership import Leadership

CT = [build_context(CTImageStorage, ExplicitVRLittleEndian)]
ASSOCIATIONS = 12  # the kernel deals them out: that one process gets all of them happens once in two thousand runs
QUIET = 1.5

WAITS = """\
name: any
match: {Modality: CT}
prompts: [liver]
"""


def announced(home) -> list[list]:
    """The series that each listener process says it has an association for."""
    return [json.loads(path.read_text()) for path in home.glob("incoming/*/open-series.json")]


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
        opened = [lines.enter_context(associated(here.peer, CT, calling_ae="SCANNER")) for _ in range(ASSOCIATIONS)]
        for line in opened:
            assert line.send_c_store(images.pop()).Status == 0x0000
        assert announced(here.home) == [[key], [key]]
        for line in opened[1:]:
            assert line.send_c_store(images.pop()).Status == 0x0000
            line.release()
        ledger = Ledger(f"sqlite:///{here.home / 'ledger.sqlite'}")
        time.sleep(2 * QUIET)
        assert [series.series_uid for series in ledger.receiving()] == [key[1]]  # whichever process has the last one
        assert opened[0].send_c_store(images.pop()).Status == 0x0000
        opened[0].release()
        job = here.job(until=lambda job: True)
        assert set(job.work.instances) == set(uids)
        assert len(ledger.jobs()) == 1
        ledger.close()


def test_one_process_leads_and_another_takes_over_when_it_is_gone(tmp_path):
    with Leadership(tmp_path) as second:
        with Leadership(tmp_path) as first:
            assert first.held()
            assert not second.held()
            assert first.held()
        assert second.held()

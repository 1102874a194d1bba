"""From images to jobs, with the real store, ledger and embedded queue; the arrivals are made by hand."""

import itertools
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from structlog.testing import capture_logs

from dicom_node.origin import Origin
from dicom_node.scp.arrivals import AssociationEnd
from dicom_node.synthesis import Subject, ct_series
from dicom_node.uids import SeriesKey
from tests.support.ledger_stories import work
from tests.support.listening import QUIET, IntakeSite
from worker.destinations.dicom import DicomDestination
from worker.errors import LedgerError
from worker.ledger import JobState, StudyFacts
from worker.queue.embedded_server import running_queue
from worker.steps import intake

pytestmark = pytest.mark.peers

LIVER = """\
name: liver
match:
  Modality: CT
  Instances: {min: 2}
prompts: [liver]
"""


@pytest.fixture
def home(tmp_path):
    folder = tmp_path / "home"
    (folder / "protocols").mkdir(parents=True)
    (folder / "protocols" / "liver.yaml").write_text(LIVER)
    return folder


@pytest.fixture
def node(home):
    made = IntakeSite(home)
    with running_queue(made.settings):
        yield made
        made.close()


def key(path: Path) -> SeriesKey:
    header = dcmread(path, stop_before_pixels=True)
    return SeriesKey(str(header.StudyInstanceUID), str(header.SeriesInstanceUID))


# -- when is a series complete


def test_a_quiet_series_becomes_a_job_on_the_queue(node, images):
    node.receives(*images, ago=QUIET + 1)
    (job,) = node.tick()
    assert (job.state, job.protocol, (job.study_uid, job.series_uid)) == (JobState.QUEUED, "liver", key(images[0]))
    assert job.spec.instances == tuple(sorted(path.stem for path in node.store.series_paths(key(images[0]))))
    assert [prompt.text for prompt in job.spec.prompts] == ["liver"]
    assert node.queued == (1, 0)
    assert node.ledger.series.unsettled() == []
    assert node.tick() == [job]


def test_a_series_that_still_arrives_waits(node, images):
    node.receives(*images, ago=QUIET - 1)
    assert node.tick() == []


def test_an_open_association_holds_its_series_back_however_long_it_is_silent(node, images):
    node.receives(*images, ago=100 * QUIET)
    assert node.tick(key(images[0])) == []
    assert len(node.tick()) == 1


def test_the_quiet_time_starts_when_the_association_ends(node, images):
    node.receives(*images, ago=100 * QUIET)
    node.intake.association_ended(AssociationEnd("a1", frozenset({key(images[0])}), aborted=False))
    assert node.tick() == []


def test_a_series_over_two_associations_is_one_job(node, images):
    node.receives(*images[:2], ago=2 * QUIET, association="a1")
    node.receives(*images[2:], ago=QUIET + 1, association="a2")
    (job,) = node.tick()
    assert len(job.spec.instances) == 4


def test_a_stream_of_images_is_noted_now_and_then_only(node, images, monkeypatch):
    noted = []
    monkeypatch.setattr(node.ledger.series, "image_arrived", lambda *key, **facts: noted.append(key))
    clock = itertools.count(0.0, QUIET / 8)
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    for _ in range(4):
        node.receives(*images, ago=0)
    assert len(noted) == 8  # 16 images in two quiet times, four notes each


def test_a_series_that_no_protocol_takes_is_settled_without_a_job(node, images):
    node.receives(images[0], ago=QUIET + 1)
    assert node.tick() == []
    assert node.ledger.series.unsettled() == []


# -- what comes later


def test_a_late_image_makes_a_new_job_that_supersedes_the_old(node, images):
    node.receives(*images[:3], ago=3 * QUIET)
    (first,) = node.tick()
    node.receives(images[3], ago=QUIET + 1, association="a2")
    jobs = {len(job.spec.instances): job for job in node.tick()}
    assert jobs[3].id == first.id
    assert (jobs[3].state, jobs[3].superseded_by) == (JobState.CANCELLED, jobs[4].id)
    assert jobs[4].state is JobState.QUEUED


def test_the_same_images_again_make_no_second_job(node, images):
    node.receives(*images, ago=3 * QUIET)
    before = node.tick()
    node.receives(*images, ago=QUIET + 1, association="a2")
    assert len(node.ledger.series.unsettled()) == 1
    assert node.tick() == before
    assert node.queued == (1, 0)


def test_the_same_uid_with_other_content_is_kept_aside_and_changes_no_job(node, images, tmp_path):
    node.receives(*images, ago=3 * QUIET)
    before = node.tick()
    other = dcmread(images[0])
    other.SeriesDescription = "not the same"
    other.save_as(tmp_path / "other.dcm")
    with capture_logs() as logs:
        node.receives(tmp_path / "other.dcm", ago=QUIET + 1, association="a2")
    assert [line["event"] for line in logs] == ["instance_conflict"]
    assert node.tick() == before


# -- protocols


def test_why_a_series_was_not_taken_is_written_down(node, images):
    node.receives(images[0], ago=QUIET + 1)
    node.tick()
    (decision,) = node.ledger.series.decisions_on(key(images[0])[0])
    assert (decision.protocol, decision.taken) == ("liver", False)
    assert decision.reason.startswith(
        "Instances min 2.0: no, it is 1; one regular volume: no, it is not: a single slice is no volume: "
    )


def test_why_a_series_was_taken_is_written_down(node, images):
    node.receives(*images, ago=QUIET + 1)
    node.tick()
    (decision,) = node.ledger.series.decisions_on(key(images[0])[0])
    assert decision.taken
    assert decision.reason == (
        "Modality equals 'CT': yes, it is CT; Instances min 2.0: yes, it is 4; "
        "one regular volume: yes, it is 4 slices, 3.00 mm apart, axial"
    )


def test_every_protocol_that_takes_a_series_makes_its_own_job(node, home, images):
    (home / "protocols" / "scanner.yaml").write_text(
        "name: scanner\nmatch: {CallingAE: SCANNER}\nprompts: [spleen]\ndestinations: []\n"
    )
    (home / "protocols" / "other.yaml").write_text("name: other\nmatch: {CallingAE: PACS}\nprompts: [spleen]\n")
    node.receives(*images, ago=QUIET + 1)
    assert {job.protocol for job in node.tick()} == {"liver", "scanner"}


def test_results_go_to_every_destination_unless_the_protocol_names_some(home, images):
    pacs = (
        DicomDestination(name="pacs", ae_title="A", host="h"),
        DicomDestination(name="plan", ae_title="B", host="h"),
    )
    (home / "protocols" / "plan.yaml").write_text(LIVER.replace("name: liver", "name: plan") + "destinations: [plan]\n")
    node = IntakeSite(home, destinations=pacs)
    with running_queue(node.settings):
        node.receives(*images, ago=QUIET + 1)
        found = {job.protocol: tuple(route.to for route in job.spec.routes) for job in node.tick()}
        assert found == {"liver": ("pacs", "plan"), "plan": ("plan",)}
        node.close()


@pytest.mark.parametrize("keep", [True, False])
def test_what_people_know_a_study_by_is_noted_unless_names_are_not_kept(home, images, keep):
    node = IntakeSite(home, keep_names=keep)
    with running_queue(node.settings):
        node.receives(*images, ago=QUIET + 1)
        (job,) = node.tick()
        facts = node.ledger.studies.facts_of(job.study_uid)
        node.close()
    kept = StudyFacts("PHANTOM", "Phantom^Synthetic", "", "20260101", "Synthetic CT")
    assert facts == (kept if keep else StudyFacts())


def test_a_bad_edit_of_a_protocol_keeps_the_node_going(node, home, images):
    (home / "protocols" / "liver.yaml").write_text(LIVER.replace("Modality", "Modalty"))
    node.receives(*images, ago=QUIET + 1)
    with capture_logs() as logs:
        (job,) = node.tick()
    assert job.protocol == "liver"
    assert [line["problem"] for line in logs if line["log_level"] == "error"] == [
        f"{home}/protocols/liver.yaml, line 3, match.Modalty: "
        "'Modalty' is no DICOM keyword or tag; did you mean Modality?"
    ]


def test_a_good_edit_makes_a_new_job_when_images_come_again(node, home, images):
    node.receives(*images, ago=3 * QUIET)
    (first,) = node.tick()
    (home / "protocols" / "liver.yaml").write_text(LIVER.replace("[liver]", "[liver, spleen]"))
    assert node.tick() == [first]
    node.receives(images[0], ago=QUIET + 1, association="a2")
    assert sorted(len(job.spec.prompts) for job in node.tick()) == [1, 2]
    assert node.ledger.jobs.get(first.id).state is JobState.CANCELLED


# -- what may break


def test_a_queue_that_is_down_delays_and_loses_nothing(home, images):
    node = IntakeSite(home)
    node.receives(*images, ago=QUIET + 1)
    with capture_logs() as logs:
        (job,) = node.tick()
    assert job.state is JobState.QUEUED
    assert [line["event"] for line in logs if line["log_level"] == "warning"] == ["queue_unreachable"]
    with running_queue(node.settings):
        assert node.queued == (0, 0)
        node.intake.sweep()
        assert node.queued == (1, 0)
        node.intake.sweep()
        assert node.queued == (1, 0)
        node.close()


def test_a_large_backlog_that_the_queue_lost_is_enqueued_by_and_by(node, monkeypatch):
    monkeypatch.setattr(intake, "ENQUEUED_PER_SWEEP", 2)
    for series in ("1.1", "1.2", "1.3"):
        node.ledger.jobs.add(work(series=series))
    node.intake.sweep()
    assert node.queued == (2, 0)
    node.ledger.jobs.claim(node.ledger.jobs.due()[0], 60.0)
    node.intake.sweep()
    assert node.queued == (3, 0), "the message of the one that is at work is dropped when it is looked at"


def test_a_crash_between_the_job_and_the_settled_series_only_repeats_the_question(node, images, monkeypatch):
    node.receives(*images, ago=QUIET + 1)
    with monkeypatch.context() as crash:
        crash.setattr(node.ledger.series, "settle", _fails)
        node.intake.tick(frozenset())
    assert len(node.ledger.series.unsettled()) == 1
    node.restart()
    (job,) = node.tick()
    assert node.ledger.series.unsettled() == []
    node.intake.sweep()
    assert node.queued == (1, 0)
    assert job.state is JobState.QUEUED


def test_a_series_that_cannot_be_settled_holds_up_no_other(node, images, monkeypatch):
    node.lag = QUIET + 2
    node.ledger.series.image_arrived(SeriesKey("1.2", "1.2.3"), Origin("CT", "VOXTELL", "127.0.0.1"))
    node.receives(*images, ago=QUIET + 1)
    with monkeypatch.context() as bad:
        settle = node.ledger.series.settle
        bad.setattr(
            node.ledger.series, "settle", lambda series: _fails() if series.series_uid == "1.2.3" else settle(series)
        )
        (job,) = node.tick()
    assert job.state is JobState.QUEUED
    assert [series.series_uid for series in node.ledger.series.unsettled()] == ["1.2.3"]


def test_a_crash_before_the_ledger_heard_of_an_image_is_mended_when_it_comes_again(node, images):
    """The sender got no answer, so it sends again: the store says SAME, the ledger hears of it all the same."""
    for path in images:
        header = dcmread(path, stop_before_pixels=True)
        node.store.put(
            path.read_bytes(), study_uid=key(path)[0], series_uid=key(path)[1], sop_uid=header.SOPInstanceUID
        )
    node.receives(images[0], ago=QUIET + 1)
    (job,) = node.tick()
    assert len(job.spec.instances) == 4


def test_an_image_after_one_that_the_ledger_could_not_note_is_noted(node, images, monkeypatch):
    """The first was refused, the second is taken, and with it the series must be known."""
    with monkeypatch.context() as down:
        down.setattr(node.ledger.series, "image_arrived", _fails)
        with pytest.raises(LedgerError):
            node.receives(images[0], ago=QUIET + 1)
    node.receives(*images[1:], ago=QUIET + 1)
    node.restart()
    (job,) = node.tick()
    assert len(job.spec.instances) == 4


def test_a_file_that_cannot_be_read_any_more_is_left_out_and_logged(node, images):
    node.receives(*images, ago=QUIET + 1)
    broken = node.store.series_paths(key(images[0]))[0]
    broken.write_bytes(b"")
    with capture_logs() as logs:
        (job,) = node.tick()
    assert broken.stem not in job.spec.instances
    assert [line["file"] for line in logs if line["event"] == "file_unreadable"] == [str(broken)]


def test_a_lost_worker_is_noticed_by_the_sweep(node, images):
    node.receives(*images, ago=QUIET + 1000)
    node.lag = 2 * node.settings.lease_seconds
    (job,) = node.tick()
    assert node.ledger.jobs.claim(job.id, node.settings.lease_seconds) is not None
    node.lag = 0.0
    node.intake.sweep()
    freed = node.ledger.jobs.get(job.id)
    assert (freed.state, freed.reason) == (JobState.QUEUED, "the worker died or fell silent during attempt 1")


def test_the_intake_thread_outlives_an_error(node, images, monkeypatch):
    node.receives(*images, ago=QUIET + 1)
    stop, ticks = threading.Event(), itertools.count()

    def open_series():
        if next(ticks) == 0:
            raise LedgerError("the database is restarting")
        stop.set()
        return frozenset()

    with capture_logs() as logs:
        node.intake.run(stop, open_series)
    assert [line["event"] for line in logs if line["log_level"] == "error"] == ["intake_step_failed"]
    assert len(node.ledger.jobs.find()) == 1


def test_two_series_of_one_study_are_two_jobs(node, tmp_path):
    for number in (1, 2):
        subject = Subject(series_number=number)
        image = np.full((3, 8, 8), number, np.float32)
        node.receives(*ct_series(image, (3.0, 1.0, 1.0), tmp_path / str(number), subject=subject), ago=QUIET + 1)
    first, second = node.tick()
    assert first.study_uid == second.study_uid
    assert first.series_uid != second.series_uid


def _fails(*_args, **_facts):
    raise LedgerError("the database is restarting")

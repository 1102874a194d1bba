"""What happens while room is made: images that come in that moment, several listeners, and a disk that is full."""

import os
import shutil
import time
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from dicom_node.errors import StoreError
from dicom_node.origin import Origin
from dicom_node.removal import StoreRemoval
from dicom_node.storage.durable import try_lock
from dicom_node.uids import SeriesKey
from tests.support.ledger_stories import LEASE, Clock, deliver
from tests.support.listening import QUIET, IntakeSite
from tests.support.retention_site import ARRIVAL, RetentionSite
from worker.job_spec import Route
from worker.ledger import DeliveryState, Job, JobState, Ledger
from worker.maintenance.retention import ASIDE_SECONDS, DAY, FRESH_SECONDS, Retention
from worker.queue.embedded_server import running_queue
from worker.result import Result


@pytest.fixture
def site(tmp_path: Path, ledger: Ledger, clock: Clock) -> RetentionSite:
    return RetentionSite(tmp_path / "home", ledger, clock)


def late_image(site: RetentionSite, study: str, uid: str) -> None:
    """One more image of a series, which is quiet again before anybody looks."""
    site.store.put(b"a late image", study_uid=study, series_uid=uid, sop_uid=f"{uid}.1")
    site.ledger.series.image_arrived(SeriesKey(study, uid), ARRIVAL)
    (seen,) = (one for one in site.ledger.series.unsettled() if one.series_uid == uid)
    assert site.ledger.series.settle(seen)


def names(site: RetentionSite, study: str, uid: str) -> list[str]:
    return [path.stem for path in site.store.series_paths(SeriesKey(study, uid))]


# -- what was listed is no longer so


def test_an_image_that_comes_while_other_studies_are_set_aside_stays(site, monkeypatch):
    for study in ("1.7", "1.8"):
        site.arrived(study, f"{study}.1")
        site.clock.passes(1.0)
    site.clock.passes(2 * DAY)
    set_aside = StoreRemoval.set_aside

    def slowly(self: StoreRemoval, study: str, *facts: float) -> int:
        if study == "1.7":
            late_image(site, "1.8", "1.8.1")
        site.clock.passes(20.0)
        return set_aside(self, study, *facts)

    monkeypatch.setattr(StoreRemoval, "set_aside", slowly)
    keeper = site.retention(keep_unused_days=1)
    keeper.tidy()
    assert names(site, "1.8", "1.8.1") == ["1.8.1.0", "1.8.1.1"]
    site.clock.passes(ASIDE_SECONDS + 1)
    keeper.tidy()
    assert names(site, "1.8", "1.8.1") == ["1.8.1.0", "1.8.1.1"]
    assert names(site, "1.7", "1.7.1") == []


def test_a_study_that_was_removed_and_sent_again_is_not_set_aside_by_a_listener_that_listed_it_before(
    site, monkeypatch
):
    site.arrived("1.8", "1.8.1")
    site.clock.passes(2 * DAY)
    slow = site.retention(keep_unused_days=1)
    listed = slow._studies()
    monkeypatch.setattr(slow, "_studies", lambda: listed)
    site.rounds(site.retention(keep_unused_days=1))
    assert names(site, "1.8", "1.8.1") == []
    late_image(site, "1.8", "1.8.1")
    site.clock.passes(1.0)
    slow.tidy()
    site.clock.passes(ASIDE_SECONDS + 1)
    slow.tidy()
    assert names(site, "1.8", "1.8.1") == ["1.8.1.1"]


def test_results_of_a_job_that_was_started_again_after_they_were_listed_stay(site, monkeypatch):
    job = site.segmented("1.2.3.4", Route(to="pacs"))
    deliver(site.ledger, job, "pacs", DeliveryState.FAILED, "refused")
    site.clock.passes(2 * DAY)
    keeper = site.retention(keep_failed_days=1)
    listed = keeper._results()
    monkeypatch.setattr(keeper, "_results", lambda: listed)
    site.ledger.jobs.retry(job.id)
    keeper.tidy()
    assert site.has_results(job)


def test_an_image_counts_that_was_noted_late_with_the_time_at_which_it_came(site):
    """The note waited for the database: its time lies before the one at which the study was set aside."""
    site.arrived("1.8", "1.8.1")
    site.clock.passes(2 * DAY)
    keeper = site.retention(keep_unused_days=1)
    keeper.tidy()
    assert names(site, "1.8", "1.8.1") == []
    site.clock.passes(-20.0)
    late_image(site, "1.8", "1.8.1")
    site.clock.passes(20.0 + ASIDE_SECONDS + 1)
    keeper.tidy()
    assert names(site, "1.8", "1.8.1") == ["1.8.1.0", "1.8.1.1"]


def test_a_study_that_another_listener_has_ended_meanwhile_is_left_alone(site, monkeypatch):
    site.arrived("1.8", "1.8.1")
    site.clock.passes(2 * DAY)
    first, second = site.retention(keep_unused_days=1), site.retention(keep_unused_days=1)
    first.tidy()
    listed = second._removal.leaving()
    monkeypatch.setattr(second._removal, "leaving", lambda: listed)
    site.clock.passes(ASIDE_SECONDS + 1)
    first.tidy()
    with capture_logs() as logs:
        second.tidy()
    assert [line["event"] for line in logs] == []


def test_what_else_lies_where_studies_are_set_aside_stops_nothing(site):
    site.arrived("1.7", "1.7.1")
    site.clock.passes(2 * DAY)
    site.arrived("1.8", "1.8.1")
    keeper = site.retention(keep_unused_days=1)
    (site.home / "leaving" / "lost+found").mkdir()
    (site.home / "studies" / "1.8").rename(site.home / "leaving" / "1.8-1000000")  # as an earlier version wrote it
    site.rounds(keeper)
    assert names(site, "1.7", "1.7.1") == []
    assert names(site, "1.8", "1.8.1") == ["1.8.1.0"]
    assert [path.name for path in (site.home / "leaving").iterdir()] == ["lost+found"]


# -- a study that cannot be put back


def test_a_study_is_put_back_on_a_disk_that_has_no_room(site, monkeypatch):
    for uid in ("1.8.1", "1.8.2"):
        site.arrived("1.8", uid)
    keeper = site.retention(keep_unused_days=1)
    site.clock.passes(2 * DAY)
    keeper.tidy()
    site.arrived("1.8", "1.8.1")
    site.clock.passes(ASIDE_SECONDS + 1)

    def full(_descriptor: int, _content: memoryview) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr(os, "write", full)
        keeper.tidy()
    assert [names(site, "1.8", uid) for uid in ("1.8.1", "1.8.2")] == [["1.8.1.0"], ["1.8.2.0"]]
    assert list((site.home / "leaving").iterdir()) == []


def test_a_study_that_cannot_be_put_back_is_named_and_keeps_no_other_from_going(site):
    for study in ("1.7", "1.8", "1.9"):
        site.arrived(study, f"{study}.1")
        site.clock.passes(1.0)
    site.clock.passes(2 * FRESH_SECONDS)
    keeper = site.retention(clean_below_free_bytes=100_000, min_free_bytes=1)
    site.free = 100_000 - 10_000  # an image has 14,000 bytes
    keeper.tidy()
    site.ledger.series.image_arrived(SeriesKey("1.7", "1.7.1"), ARRIVAL)
    (site.home / "studies" / "1.7").write_text("no folder can be made here")
    site.clock.passes(ASIDE_SECONDS + 1)
    with capture_logs() as logs:
        keeper.tidy()
    (said,) = [line for line in logs if line["log_level"] == "error"]
    assert (said["event"], said["study"]) == ("study_stuck_aside", "1.7")
    assert "studies/1.7/1.7.1/1.7.1.0.dcm could not be written" in said["problem"]
    assert names(site, "1.8", "1.8.1") == []  # instead of 1.7, which is not going
    (site.home / "studies" / "1.7").unlink()
    keeper.tidy()
    assert names(site, "1.7", "1.7.1") == ["1.7.1.0"]
    assert names(site, "1.9", "1.9.1") == ["1.9.1.0"]


# -- what is kept aside for having other content


def test_other_content_that_comes_again_is_kept_for_its_days_from_then_on(site):
    site.arrived("1.8", "1.8.1")
    uids = {"study_uid": "1.8", "series_uid": "1.8.1", "sop_uid": "1.8.1.0"}
    kept = site.store.put(b"other content", **uids).path
    for path in (kept, kept.with_suffix(".json")):
        os.utime(path, (site.clock.now - 91 * DAY,) * 2)
    assert site.store.put(b"other content", **uids).path == kept
    site.retention(keep_quarantine_days=90).tidy()
    assert kept.read_bytes() == b"other content"


# -- what the intake makes of a study that lies aside

LIVER = "name: liver\nmatch: {Modality: CT, Instances: {min: 2}}\nprompts: [liver]\n"


@pytest.fixture
def node(tmp_path):
    folder = tmp_path / "home" / "protocols"
    folder.mkdir(parents=True)
    (folder / "liver.yaml").write_text(LIVER)
    made = IntakeSite(folder.parent, keep_images_days=1)
    with running_queue(made.settings):
        yield made
        made.close()


def done_and_set_aside(node: IntakeSite, *images: Path) -> Job:
    """The job on these images, which is over for days."""
    node.receives(*images, ago=2 * DAY)
    node.lag = 2 * DAY - 2 * QUIET
    (job,) = node.tick()
    assert (claim := node.ledger.jobs.claim(job.id, LEASE))
    assert node.ledger.jobs.segmented(claim, Result.model_validate({"files": []}))
    node.lag = 5 * QUIET
    tidy(node)
    assert list(node.store.walk()) == []
    node.lag = 0.0
    return node.ledger.jobs.get(job.id)


def tidy(node: IntakeSite) -> None:
    Retention(node.settings, node.store, node.ledger).tidy()


@pytest.mark.peers
def test_some_of_the_same_images_make_no_job_while_the_others_lie_aside(node, images):
    job = done_and_set_aside(node, *images)
    node.receives(*images[:2], ago=QUIET + 1, association="a2")
    assert node.tick() == [job]
    tidy(node)
    assert node.tick() == [job]
    assert len(list(node.store.walk())) == 4
    assert node.ledger.series.unsettled() == []


@pytest.mark.peers
def test_a_late_image_is_asked_about_when_the_others_are_back(node, images):
    job = done_and_set_aside(node, *images[:3])
    node.receives(images[3], ago=QUIET + 1, association="a2")
    assert node.tick() == [job]
    tidy(node)
    old, new = node.tick()
    assert (old.id, old.superseded_by) == (job.id, new.id)
    assert (new.state, len(new.spec.instances)) == (JobState.QUEUED, 4)


@pytest.mark.peers
def test_an_image_that_was_removed_before_the_ledger_heard_of_it_is_not_acknowledged(node, images, monkeypatch):
    """The listener stood still between storing and noting, for as long as the study lay aside."""
    heard = node.ledger.series.image_arrived

    def after_the_removal(key: SeriesKey, origin: Origin) -> None:
        shutil.rmtree(node.settings.home / "studies" / key.study_uid)
        heard(key, origin)

    with monkeypatch.context() as slow:
        slow.setattr(node.ledger.series, "image_arrived", after_the_removal)
        with pytest.raises(StoreError, match="was removed before its arrival was noted; send it again"):
            node.receives(images[0], ago=0)
    node.receives(images[0], ago=0)


@pytest.mark.peers
def test_an_image_that_was_set_aside_before_the_ledger_heard_of_it_is_acknowledged_and_comes_back(
    node, images, monkeypatch
):
    heard = node.ledger.series.image_arrived

    def when_it_is_set_aside(key: SeriesKey, origin: Origin) -> None:
        assert StoreRemoval(node.store).set_aside(key.study_uid, 1.0)
        heard(key, origin)

    monkeypatch.setattr(node.ledger.series, "image_arrived", when_it_is_set_aside)
    node.receives(images[0], ago=0)
    tidy(node)
    assert len(list(node.store.walk())) == 1


# -- one at a time


def is_free(folder: Path) -> bool:
    """Whether anybody might move something into the folder now, or remove something there."""
    descriptor = try_lock(folder)
    if descriptor is not None:
        os.close(descriptor)
    return descriptor is not None


@pytest.mark.peers
def test_nothing_is_set_aside_while_the_protocols_are_asked(node, images, monkeypatch):
    free = []
    select = node.intake._selection.select

    def seen(*question, **facts):
        free.append(is_free(node.settings.home / "leaving"))
        return select(*question, **facts)

    monkeypatch.setattr(node.intake._selection, "select", seen)
    node.receives(*images, ago=QUIET + 1)
    node.tick()
    assert free == [False]
    assert is_free(node.settings.home / "leaving")


@pytest.mark.parametrize("step", ["set_aside", "put_back", "remove"])
def test_what_the_ledger_said_of_a_study_holds_until_it_is_moved(site, monkeypatch, step):
    free = []
    does = getattr(StoreRemoval, step)

    def seen(self: StoreRemoval, *facts: object) -> object:
        free.append(is_free(site.home / "leaving"))
        return does(self, *facts)

    monkeypatch.setattr(StoreRemoval, step, seen)
    site.arrived("1.7", "1.7.1")
    site.arrived("1.8", "1.8.1")
    site.clock.passes(2 * DAY)
    keeper = site.retention(keep_unused_days=1)
    keeper.tidy()
    late_image(site, "1.7", "1.7.1")
    site.clock.passes(ASIDE_SECONDS + 1)
    keeper.tidy()
    assert free
    assert not any(free)


def test_what_lies_in_quarantine_is_not_removed_while_it_comes_again(site, monkeypatch):
    """Whichever is first: the content that is acknowledged then has a file, and a note with its time."""
    free = []
    renew, unlink = os.utime, Path.unlink

    def seen_unlink(path: Path, **facts: bool) -> None:
        if path.parent.name == "quarantine":
            free.append(is_free(path.parent))
        unlink(path, **facts)

    def seen_renew(path: Path) -> None:
        free.append(is_free(path.parent))
        renew(path)

    site.arrived("1.8", "1.8.1")
    uids = {"study_uid": "1.8", "series_uid": "1.8.1", "sop_uid": "1.8.1.0"}
    site.clock.now = time.time()
    keeper = site.retention(keep_quarantine_days=1)
    monkeypatch.setattr(os, "utime", seen_renew)
    monkeypatch.setattr(Path, "unlink", seen_unlink)
    for _ in range(2):
        site.store.put(b"other content", **uids)
    site.clock.passes(2 * DAY)
    keeper.tidy()
    assert free == [False, False, False]
    assert list((site.home / "quarantine").iterdir()) == []

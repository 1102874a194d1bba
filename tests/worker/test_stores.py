"""Two listeners with a store each on one ledger: each sees to its own images and leaves those of the other alone."""

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from dicom_node.store import Store
from dicom_node.synthesis import ct_series
from tests.support.ledger_stories import LEASE, Clock, work
from tests.support.listening import QUIET, IntakeSite
from worker.ledger import JobState, Ledger

STUDIES = 6

pytestmark = pytest.mark.peers


@pytest.fixture
def two(tmp_path: Path, ledger_url: str) -> Iterator[tuple[IntakeSite, IntakeSite]]:
    """Two homes on one ledger, with the same protocol."""
    sites = []
    for name in ("here", "there"):
        home = tmp_path / name
        (home / "protocols").mkdir(parents=True)
        (home / "protocols" / "liver.yaml").write_text("name: liver\nmatch: {Modality: CT}\nprompts: [liver]\n")
        sites.append(IntakeSite(home, database_url=ledger_url))
    yield sites[0], sites[1]
    for site in sites:
        site.close()


def study(folder: Path, number: int) -> list[Path]:
    image = np.full((4, 8, 8), number, np.float32)
    return ct_series(image, (3.0, 1.0, 1.0), folder / str(number))


def test_every_study_gets_its_job_whichever_listener_looks_first(
    two: tuple[IntakeSite, IntakeSite], tmp_path: Path
) -> None:
    here, there = two
    for number in range(STUDIES):
        here.receives(*study(tmp_path / "sent here", number), ago=QUIET + 1)
        there.receives(*study(tmp_path / "sent there", 1000 + number), ago=QUIET + 1)
    for _ in range(2):
        here.tick()
        there.tick()
    assert len(here.ledger.jobs.find()) == 2 * STUDIES
    for site, other in (two, two[::-1]):
        mine = site.ledger.jobs.due()
        assert len(mine) == STUDIES
        assert {site.ledger.jobs.get(one).store_id for one in mine} == {site.store.id}
        stored = {one.study_uid for one in site.store.walk()}
        assert {one.uid for one in site.ledger.retention.studies()} == stored
        assert other.ledger.jobs.claim(mine[0], LEASE) is None, "its images lie in another store"
        assert site.ledger.jobs.claim(mine[0], LEASE) is not None
        assert site.ledger.series.unsettled() == []


def test_a_listener_settles_no_series_whose_images_lie_elsewhere(
    two: tuple[IntakeSite, IntakeSite], tmp_path: Path
) -> None:
    """It would find no image and settle the series without a job: acknowledged, and never segmented."""
    here, there = two
    there.receives(*study(tmp_path, 1), ago=QUIET + 1)
    assert here.tick() == []
    (waiting,) = there.ledger.series.unsettled()
    assert waiting.store_id == there.store.id
    (job,) = there.tick()
    assert job.state is JobState.QUEUED


def test_a_home_that_was_lost_gives_its_jobs_to_the_one_that_gets_the_images_again(
    two: tuple[IntakeSite, IntakeSite], tmp_path: Path
) -> None:
    lost, new = two
    images = study(tmp_path, 1)
    lost.ledger.stores.note("lost")
    lost.receives(*images, ago=QUIET + 1)
    (job,) = lost.tick()
    lost.ledger.jobs.claim(job.id, LEASE)
    new.receives(*images, ago=QUIET + 1)
    new.tick()
    assert new.ledger.jobs.get(job.id).store_id == lost.store.id, "it is at work on it"
    new.ledger.database.clock = lambda: time.time() + 3600
    new.ledger.jobs.free_lost_leases(3)
    new.ledger.jobs.add(job.spec)
    assert new.ledger.jobs.due() == [job.id]
    assert new.ledger.jobs.claim(job.id, LEASE).store_id == new.store.id


def test_a_person_may_have_a_failed_job_of_a_lost_home_done_here(ledger_url: str, clock: Clock) -> None:
    lost, new = (Ledger(ledger_url, clock, store_id=32 * name) for name in "ab")
    lost.stores.note("lost")
    lost.jobs.add(work())
    lost.jobs.fail(lost.jobs.claim(work().job_id, LEASE), "no images")
    assert new.jobs.retry(work().job_id).store_id == 32 * "a", "that home was at work just now"
    lost.jobs.fail(lost.jobs.claim(work().job_id, LEASE), "no images")
    clock.passes(3600)
    assert new.jobs.retry(work().job_id).store_id == 32 * "b"
    assert new.jobs.due() == [work().job_id]
    lost.close()
    new.close()


def test_what_an_older_version_wrote_belongs_to_the_one_store_there_was(
    ledger_url: str, clock: Clock, tmp_path: Path
) -> None:
    older = Ledger(ledger_url, clock)
    older.jobs.add(work())
    mine = Ledger(ledger_url, clock, store_id=Store(tmp_path / "home").id)
    assert mine.jobs.due() == [work().job_id]
    assert mine.jobs.claim(work().job_id, LEASE) is not None
    older.close()
    mine.close()


def test_a_listener_learns_which_other_stores_use_its_ledger(ledger_url: str, clock: Clock) -> None:
    one, other = (Ledger(ledger_url, clock, store_id=32 * name) for name in "ab")
    assert one.stores.note("ct-room") == []
    clock.passes(60)
    assert [seen.host for seen in other.stores.note("mr-room")] == ["ct-room"]
    assert one.stores.note("ct-room-2")[0].host == "mr-room"
    assert {seen.host for seen in one.stores.all()} == {"ct-room-2", "mr-room"}
    one.close()
    other.close()


def test_a_home_keeps_its_id_and_another_has_another(tmp_path: Path) -> None:
    first = Store(tmp_path / "one").id
    assert first == Store(tmp_path / "one").id != Store(tmp_path / "two").id
    (tmp_path / "one").rename(tmp_path / "moved")
    assert Store(tmp_path / "moved").id == first

"""Room on the disk: what goes, what stays, and that nothing which anybody needs is ever removed."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from dicom_node.removal import StoreRemoval
from dicom_node.storage.replacements import count_replacement
from dicom_node.uids import SeriesKey
from tests.support.examples import examples
from tests.support.ledger_stories import LEASE, Clock, claimed, deliver, work
from tests.support.retention_site import ARRIVAL, RetentionSite
from worker.errors import SettingsError
from worker.job_spec import Route
from worker.ledger import DeliveryState, JobState, Ledger
from worker.ledger.schema import deliveries, jobs, metadata, series
from worker.ledger.states import SeriesState
from worker.maintenance.retention import ASIDE_SECONDS, DAY, FRESH_SECONDS
from worker.reports.inbox import ReportInbox
from worker.result import Result
from worker.settings import load


@pytest.fixture
def site(tmp_path: Path, ledger: Ledger, clock: Clock) -> RetentionSite:
    return RetentionSite(tmp_path / "home", ledger, clock)


# -- by age


def test_delivered_images_and_results_go_when_their_days_are_over(site):
    job = site.delivered()
    keeper = site.retention(keep_images_days=2, keep_results_days=3)
    site.clock.passes(1.9 * DAY)
    site.rounds(keeper)
    assert site.has_images("1.2.3", "1.2.3.4")
    site.clock.passes(0.2 * DAY)
    site.rounds(keeper)
    assert not site.has_images("1.2.3", "1.2.3.4")
    assert site.has_results(job)
    assert site.ledger.jobs.get(job.id).cleaned_at is not None
    site.clock.passes(DAY)
    site.rounds(keeper)
    assert not site.has_results(job)
    assert site.ledger.jobs.get(job.id).state is JobState.DELIVERED


def test_without_days_everything_stays(site):
    job = site.delivered()
    site.clock.passes(10_000 * DAY)
    site.rounds(site.retention())
    assert site.has_images("1.2.3", "1.2.3.4")
    assert site.has_results(job)


def test_nothing_goes_before_the_destination_has_promised_to_keep_it(site):
    job = site.segmented("1.2.3.4", Route(to="pacs"))
    claim = site.ledger.deliveries.claim(job.id, "pacs", LEASE)
    site.ledger.deliveries.end(claim, DeliveryState.DELIVERED, transaction_uid="2.25.1")
    keeper = site.retention(keep_images_days=1, keep_results_days=1)
    site.clock.passes(100 * DAY)
    site.rounds(keeper)
    asked = site.ledger.commitments.claim(job.id, "pacs", "2.25.2", LEASE)
    site.clock.passes(100 * DAY)
    site.ledger.commitments.give_up(1)
    site.rounds(keeper)
    assert site.has_images("1.2.3", "1.2.3.4")
    assert site.has_results(job)
    assert site.ledger.commitments.committed(asked)
    site.clock.passes(2 * DAY)
    site.rounds(keeper)
    assert not site.has_images("1.2.3", "1.2.3.4")
    assert not site.has_results(job)


def test_failed_jobs_keep_what_a_retry_needs_unless_they_are_very_old(site):
    job = site.segmented("1.2.3.4", Route(to="pacs"))
    deliver(site.ledger, job, "pacs", DeliveryState.FAILED, "refused")
    keeper = site.retention(keep_images_days=1, keep_results_days=1, keep_failed_days=30)
    site.clock.passes(29 * DAY)
    site.rounds(keeper)
    assert site.has_images("1.2.3", "1.2.3.4")
    assert site.has_results(job)
    site.clock.passes(2 * DAY)
    site.rounds(keeper)
    assert not site.has_images("1.2.3", "1.2.3.4")
    assert not site.has_results(job)


def test_a_failed_job_that_is_superseded_keeps_nothing_since_no_retry_starts_it(site):
    """Late images made a new job, whose result is where it should be."""
    site.arrived("1.2.3", "1.2.3.4")
    task = work(images=1)
    site.ledger.jobs.add(task)
    site.ledger.jobs.fail(site.ledger.jobs.claim(task.job_id, LEASE), "no room")
    later = work(images=2)
    site.ledger.jobs.add(later)
    assert site.ledger.jobs.segmented(site.ledger.jobs.claim(later.job_id, LEASE), Result.model_validate({"files": []}))
    site.clock.passes(1.1 * DAY)
    site.rounds(site.retention(keep_images_days=1))
    assert not site.has_images("1.2.3", "1.2.3.4")


def test_a_study_that_no_protocol_took_has_days_of_its_own(site):
    site.arrived("1.9", "1.9.1")
    site.arrived("1.2.3", "1.2.3.9")  # a series that nobody took, in a study that is in use
    site.delivered()
    site.clock.passes(2 * DAY)
    site.rounds(site.retention(keep_unused_days=1, keep_images_days=7))
    assert not site.has_images("1.9", "1.9.1")
    assert site.has_images("1.2.3", "1.2.3.9")


def test_a_study_goes_as_a_whole_or_not_at_all(site):
    site.delivered("1.2.3.4")
    site.segmented("1.2.3.5", Route(to="pacs"))
    site.clock.passes(100 * DAY)
    site.rounds(site.retention(keep_images_days=1))
    assert site.has_images("1.2.3", "1.2.3.4")


def test_what_lies_in_quarantine_goes_by_days_of_its_own_and_is_named(site):
    for number, days in enumerate((91, 89)):
        with site.store.incoming() as file:
            file.write(bytes([number]))
            kept = site.store.quarantine(file, "it is a letter", name=str(number))
        for path in (kept, kept.with_suffix(".json")):
            os.utime(path, (site.clock.now - days * DAY,) * 2)
    site.rounds(site.retention(clean_below_free_bytes=10**18))
    assert len(list((site.home / "quarantine").iterdir())) == 4
    with capture_logs() as logs:
        site.rounds(site.retention(keep_quarantine_days=90))
    assert sorted(path.name for path in (site.home / "quarantine").iterdir()) == ["1.dcm", "1.json"]
    said = [(line["file"], line["was_there_because"]) for line in logs if line["event"] == "quarantine_removed"]
    assert said == [("0", "it is a letter")]


@pytest.mark.parametrize("by", ["age", "quota"])
def test_a_file_that_cannot_be_removed_now_is_removed_by_a_later_round(site, monkeypatch, by):
    """Its note goes last: what has no note would never be found again."""
    with site.store.incoming() as file:
        file.write(b"a letter")
        kept = site.store.quarantine(file, "it is a letter", name="0")
    removal = StoreRemoval(site.store)

    def remove() -> None:
        removal.remove_from_quarantine(1e12) if by == "age" else removal.drop(removal.quarantined())

    with monkeypatch.context() as broken:

        def unlink(path: Path, missing_ok: bool = False) -> None:
            raise PermissionError(13, "Permission denied", str(path))

        broken.setattr(Path, "unlink", unlink)
        with pytest.raises(PermissionError):
            remove()
    assert kept.with_suffix(".json").exists()
    fails = iter([PermissionError(13, "Permission denied", str(kept))])
    unlink_file = Path.unlink

    def once(path: Path, missing_ok: bool = False) -> None:
        if path == kept and (error := next(fails, None)):
            raise error
        unlink_file(path, missing_ok)

    with monkeypatch.context() as broken:
        broken.setattr(Path, "unlink", once)
        with contextlib.suppress(PermissionError):
            remove()
    remove()
    assert list((site.home / "quarantine").iterdir()) == []


# -- when images come again


def test_an_image_that_comes_while_its_study_is_going_brings_all_of_it_back(site):
    site.delivered()
    keeper = site.retention(keep_images_days=1)
    site.clock.passes(2 * DAY)
    keeper.tidy()
    assert not site.has_images("1.2.3", "1.2.3.4")
    site.ledger.series.image_arrived(SeriesKey("1.2.3", "1.2.3.4"), ARRIVAL)  # it was stored, as the same, just before
    site.clock.passes(ASIDE_SECONDS + 1)
    keeper.tidy()
    assert site.has_images("1.2.3", "1.2.3.4")


def test_a_study_that_was_set_aside_before_the_clock_was_set_back_comes_back(site):
    """Until the clock is where it was, an image that comes cannot be told from one that came before."""
    site.delivered()
    keeper = site.retention(keep_images_days=1)
    site.clock.passes(2 * DAY)
    keeper.tidy()
    assert not site.has_images("1.2.3", "1.2.3.4")
    site.clock.passes(-2 * DAY)
    keeper.tidy()
    assert site.has_images("1.2.3", "1.2.3.4")


def test_what_came_again_with_other_content_meanwhile_is_kept_beside(site):
    site.delivered()
    keeper = site.retention(keep_images_days=1)
    site.clock.passes(2 * DAY)
    keeper.tidy()
    site.store.put(b"other content", study_uid="1.2.3", series_uid="1.2.3.4", sop_uid="1.2.3.4.0")
    site.ledger.series.image_arrived(SeriesKey("1.2.3", "1.2.3.4"), ARRIVAL)
    site.clock.passes(ASIDE_SECONDS + 1)
    keeper.tidy()
    assert site.store.series_paths(SeriesKey("1.2.3", "1.2.3.4"))[0].read_bytes() == b"other content"
    assert len(list((site.home / "quarantine").glob("1.2.3.4.0.conflict-*.dcm"))) == 1


def test_the_same_images_again_make_no_second_job(site):
    job = site.delivered()
    site.clock.passes(2 * DAY)
    site.rounds(site.retention(keep_images_days=1, keep_results_days=1))
    site.arrived("1.2.3", "1.2.3.4")
    assert not site.ledger.jobs.add(job.spec)
    assert [one.state for one in site.ledger.jobs.find()] == [JobState.DELIVERED]


def test_some_of_the_same_images_again_make_no_job_on_less(ledger):
    job = claimed(ledger, images=3)
    ledger.jobs.segmented(job, Result.model_validate({"files": []}))
    ledger.retention.note_removed(study_uid=job.study_uid)
    assert not ledger.jobs.add(work(images=2))
    assert ledger.jobs.add(work(images=4))


# -- reports


def test_a_report_goes_with_its_study(site):
    inbox = ReportInbox(site.home, site.ledger)
    site.delivered()
    site.ledger.studies.note_accession("1.2.3", "A1")
    inbox.take(b"FINDINGS: Liver lesion.", source="http", study_uid="1.2.3")
    inbox.take(b"FINDINGS: Kidney stone.", source="http", accession="A1")
    keeper = site.retention(keep_images_days=1)
    site.ledger.series.settle(site.ledger.series.unsettled()[0])  # a report has the protocols asked again
    site.clock.passes(2 * DAY)
    keeper.tidy()
    assert len(list(inbox.folder.iterdir())) == 2  # the study lies aside and may come back
    site.clock.passes(ASIDE_SECONDS + 1)
    keeper.tidy()
    assert list(inbox.folder.iterdir()) == []


def test_a_report_without_a_study_waits_for_it_as_long_as_a_study_without_a_protocol(site):
    inbox = ReportInbox(site.home, site.ledger)
    inbox.take(b"FINDINGS: Liver lesion.", source="http", accession="A1")
    site.clock.passes(100 * DAY)
    site.retention(keep_images_days=1).tidy()
    assert len(list(inbox.folder.iterdir())) == 1
    site.retention(keep_unused_days=99).tidy()
    assert list(inbox.folder.iterdir()) == []


# -- by disk pressure


def test_a_disk_that_gets_full_loses_the_oldest_first_and_no_more_than_it_must(site):
    for number in range(4):
        site.arrived(f"1.{number}", f"1.{number}.1")
        site.clock.passes(FRESH_SECONDS)
    keeper = site.retention(clean_below_free_bytes=100_000, min_free_bytes=1)
    site.free = 100_000 - 15_000  # an image has 14,000 bytes: two of them
    keeper.tidy()
    assert [site.has_images(f"1.{number}", f"1.{number}.1") for number in range(4)] == [False, False, True, True]
    keeper.tidy()  # what lies aside counts as gone
    assert site.has_images("1.2", "1.2.1")


def test_a_full_disk_takes_neither_the_only_copy_of_a_result_nor_what_is_fresh_or_needed(site, caplog):
    alone, sent = site.segmented("1.2.3.4"), site.delivered("1.2.3.5")
    keeper = site.retention(clean_below_free_bytes=100_000, min_free_bytes=1)
    site.free = 0
    keeper.tidy()
    assert site.has_results(sent)
    site.clock.passes(2 * FRESH_SECONDS)
    site.arrived("1.2.3", "1.2.3.6", settled=False)
    site.rounds(keeper)
    assert site.has_images("1.2.3", "1.2.3.4")
    assert site.has_results(alone)
    assert not site.has_results(sent)


def test_room_must_be_made_before_images_are_refused():
    with pytest.raises(SettingsError, match="CLEAN_BELOW_FREE_BYTES: must be more than VOXTELL_MIN_FREE_BYTES"):
        load(clean_below_free_bytes=1000, min_free_bytes=1000)


# -- whatever the ledger says

UNFINISHED = ("queued", "segmenting", "review", "sending")
ages = st.floats(0.0, 10.0)  # days
facts = st.lists(  # per study: its series with state and age; its jobs with state, age and what one delivery waits for
    st.tuples(
        st.lists(st.tuples(st.sampled_from(SeriesState), ages), min_size=1, max_size=2),
        st.lists(st.tuples(st.sampled_from(JobState), ages, st.booleans()), max_size=2),
    ),
    min_size=1,
    max_size=3,
)
limits = st.fixed_dictionaries(
    {
        name: st.sampled_from([0.0, 1.0, 5.0])
        for name in ("keep_images_days", "keep_results_days", "keep_unused_days", "keep_failed_days")
    }
)


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RetentionSite]:
    clock = Clock()
    ledger = Ledger("sqlite://", clock)
    yield RetentionSite(tmp_path_factory.mktemp("crowd"), ledger, clock)
    ledger.close()


@pytest.mark.long
@examples(60)
@given(facts=facts, limits=limits, full=st.booleans(), meanwhile=st.sampled_from(["nothing", "image", "retry"]))
def test_nothing_that_is_needed_is_ever_removed(crowd, facts, limits, full, meanwhile):
    engine, now = crowd.ledger.database.engine, crowd.clock.now
    with engine.begin() as connection:
        for table in reversed(metadata.sorted_tables):
            connection.execute(sa.delete(table))
        for number, (arrived, made) in enumerate(facts):
            _write(connection, crowd, f"1.{number}", arrived, made, now)
    keeper = crowd.retention(clean_below_free_bytes=10**9 if full else 0, min_free_bytes=1, **limits)
    crowd.free = 0 if full else 10**12
    keeper.tidy()
    _happens(crowd, meanwhile)
    crowd.clock.passes(ASIDE_SECONDS + 1)
    keeper.tidy()

    for number, (arrived, made) in enumerate(facts):
        states = [(_state_of(crowd, f"1.{number}", index), age, awaits) for index, (_, age, awaits) in enumerate(made)]
        images = [crowd.has_images(f"1.{number}", f"1.{number}.{index}") for index in range(len(arrived))]
        receiving = any(one.study_uid == f"1.{number}" for one in crowd.ledger.series.unsettled())
        busy = any(state in UNFINISHED or (state == "delivered" and awaits) for state, _, awaits in states)
        failed = any(state == "failed" for state, _, _ in states)
        too_young = not any(limit > 0 for limit in limits.values()) and not full
        if receiving or busy or too_young or (failed and not limits["keep_failed_days"]):
            assert all(images), (states, limits, full, meanwhile)
        for index, (first, age, awaits) in enumerate(made):
            if all(_keeps_results(state, age, awaits, limits) for state in (str(first), states[index][0])):
                assert crowd.store.result_paths(_id(f"1.{number}", index)), (states, limits, full)
    for study in crowd.retention()._removal.leaving():  # a young one cannot be there
        crowd.retention()._removal.remove(study)


def _keeps_results(state: str, age: float, awaits: bool, limits: dict[str, float]) -> bool:
    if state in UNFINISHED or (state == "delivered" and awaits):
        return True
    limit = {"failed": "keep_failed_days", "segmented": "keep_results_days", "cancelled": "keep_results_days"}
    return state in limit and not 0 < limits[limit[state]] < age + 0.01


def _id(study: str, index: int) -> str:
    return f"job-{study}-{index}"


def _state_of(site: RetentionSite, study: str, index: int) -> str:
    return str(site.ledger.jobs.get(_id(study, index)).state)


def _write(connection: sa.Connection, site: RetentionSite, study: str, arrived: list, made: list, now: float) -> None:
    for index, (state, age) in enumerate(arrived):
        uid = f"{study}.{index}"
        site.store.put(b"an image", study_uid=study, series_uid=uid, sop_uid=f"{uid}.0")
        at = {"first_at": now - age * DAY, "last_at": now - age * DAY}
        row = {"study_uid": study, "series_uid": uid, "state": state} | at | asdict(ARRIVAL)
        connection.execute(sa.insert(series).values(row))
    for index, (state, age, awaits) in enumerate(made):
        job = _id(study, index)
        site.results(job)
        task = work(series=f"{study}.0", images=1, destinations=("pacs",))
        at = {"created_at": now - age * DAY, "updated_at": now - age * DAY, "next_try_at": now}
        row = {"id": job, "study_uid": study, "series_uid": f"{study}.0", "protocol": "liver", "state": state} | at
        result = {"files": ["seg.dcm"]}
        connection.execute(sa.insert(jobs).values(row | {"work": task.model_dump(mode="json"), "result": result}))
        uid = "2.25.1" if awaits else None
        line = {"job_id": job, "destination": "pacs", "state": "delivered", "transaction_uid": uid, "next_try_at": now}
        connection.execute(sa.insert(deliveries).values(line))


def _happens(site: RetentionSite, meanwhile: str) -> None:
    """While a study lies aside."""
    if meanwhile == "image":
        site.ledger.series.image_arrived(SeriesKey("1.0", "1.0.0"), ARRIVAL)
    for job in site.ledger.jobs.find(JobState.FAILED) if meanwhile == "retry" else []:
        site.ledger.jobs.retry(job.id)


@pytest.mark.parametrize("content", ["", "0123456789abcdef"])
def test_a_study_with_replaced_images_stays_where_its_job_holds_no_content(site, content):
    """The counts beside its images tell the content of such a job from the next."""
    site.arrived("1.2.3", "1.2.3.4")
    assert site.ledger.jobs.add(work(series="1.2.3.4", images=1).model_copy(update={"content": content}))
    site.ledger.jobs.cancel(site.ledger.jobs.find()[0].id)
    (image,) = site.store.series_paths(SeriesKey("1.2.3", "1.2.3.4"))
    count_replacement(image, image.with_suffix(".unfinished"))
    site.clock.passes(10 * DAY)
    site.rounds(site.retention(keep_unused_days=5, keep_images_days=5, keep_failed_days=5))
    assert site.has_images("1.2.3", "1.2.3.4") is (not content)

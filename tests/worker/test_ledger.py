"""Jobs in the ledger, told as stories: on SQLite and on PostgreSQL alike, with a clock that stands still."""

from datetime import datetime

import pytest
from sqlalchemy import event

from tests.support.ledger_stories import LEASE, RESULT, claimed, deliver, sending, work
from worker.errors import UnknownJobError
from worker.job_spec import JobSpec, Priority
from worker.ledger import DeliveryState, Job, JobState, Ledger

# -- a job


def test_a_job_goes_from_queued_to_delivered(ledger):
    task = work(destinations=("pacs",))
    assert ledger.jobs.add(task)
    assert ledger.jobs.due() == [task.job_id]
    job = ledger.jobs.claim(task.job_id, LEASE)
    assert (job.state, job.attempts, job.spec) == (JobState.SEGMENTING, 1, task)
    assert ledger.jobs.due() == []
    assert ledger.jobs.segmented(job, RESULT)
    assert ledger.jobs.get(job.id).result == RESULT
    assert ledger.deliveries.due() == [(job.id, "pacs")]
    assert deliver(ledger, job, "pacs", DeliveryState.DELIVERED) is JobState.DELIVERED
    assert ledger.deliveries.due() == []


def test_without_a_destination_the_results_on_disk_are_the_end(ledger):
    job = claimed(ledger)
    assert ledger.jobs.segmented(job, RESULT)
    assert ledger.jobs.get(job.id).state is JobState.SEGMENTED
    with pytest.raises(UnknownJobError, match="is segmented; only unfinished jobs can be cancelled"):
        ledger.jobs.cancel(job.id)


def test_the_same_work_is_the_same_job(ledger):
    assert ledger.jobs.add(work(destinations=("pacs",)))
    assert not ledger.jobs.add(work(destinations=("archive",)))
    assert len(ledger.jobs.find()) == 1


def test_a_second_worker_gets_nothing(ledger):
    job = claimed(ledger)
    assert ledger.jobs.claim(job.id, LEASE) is None
    assert ledger.jobs.get(job.id).attempts == 1


def test_a_job_that_waits_is_not_to_be_had_before_its_time(ledger, clock):
    job = claimed(ledger)
    assert ledger.jobs.postpone(job, "out of memory", 30.0)
    assert ledger.jobs.get(job.id).reason == "out of memory"
    assert ledger.jobs.due() == []
    assert ledger.jobs.claim(job.id, LEASE) is None
    clock.passes(30.0)
    assert ledger.jobs.due() == [job.id]
    assert ledger.jobs.claim(job.id, LEASE).attempts == 2


def test_jobs_are_segmented_in_the_order_in_which_they_came(ledger, clock):
    ids = []
    for series in ("1.9", "1.1", "1.5"):
        ids.append(work(series=series).job_id)
        ledger.jobs.add(work(series=series))
        clock.passes(1.0)
    assert ledger.jobs.due() == ids
    assert ledger.jobs.due(limit=2) == ids[:2]
    assert [job.id for job in ledger.jobs.find()] == ids[::-1]


NIGHT = ("22:00", "06:00")


def archived(**circumstances) -> JobSpec:
    return work().model_copy(update={"priority": Priority.ARCHIVE, "window": NIGHT} | circumstances)


def test_what_the_archive_queued_goes_first_when_the_clinic_sends_it(ledger, clock):
    clock.now = datetime(2026, 3, 3, 12).timestamp()
    ledger.jobs.add(archived())
    other = work(series="1.2.3.5")
    ledger.jobs.add(other)
    urgent = work().model_copy(update={"priority": Priority.URGENT})
    assert ledger.jobs.due() == [other.job_id], "its hours begin in the evening"
    assert not ledger.jobs.add(urgent)
    assert ledger.jobs.hasten(urgent)
    assert ledger.jobs.due() == [urgent.job_id, other.job_id]
    job = ledger.jobs.claim(urgent.job_id, LEASE)
    assert (job.spec.priority, job.spec.window, job.spec.job_id) == (Priority.URGENT, None, archived().job_id)
    assert not ledger.jobs.hasten(urgent), "a worker is at it"


@pytest.mark.parametrize("later", [archived(), archived(window=None), archived(priority=Priority.ROUTINE)])
def test_no_job_is_moved_back(ledger, clock, later):
    clock.now = datetime(2026, 3, 3, 12).timestamp()
    ledger.jobs.add(work())
    assert not ledger.jobs.hasten(later)
    assert not ledger.jobs.hasten(work(series="1.2.3.9")), "nobody knows that work"
    assert ledger.jobs.due() == [work().job_id]
    assert ledger.jobs.get(work().job_id).spec.priority is Priority.ROUTINE


def test_a_retry_that_waits_for_its_backoff_is_not_hastened_past_it(ledger, clock):
    job = claimed(ledger)
    ledger.jobs.postpone(job, "the GPU is full", 60)
    assert ledger.jobs.hasten(work().model_copy(update={"priority": Priority.URGENT}))
    assert ledger.jobs.due() == []
    clock.passes(60)
    assert ledger.jobs.due() == [job.id]


def test_a_job_is_found_by_the_first_characters_of_its_id(ledger):
    ledger.jobs.add(work())
    job_id = work().job_id
    assert ledger.jobs.get(job_id[:6]).id == job_id
    with pytest.raises(UnknownJobError, match="no job with id 'zz'"):
        ledger.jobs.get("zz")
    ledger.jobs.add(work(series="1.7"))
    with pytest.raises(UnknownJobError, match="more than one job"):
        ledger.jobs.get("")


def test_jobs_are_listed_by_state(ledger):
    ledger.jobs.add(work(series="1.1"))
    job = claimed(ledger, series="1.2")
    assert [found.id for found in ledger.jobs.find(JobState.SEGMENTING)] == [job.id]


# -- leases


def test_a_silent_worker_loses_its_job(ledger, clock):
    job = claimed(ledger)
    clock.passes(LEASE - 1)
    assert ledger.jobs.free_lost_leases(max_attempts=3) == []
    assert ledger.jobs.get(job.id).state is JobState.SEGMENTING
    clock.passes(2)
    assert ledger.jobs.free_lost_leases(max_attempts=3) == []
    freed = ledger.jobs.get(job.id)
    assert (freed.state, freed.reason) == (JobState.QUEUED, "the worker died or fell silent during attempt 1")


def test_a_worker_that_renews_keeps_its_job(ledger, clock):
    job = claimed(ledger)
    for _ in range(5):
        clock.passes(LEASE - 1)
        assert ledger.jobs.renew(job, LEASE)
        ledger.jobs.free_lost_leases(max_attempts=1)
    assert ledger.jobs.get(job.id).state is JobState.SEGMENTING


def test_the_third_worker_that_dies_of_a_job_makes_it_failed(ledger, clock):
    ledger.jobs.add(work())
    for attempt in (1, 2, 3):
        assert ledger.jobs.claim(work().job_id, LEASE).attempts == attempt
        clock.passes(LEASE + 1)
        failed = ledger.jobs.free_lost_leases(max_attempts=3)
    assert [job.id for job in failed] == [work().job_id]
    assert failed[0].state is JobState.FAILED
    assert failed[0].reason == "the worker died or fell silent during attempt 3"
    assert ledger.jobs.claim(work().job_id, LEASE) is None


def test_a_worker_that_lost_its_lease_changes_nothing(ledger, clock):
    late = claimed(ledger)
    clock.passes(LEASE + 1)
    ledger.jobs.free_lost_leases(max_attempts=3)
    ledger.jobs.claim(late.id, LEASE)
    before = ledger.jobs.get(late.id)
    assert not ledger.jobs.renew(late, LEASE)
    assert not ledger.jobs.segmented(late, RESULT)
    assert not ledger.jobs.postpone(late, "late", 1.0)
    assert not ledger.jobs.fail(late, "late")
    assert ledger.jobs.get(late.id) == before
    assert ledger.deliveries.of_job(late.id) == []


def test_a_worker_that_was_cancelled_is_no_holder_after_a_retry(ledger):
    """The attempts count from 0 again, so their number cannot name the holder."""
    first = claimed(ledger)
    ledger.jobs.cancel(first.id)
    ledger.jobs.retry(first.id)
    second = ledger.jobs.claim(first.id, LEASE)
    assert second.attempts == first.attempts
    assert not ledger.jobs.renew(first, LEASE)
    assert ledger.jobs.renew(second, LEASE)


def test_a_claim_reads_only_what_it_wrote_itself(ledger_url, clock):
    """A worker that stalls right after its claim must not take the next worker's claim for its own."""
    slow, quick = Ledger(ledger_url, clock), Ledger(ledger_url, clock)
    slow.jobs.add(work())
    others: list[Job | None] = []

    @event.listens_for(slow.database.engine, "checkin")
    def _stalls(_connection: object, _record: object) -> None:
        if not others:
            clock.passes(LEASE + 1)
            quick.jobs.free_lost_leases(max_attempts=3)
            others.append(quick.jobs.claim(work().job_id, LEASE))

    mine = slow.jobs.claim(work().job_id, LEASE)
    assert not slow.jobs.renew(mine, LEASE)
    assert quick.jobs.renew(others[0], LEASE)
    slow.close()
    quick.close()


# -- later images, cancel, retry


@pytest.mark.peers
def test_later_images_supersede_what_has_no_results_yet(ledger, clock):
    waiting = work(images=3)
    ledger.jobs.add(waiting)
    clock.passes(10)
    running = claimed(ledger, images=4)
    assert ledger.jobs.get(waiting.job_id).state is JobState.CANCELLED
    clock.passes(10)
    newest = work(images=5)
    ledger.jobs.add(newest)
    assert ledger.jobs.get(waiting.job_id).superseded_by == running.id
    cancelled = ledger.jobs.get(running.id)
    assert (cancelled.state, cancelled.superseded_by) == (JobState.CANCELLED, newest.job_id)
    assert cancelled.reason == f"superseded by job {newest.job_id}: later images arrived"
    assert not ledger.jobs.renew(running, LEASE)
    assert ledger.jobs.due() == [newest.job_id]


def test_results_that_later_images_superseded_are_still_delivered_and_named(ledger, clock):
    first = sending(ledger, "pacs")
    clock.passes(10)
    ledger.jobs.add(work(images=4))
    assert ledger.jobs.get(first.id).superseded_by == work(images=4).job_id
    assert deliver(ledger, first, "pacs", DeliveryState.DELIVERED) is JobState.DELIVERED
    assert ledger.jobs.predecessor(ledger.jobs.get(work(images=4).job_id)).id == first.id


def test_the_predecessor_is_the_newest_older_job_with_results(ledger, clock):
    first = sending(ledger, "pacs")
    for images in (4, 5):
        clock.passes(10)
        ledger.jobs.add(work(images=images))  # 4 is superseded before it came to results
    clock.passes(10)
    failed = claimed(ledger, images=6)
    ledger.jobs.fail(failed, "no memory")
    clock.passes(10)
    ledger.jobs.add(work(images=7))
    assert ledger.jobs.predecessor(ledger.jobs.get(work(images=7).job_id)).id == first.id
    assert ledger.jobs.predecessor(first) is None


def test_of_a_series_that_became_two_volumes_only_the_one_on_the_same_images_replaces_the_older_result(ledger, clock):
    older = sending(ledger, "pacs")
    clock.passes(10)
    first = work(images=2).model_copy(update={"volume": "EchoTime=10"})
    second = work(series="1.2.3.5").model_copy(update={"series_uid": first.series_uid, "volume": "EchoTime=20"})
    assert ledger.jobs.add(first)
    assert ledger.jobs.add(second)
    assert ledger.jobs.predecessor(ledger.jobs.get(first.job_id)).id == older.id
    assert ledger.jobs.predecessor(ledger.jobs.get(second.job_id)) is None


def test_what_was_made_in_the_shadow_is_replaced_there_alone(ledger, clock):
    sent = sending(ledger, "pacs")
    clock.passes(10)
    shadow = work(images=4).model_copy(update={"shadow": True})
    assert ledger.jobs.add(shadow)
    assert ledger.jobs.segmented(ledger.jobs.claim(shadow.job_id, LEASE), RESULT)
    clock.passes(10)
    for later in (work(images=5), work(images=6).model_copy(update={"shadow": True})):
        assert ledger.jobs.add(later)
    assert ledger.jobs.predecessor(ledger.jobs.get(work(images=5).job_id)).id == sent.id
    assert ledger.jobs.predecessor(ledger.jobs.get(work(images=6).job_id)).id == shadow.job_id


def test_another_protocol_or_series_supersedes_nothing(ledger):
    ledger.jobs.add(work())
    ledger.jobs.add(work(protocol="kidney"))
    ledger.jobs.add(work(series="1.2.3.5"))
    assert len(ledger.jobs.find(JobState.QUEUED)) == 3


def test_a_cancelled_job_ends_whoever_is_at_it(ledger):
    job = claimed(ledger)
    assert ledger.jobs.cancel(job.id).state is JobState.CANCELLED
    assert not ledger.jobs.renew(job, LEASE)
    with pytest.raises(UnknownJobError, match="is cancelled; only unfinished"):
        ledger.jobs.cancel(job.id)


def test_a_failed_job_is_retried_from_its_first_attempt(ledger):
    job = claimed(ledger)
    assert ledger.jobs.fail(job, "slice 3 is missing")
    assert ledger.jobs.get(job.id).reason == "slice 3 is missing"
    again = ledger.jobs.retry(job.id)
    assert (again.state, again.attempts, again.reason) == (JobState.QUEUED, 0, "")
    with pytest.raises(UnknownJobError, match="is queued; only failed and cancelled"):
        ledger.jobs.retry(job.id)


def test_a_retry_of_a_failed_delivery_segments_nothing_again(ledger):
    job = sending(ledger, "pacs", "archive")
    deliver(ledger, job, "archive", DeliveryState.DELIVERED)
    assert deliver(ledger, job, "pacs", DeliveryState.FAILED, "refused") is JobState.FAILED
    assert ledger.jobs.retry(job.id).state is JobState.SENDING
    assert ledger.jobs.due() == []
    assert ledger.deliveries.due() == [(job.id, "pacs")]
    assert deliver(ledger, job, "pacs", DeliveryState.DELIVERED) is JobState.DELIVERED


def test_a_retry_after_everything_was_delivered_is_done_at_once(ledger):
    job = sending(ledger, "pacs")
    delivery = ledger.deliveries.claim(job.id, "pacs", LEASE)
    ledger.jobs.cancel(job.id)
    assert ledger.deliveries.end(delivery, DeliveryState.DELIVERED) is JobState.CANCELLED
    assert ledger.jobs.retry(job.id).state is JobState.DELIVERED

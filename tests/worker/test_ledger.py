"""Jobs in the ledger, told as stories: on SQLite and on PostgreSQL alike, with a clock that stands still."""

import pytest
from sqlalchemy import event

from tests.support.ledger_stories import LEASE, RESULT, claimed, deliver, sending, work
from worker.errors import UnknownJobError
from worker.ledger import DeliveryState, Job, JobState, Ledger

# -- a job


def test_a_job_goes_from_queued_to_delivered(ledger):
    task = work(destinations=("pacs",))
    assert ledger.add_job(task)
    assert ledger.to_segment() == [task.job_id]
    job = ledger.claim(task.job_id, LEASE)
    assert (job.state, job.attempts, job.spec) == (JobState.SEGMENTING, 1, task)
    assert ledger.to_segment() == []
    assert ledger.segmented(job, RESULT)
    assert ledger.job(job.id).result == RESULT
    assert ledger.to_deliver() == [(job.id, "pacs")]
    assert deliver(ledger, job, "pacs", DeliveryState.DELIVERED) is JobState.DELIVERED
    assert ledger.to_deliver() == []


def test_without_a_destination_the_results_on_disk_are_the_end(ledger):
    job = claimed(ledger)
    assert ledger.segmented(job, RESULT)
    assert ledger.job(job.id).state is JobState.SEGMENTED
    with pytest.raises(UnknownJobError, match="is segmented; only unfinished jobs can be cancelled"):
        ledger.cancel(job.id)


def test_the_same_work_is_the_same_job(ledger):
    assert ledger.add_job(work(destinations=("pacs",)))
    assert not ledger.add_job(work(destinations=("archive",)))
    assert len(ledger.jobs()) == 1


def test_a_second_worker_gets_nothing(ledger):
    job = claimed(ledger)
    assert ledger.claim(job.id, LEASE) is None
    assert ledger.job(job.id).attempts == 1


def test_a_job_that_waits_is_not_to_be_had_before_its_time(ledger, clock):
    job = claimed(ledger)
    assert ledger.postpone(job, "out of memory", 30.0)
    assert ledger.job(job.id).reason == "out of memory"
    assert ledger.to_segment() == []
    assert ledger.claim(job.id, LEASE) is None
    clock.passes(30.0)
    assert ledger.to_segment() == [job.id]
    assert ledger.claim(job.id, LEASE).attempts == 2


def test_jobs_are_segmented_in_the_order_in_which_they_came(ledger, clock):
    ids = []
    for series in ("1.9", "1.1", "1.5"):
        ids.append(work(series=series).job_id)
        ledger.add_job(work(series=series))
        clock.passes(1.0)
    assert ledger.to_segment() == ids
    assert ledger.to_segment(limit=2) == ids[:2]
    assert [job.id for job in ledger.jobs()] == ids[::-1]


def test_a_job_is_found_by_the_first_characters_of_its_id(ledger):
    ledger.add_job(work())
    job_id = work().job_id
    assert ledger.job(job_id[:6]).id == job_id
    with pytest.raises(UnknownJobError, match="no job with id 'zz'"):
        ledger.job("zz")
    ledger.add_job(work(series="1.7"))
    with pytest.raises(UnknownJobError, match="more than one job"):
        ledger.job("")


def test_jobs_are_listed_by_state(ledger):
    ledger.add_job(work(series="1.1"))
    job = claimed(ledger, series="1.2")
    assert [found.id for found in ledger.jobs(JobState.SEGMENTING)] == [job.id]


# -- leases


def test_a_silent_worker_loses_its_job(ledger, clock):
    job = claimed(ledger)
    clock.passes(LEASE - 1)
    assert ledger.free_lost_leases(max_attempts=3) == []
    assert ledger.job(job.id).state is JobState.SEGMENTING
    clock.passes(2)
    assert ledger.free_lost_leases(max_attempts=3) == []
    freed = ledger.job(job.id)
    assert (freed.state, freed.reason) == (JobState.QUEUED, "the worker died or fell silent during attempt 1")


def test_a_worker_that_renews_keeps_its_job(ledger, clock):
    job = claimed(ledger)
    for _ in range(5):
        clock.passes(LEASE - 1)
        assert ledger.renew(job, LEASE)
        ledger.free_lost_leases(max_attempts=1)
    assert ledger.job(job.id).state is JobState.SEGMENTING


def test_the_third_worker_that_dies_of_a_job_makes_it_failed(ledger, clock):
    ledger.add_job(work())
    for attempt in (1, 2, 3):
        assert ledger.claim(work().job_id, LEASE).attempts == attempt
        clock.passes(LEASE + 1)
        failed = ledger.free_lost_leases(max_attempts=3)
    assert [job.id for job in failed] == [work().job_id]
    assert failed[0].state is JobState.FAILED
    assert failed[0].reason == "the worker died or fell silent during attempt 3"
    assert ledger.claim(work().job_id, LEASE) is None


def test_a_worker_that_lost_its_lease_changes_nothing(ledger, clock):
    late = claimed(ledger)
    clock.passes(LEASE + 1)
    ledger.free_lost_leases(max_attempts=3)
    ledger.claim(late.id, LEASE)
    before = ledger.job(late.id)
    assert not ledger.renew(late, LEASE)
    assert not ledger.segmented(late, RESULT)
    assert not ledger.postpone(late, "late", 1.0)
    assert not ledger.fail(late, "late")
    assert ledger.job(late.id) == before
    assert ledger.deliveries(late.id) == []


def test_a_worker_that_was_cancelled_is_no_holder_after_a_retry(ledger):
    """The attempts count from 0 again, so their number cannot name the holder."""
    first = claimed(ledger)
    ledger.cancel(first.id)
    ledger.retry(first.id)
    second = ledger.claim(first.id, LEASE)
    assert second.attempts == first.attempts
    assert not ledger.renew(first, LEASE)
    assert ledger.renew(second, LEASE)


def test_a_claim_reads_only_what_it_wrote_itself(ledger_url, clock):
    """A worker that stalls right after its claim must not take the next worker's claim for its own."""
    slow, quick = Ledger(ledger_url, clock), Ledger(ledger_url, clock)
    slow.add_job(work())
    others: list[Job | None] = []

    @event.listens_for(slow._engine, "checkin")
    def _stalls(_connection: object, _record: object) -> None:
        if not others:
            clock.passes(LEASE + 1)
            quick.free_lost_leases(max_attempts=3)
            others.append(quick.claim(work().job_id, LEASE))

    mine = slow.claim(work().job_id, LEASE)
    assert not slow.renew(mine, LEASE)
    assert quick.renew(others[0], LEASE)
    slow.close()
    quick.close()


# -- later images, cancel, retry


def test_later_images_supersede_what_has_no_results_yet(ledger, clock):
    waiting = work(images=3)
    ledger.add_job(waiting)
    clock.passes(10)
    running = claimed(ledger, images=4)
    assert ledger.job(waiting.job_id).state is JobState.CANCELLED
    clock.passes(10)
    newest = work(images=5)
    ledger.add_job(newest)
    assert ledger.job(waiting.job_id).superseded_by == running.id
    cancelled = ledger.job(running.id)
    assert (cancelled.state, cancelled.superseded_by) == (JobState.CANCELLED, newest.job_id)
    assert cancelled.reason == f"superseded by job {newest.job_id}: later images arrived"
    assert not ledger.renew(running, LEASE)
    assert ledger.to_segment() == [newest.job_id]


def test_results_that_later_images_superseded_are_still_delivered_and_named(ledger, clock):
    first = sending(ledger, "pacs")
    clock.passes(10)
    ledger.add_job(work(images=4))
    assert ledger.job(first.id).superseded_by == work(images=4).job_id
    assert deliver(ledger, first, "pacs", DeliveryState.DELIVERED) is JobState.DELIVERED
    assert ledger.predecessor(ledger.job(work(images=4).job_id)).id == first.id


def test_the_predecessor_is_the_newest_older_job_with_results(ledger, clock):
    first = sending(ledger, "pacs")
    for images in (4, 5):
        clock.passes(10)
        ledger.add_job(work(images=images))  # 4 is superseded before it came to results
    clock.passes(10)
    failed = claimed(ledger, images=6)
    ledger.fail(failed, "no memory")
    clock.passes(10)
    ledger.add_job(work(images=7))
    assert ledger.predecessor(ledger.job(work(images=7).job_id)).id == first.id
    assert ledger.predecessor(first) is None


def test_of_a_series_that_became_two_volumes_only_the_one_on_the_same_images_replaces_the_older_result(ledger, clock):
    older = sending(ledger, "pacs")
    clock.passes(10)
    first = work().model_copy(update={"volume": "EchoTime=10"})
    second = work(series="1.2.3.5").model_copy(update={"series_uid": first.series_uid, "volume": "EchoTime=20"})
    assert ledger.add_job(first)
    assert ledger.add_job(second)
    assert ledger.predecessor(ledger.job(first.job_id)).id == older.id
    assert ledger.predecessor(ledger.job(second.job_id)) is None


def test_what_was_made_in_the_shadow_is_replaced_there_alone(ledger, clock):
    sent = sending(ledger, "pacs")
    clock.passes(10)
    shadow = work(images=4).model_copy(update={"shadow": True})
    assert ledger.add_job(shadow)
    assert ledger.segmented(ledger.claim(shadow.job_id, LEASE), RESULT)
    clock.passes(10)
    for later in (work(images=5), work(images=6).model_copy(update={"shadow": True})):
        assert ledger.add_job(later)
    assert ledger.predecessor(ledger.job(work(images=5).job_id)).id == sent.id
    assert ledger.predecessor(ledger.job(work(images=6).job_id)).id == shadow.job_id


def test_another_protocol_or_series_supersedes_nothing(ledger):
    ledger.add_job(work())
    ledger.add_job(work(protocol="kidney"))
    ledger.add_job(work(series="1.2.3.5"))
    assert len(ledger.jobs(JobState.QUEUED)) == 3


def test_a_cancelled_job_ends_whoever_is_at_it(ledger):
    job = claimed(ledger)
    assert ledger.cancel(job.id).state is JobState.CANCELLED
    assert not ledger.renew(job, LEASE)
    with pytest.raises(UnknownJobError, match="is cancelled; only unfinished"):
        ledger.cancel(job.id)


def test_a_failed_job_is_retried_from_its_first_attempt(ledger):
    job = claimed(ledger)
    assert ledger.fail(job, "slice 3 is missing")
    assert ledger.job(job.id).reason == "slice 3 is missing"
    again = ledger.retry(job.id)
    assert (again.state, again.attempts, again.reason) == (JobState.QUEUED, 0, "")
    with pytest.raises(UnknownJobError, match="is queued; only failed and cancelled"):
        ledger.retry(job.id)


def test_a_retry_of_a_failed_delivery_segments_nothing_again(ledger):
    job = sending(ledger, "pacs", "archive")
    deliver(ledger, job, "archive", DeliveryState.DELIVERED)
    assert deliver(ledger, job, "pacs", DeliveryState.FAILED, "refused") is JobState.FAILED
    assert ledger.retry(job.id).state is JobState.SENDING
    assert ledger.to_segment() == []
    assert ledger.to_deliver() == [(job.id, "pacs")]
    assert deliver(ledger, job, "pacs", DeliveryState.DELIVERED) is JobState.DELIVERED


def test_a_retry_after_everything_was_delivered_is_done_at_once(ledger):
    job = sending(ledger, "pacs")
    delivery = ledger.claim_delivery(job.id, "pacs", LEASE)
    ledger.cancel(job.id)
    assert ledger.end_delivery(delivery, DeliveryState.DELIVERED) is JobState.CANCELLED
    assert ledger.retry(job.id).state is JobState.DELIVERED

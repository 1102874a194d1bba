"""Stories of a clock that is set back by an hour: nothing waits until it has come to where it was."""

from dicom_node.origin import Origin
from dicom_node.uids import SeriesKey
from tests.support.ledger_stories import LEASE, Clock, claimed, deliver, sending, work
from worker.ledger import DeliveryState, JobState, Ledger

HOUR = 3600.0
WAITS = {"lease_seconds": LEASE, "longest_wait_seconds": 1800.0, "commitment_wait_seconds": 600.0}


def test_a_series_that_arrived_before_the_step_settles(ledger: Ledger, clock: Clock) -> None:
    ledger.series.image_arrived(SeriesKey("1.2.3", "1.2.3.4"), Origin("A", "B", "127.0.0.1"))
    clock.passes(-HOUR)
    assert ledger.clock.repair(**WAITS) == 1
    (series,) = ledger.series.unsettled()
    assert series.last_at == clock.now


def test_a_job_that_was_queued_before_the_step_can_be_claimed(ledger: Ledger, clock: Clock) -> None:
    task = work()
    ledger.jobs.add(task)
    clock.passes(-HOUR)
    assert ledger.jobs.due() == []
    assert ledger.clock.repair(**WAITS) == 1
    assert ledger.jobs.due() == [task.job_id]


def test_a_wait_that_was_asked_for_is_kept(ledger: Ledger, clock: Clock) -> None:
    job = claimed(ledger)
    ledger.jobs.postpone(job, "the network is out of memory", 100)
    clock.passes(-HOUR)
    ledger.clock.repair(**WAITS)
    clock.passes(99)
    assert ledger.jobs.due() == []
    clock.passes(1)
    assert ledger.jobs.due() == [job.id]


def test_the_lease_of_a_worker_that_died_runs_out(ledger: Ledger, clock: Clock) -> None:
    job = claimed(ledger)
    clock.passes(-HOUR)
    ledger.clock.repair(**WAITS)
    ledger.jobs.free_lost_leases(3)
    assert ledger.jobs.get(job.id).state is JobState.SEGMENTING, "the worker may be alive, and renews it"
    clock.passes(LEASE + 1)
    ledger.jobs.free_lost_leases(3)
    assert ledger.jobs.get(job.id).state is JobState.QUEUED


def test_a_delivery_goes_on_whether_it_waited_or_its_sender_died(ledger: Ledger, clock: Clock) -> None:
    job = sending(ledger, "pacs", "archive")
    assert ledger.deliveries.claim(job.id, "archive", LEASE) is not None
    clock.passes(-HOUR)
    assert ledger.clock.repair(**WAITS) == 2
    assert ledger.deliveries.due() == [(job.id, "pacs")]
    clock.passes(LEASE + 1)
    ledger.deliveries.free_lost_leases(3)
    assert set(ledger.deliveries.due()) == {(job.id, "pacs"), (job.id, "archive")}


def test_a_question_for_commitment_is_asked_again(ledger: Ledger, clock: Clock) -> None:
    job = sending(ledger, "pacs")
    delivery = ledger.deliveries.claim(job.id, "pacs", LEASE)
    assert delivery is not None
    ledger.deliveries.end(delivery, DeliveryState.DELIVERED, transaction_uid="1.2.9")
    assert ledger.commitments.claim(job.id, "pacs", "1.2.10", WAITS["commitment_wait_seconds"]) is not None
    clock.passes(-HOUR)
    assert ledger.clock.repair(**WAITS) == 1
    assert ledger.commitments.due() == [(job.id, "pacs")]


def test_where_the_clock_is_right_nothing_changes(ledger: Ledger, clock: Clock) -> None:
    ledger.series.image_arrived(SeriesKey("1.2.3", "1.2.3.4"), Origin("A", "B", "127.0.0.1"))
    claimed(ledger, series="1.2.3.5")
    deliver(ledger, sending(ledger, "pacs", "archive"), "pacs", DeliveryState.DELIVERED)
    clock.passes(30)
    assert ledger.clock.repair(**WAITS) == 0

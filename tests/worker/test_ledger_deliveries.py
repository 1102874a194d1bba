"""Deliveries, series and decisions in the ledger, told as stories on both databases."""

import threading
from dataclasses import replace

import pytest

from dicom_node.origin import Origin
from dicom_node.uids import SeriesKey
from tests.support.ledger_stories import LEASE, RESULT, claimed, deliver, sending
from worker.findings import Finding, VolumeFindings
from worker.ledger import DeliveryState, JobState, Ledger, SeriesState

ARRIVAL = Origin("CT", "VOXTELL", "10.0.0.1")


# -- deliveries


def test_a_destination_that_is_down_holds_its_own_results_only(ledger, clock):
    job = sending(ledger, "down", "up")
    delivery = ledger.deliveries.claim(job.id, "down", LEASE)
    assert ledger.deliveries.postpone(delivery, "cannot be reached", 30.0)
    assert ledger.deliveries.due() == [(job.id, "up")]
    assert deliver(ledger, job, "up", DeliveryState.DELIVERED) is JobState.SENDING
    assert ledger.deliveries.claim(job.id, "down", LEASE) is None
    clock.passes(30.0)
    assert deliver(ledger, job, "down", DeliveryState.DELIVERED) is JobState.DELIVERED


def test_the_job_ends_with_its_last_delivery_and_says_what_failed(ledger):
    job = sending(ledger, "one", "two")
    assert deliver(ledger, job, "one", DeliveryState.FAILED, "refused") is JobState.SENDING
    assert deliver(ledger, job, "two", DeliveryState.DELIVERED) is JobState.FAILED
    assert ledger.jobs.get(job.id).reason == "one: refused"


def test_a_silent_sender_loses_its_delivery_and_changes_nothing_later(ledger, clock):
    job = sending(ledger, "pacs")
    late = ledger.deliveries.claim(job.id, "pacs", LEASE)
    assert ledger.deliveries.renew(late, LEASE)
    clock.passes(LEASE + 1)
    assert ledger.deliveries.free_lost_leases(max_deliveries=3) == []
    assert ledger.deliveries.due() == [(job.id, "pacs")]
    now = ledger.deliveries.claim(job.id, "pacs", LEASE)
    assert now.attempts == 2
    assert not ledger.deliveries.renew(late, LEASE)
    assert not ledger.deliveries.postpone(late, "late", 1.0)
    assert ledger.deliveries.end(late, DeliveryState.FAILED, "late") is JobState.SENDING
    assert ledger.deliveries.of_job(job.id) == [now]


def test_a_delivery_that_kills_its_sender_every_time_fails_the_job(ledger, clock):
    job = sending(ledger, "pacs")
    for attempt in (1, 2):
        assert ledger.deliveries.claim(job.id, "pacs", LEASE).attempts == attempt
        clock.passes(LEASE + 1)
        (failed,) = ledger.deliveries.free_lost_leases(max_deliveries=2) or [None]
    assert failed.reason == "the sender died or fell silent"
    assert ledger.jobs.get(job.id).state is JobState.FAILED


def test_the_next_for_a_destination_is_the_first_due_of_another_job(ledger, clock):
    jobs = []
    for number in range(3):
        clock.passes(1)
        job = claimed(ledger, series=f"1.2.{number}", destinations=("other", "pacs"))
        ledger.jobs.segmented(job, RESULT)
        jobs.append(job)
    first, second, third = jobs
    assert ledger.deliveries.next_due("pacs", but_not=first.id) == [(second.id, "pacs")]
    ledger.deliveries.postpone(ledger.deliveries.claim(second.id, "pacs", LEASE), "hangs", 30.0)
    assert ledger.deliveries.next_due("pacs", but_not=first.id) == [(third.id, "pacs")]
    for job in (first, third):
        claim = ledger.deliveries.claim(job.id, "pacs", LEASE)
        ledger.deliveries.end(claim, DeliveryState.DELIVERED, transaction_uid="2.25.1")
    assert ledger.deliveries.next_due("pacs", but_not=first.id) == []
    assert ledger.commitments.next_due("pacs", but_not=first.id) == [(third.id, "pacs")]
    assert ledger.commitments.next_due("other", but_not=first.id) == []


def test_what_a_destination_took_is_remembered_until_the_results_are_made_anew(ledger, clock):
    job = sending(ledger, "pacs")
    ledger.deliveries.postpone(ledger.deliveries.claim(job.id, "pacs", LEASE), "no room", 1.0, taken=["seg.dcm"])
    clock.passes(1.0)
    again = ledger.deliveries.claim(job.id, "pacs", LEASE)
    assert again.taken == ["seg.dcm"]
    ledger.deliveries.end(again, DeliveryState.FAILED, "no room", taken=["sr.dcm"])
    ledger.jobs.retry(job.id)
    assert ledger.deliveries.claim(job.id, "pacs", LEASE).taken == ["seg.dcm", "sr.dcm"]


def test_new_results_are_sent_whole_and_so_are_those_that_a_destination_did_not_keep(ledger, clock):
    job = sending(ledger, "pacs")
    ledger.deliveries.end(ledger.deliveries.claim(job.id, "pacs", LEASE), DeliveryState.FAILED, "no", taken=["seg.dcm"])
    ledger.jobs.retry(job.id, compute=True)
    assert ledger.deliveries.of_job(job.id)[0].taken == []
    assert ledger.jobs.segmented(ledger.jobs.claim(job.id, LEASE), RESULT)
    delivery = ledger.deliveries.claim(job.id, "pacs", LEASE)
    ledger.deliveries.end(delivery, DeliveryState.DELIVERED, transaction_uid="2.25.1", taken=["a.dcm"])
    asked = ledger.commitments.claim(job.id, "pacs", "2.25.2", 10.0)
    assert ledger.commitments.not_committed(asked, "lost them", 0.0, max_deliveries=9)
    assert ledger.deliveries.claim(job.id, "pacs", LEASE).taken == []


def test_new_results_are_sent_whole_also_where_a_job_was_cancelled_while_they_were_sent(ledger):
    job = sending(ledger, "pacs")
    ledger.deliveries.postpone(ledger.deliveries.claim(job.id, "pacs", LEASE), "no room", 0.0, taken=["seg.dcm"])
    ledger.jobs.cancel(job.id)
    ledger.jobs.retry(job.id, compute=True)
    assert ledger.jobs.segmented(ledger.jobs.claim(job.id, LEASE), RESULT)
    assert ledger.deliveries.claim(job.id, "pacs", LEASE).taken == []


def test_results_that_supersede_others_never_come_before_them(ledger, clock):
    old = sending(ledger, "other", "pacs")
    ledger.deliveries.postpone(ledger.deliveries.claim(old.id, "pacs", LEASE), "busy", 30.0)
    deliver(ledger, old, "other", DeliveryState.DELIVERED)
    clock.passes(1.0)
    new = claimed(ledger, images=4, destinations=("other", "pacs"))
    ledger.jobs.segmented(new, RESULT)
    assert ledger.deliveries.due() == [(new.id, "other")]
    assert ledger.deliveries.claim(new.id, "pacs", LEASE) is None
    clock.passes(30.0)
    assert ledger.deliveries.due() == [(old.id, "pacs"), (new.id, "other")]
    assert ledger.deliveries.next_due("pacs", but_not=old.id) == []
    assert deliver(ledger, old, "pacs", DeliveryState.FAILED, "refused") is JobState.FAILED
    assert ledger.deliveries.due() == [(new.id, "other"), (new.id, "pacs")]


def test_results_wait_for_none_that_will_not_be_sent(ledger):
    old = sending(ledger, "pacs")
    new = claimed(ledger, images=4, destinations=("pacs",))
    ledger.jobs.segmented(new, RESULT)
    assert ledger.deliveries.due() == [(old.id, "pacs")]
    ledger.jobs.cancel(old.id)
    assert ledger.deliveries.due() == [(new.id, "pacs")]


def test_nothing_is_sent_for_a_cancelled_job(ledger):
    job = sending(ledger, "pacs")
    ledger.jobs.cancel(job.id)
    assert ledger.deliveries.due() == []
    assert ledger.deliveries.claim(job.id, "pacs", LEASE) is None


@pytest.mark.long
def test_two_last_deliveries_that_end_at_the_same_moment_end_the_job(ledger_url):
    ledger = Ledger(ledger_url)
    for number in range(20):
        job = claimed(ledger, series=f"1.2.{number}", destinations=("one", "two"))
        ledger.jobs.segmented(job, RESULT)
        deliveries = [ledger.deliveries.claim(job.id, name, LEASE) for name in ("one", "two")]
        together = threading.Barrier(2)

        def end(delivery, together=together):
            together.wait()
            ledger.deliveries.end(delivery, DeliveryState.DELIVERED)

        threads = [threading.Thread(target=end, args=(delivery,)) for delivery in deliveries]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert ledger.jobs.get(job.id).state is JobState.DELIVERED
    ledger.close()


# -- series and decisions


def test_a_series_is_settled_unless_an_image_came_meanwhile(ledger, clock):
    ledger.series.image_arrived(SeriesKey("1.2", "1.2.3"), ARRIVAL)
    (seen,) = ledger.series.unsettled()
    assert (seen.state, seen.calling_ae, seen.first_at) == (SeriesState.RECEIVING, "CT", clock.now)
    clock.passes(5)
    ledger.series.image_arrived(SeriesKey("1.2", "1.2.3"), replace(ARRIVAL, calling_ae="PACS"))
    assert not ledger.series.settle(seen)
    (seen,) = ledger.series.unsettled()
    assert (seen.calling_ae, seen.last_at - seen.first_at) == ("PACS", 5)
    assert ledger.series.settle(seen)
    assert ledger.series.unsettled() == []


def test_quiet_time_starts_again_when_an_association_ends_but_only_for_open_series(ledger, clock):
    ledger.series.image_arrived(SeriesKey("1.2", "1.2.3"), ARRIVAL)
    clock.passes(5)
    ledger.series.quiet_from_now(SeriesKey("1.2", "1.2.3"))
    (seen,) = ledger.series.unsettled()
    assert seen.last_at == clock.now
    ledger.series.settle(seen)
    ledger.series.quiet_from_now(SeriesKey("1.2", "1.2.3"))
    assert ledger.series.unsettled() == []


def test_a_full_series_is_not_settled_before_it_is_quiet_and_says_with_how_many_images_it_was_full(ledger, clock):
    ledger.series.image_arrived(SeriesKey("1.2", "1.2.3"), ARRIVAL)
    (seen,) = ledger.series.unsettled()
    assert (seen.full_with, ledger.series.mark_full(seen, 40)) == (0, True)
    assert not ledger.series.mark_full(seen, 40)
    (full,) = ledger.series.unsettled()
    assert (full.state, full.full_with) == (SeriesState.FULL, 40)
    clock.passes(5)
    ledger.series.quiet_from_now(SeriesKey("1.2", "1.2.3"))
    assert not ledger.series.settle(full)
    (full,) = ledger.series.unsettled()
    assert ledger.series.settle(full)
    ledger.series.image_arrived(SeriesKey("1.2", "1.2.3"), ARRIVAL)
    (again,) = ledger.series.unsettled()
    assert (again.state, again.full_with) == (SeriesState.RECEIVING, 40)


def test_a_late_image_opens_a_settled_series(ledger):
    ledger.series.image_arrived(SeriesKey("1.2", "1.2.3"), ARRIVAL)
    ledger.series.settle(ledger.series.unsettled()[0])
    ledger.series.image_arrived(SeriesKey("1.2", "1.2.3"), ARRIVAL)
    assert [series.series_uid for series in ledger.series.unsettled()] == ["1.2.3"]
    assert ledger.series.known() == {("1.2", "1.2.3")}


def said(condition: str, found: str, holds: bool) -> list[VolumeFindings]:
    return [VolumeFindings("", (Finding(condition, found, holds),))]


def test_decisions_are_kept_and_the_newest_stands(ledger, clock):
    ledger.series.decide("1.2", "1.2.3", "liver", said("Modality equals 'CT'", "MR", False))
    ledger.series.decide("1.2", "1.2.3", "brain", said("Modality equals 'MR'", "MR", True))
    clock.passes(5)
    ledger.series.decide("1.2", "1.2.3", "liver", said("one regular volume", "120 slices", True))
    found = {decision.protocol: decision for decision in ledger.series.decisions_on("1.2")}
    assert found["brain"].reason == "Modality equals 'MR': yes, it is MR"
    assert (found["liver"].taken, found["liver"].at) == (True, clock.now)
    assert ledger.series.decisions_on("1.3") == []

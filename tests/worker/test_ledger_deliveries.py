"""Deliveries, series and decisions in the ledger, told as stories on both databases."""

import threading

from tests.support.ledger_stories import LEASE, RESULT, claimed, deliver, sending
from worker.ledger import DeliveryState, JobState, Ledger, SeriesState

ARRIVAL = {"calling_ae": "CT", "called_ae": "VOXTELL", "address": "10.0.0.1"}


# -- deliveries


def test_a_destination_that_is_down_holds_its_own_results_only(ledger, clock):
    job = sending(ledger, "down", "up")
    delivery = ledger.claim_delivery(job.id, "down", LEASE)
    assert ledger.postpone_delivery(delivery, "cannot be reached", 30.0)
    assert ledger.to_deliver() == [(job.id, "up")]
    assert deliver(ledger, job, "up", DeliveryState.DELIVERED) is JobState.SENDING
    assert ledger.claim_delivery(job.id, "down", LEASE) is None
    clock.passes(30.0)
    assert deliver(ledger, job, "down", DeliveryState.DELIVERED) is JobState.DELIVERED


def test_the_job_ends_with_its_last_delivery_and_says_what_failed(ledger):
    job = sending(ledger, "one", "two")
    assert deliver(ledger, job, "one", DeliveryState.FAILED, "refused") is JobState.SENDING
    assert deliver(ledger, job, "two", DeliveryState.DELIVERED) is JobState.FAILED
    assert ledger.job(job.id).reason == "one: refused"


def test_a_silent_sender_loses_its_delivery_and_changes_nothing_later(ledger, clock):
    job = sending(ledger, "pacs")
    late = ledger.claim_delivery(job.id, "pacs", LEASE)
    assert ledger.renew_delivery(late, LEASE)
    clock.passes(LEASE + 1)
    assert ledger.free_lost_deliveries(max_deliveries=3) == []
    assert ledger.to_deliver() == [(job.id, "pacs")]
    now = ledger.claim_delivery(job.id, "pacs", LEASE)
    assert now.attempts == 2
    assert not ledger.renew_delivery(late, LEASE)
    assert not ledger.postpone_delivery(late, "late", 1.0)
    assert ledger.end_delivery(late, DeliveryState.FAILED, "late") is JobState.SENDING
    assert ledger.deliveries(job.id) == [now]


def test_a_delivery_that_kills_its_sender_every_time_fails_the_job(ledger, clock):
    job = sending(ledger, "pacs")
    for attempt in (1, 2):
        assert ledger.claim_delivery(job.id, "pacs", LEASE).attempts == attempt
        clock.passes(LEASE + 1)
        (failed,) = ledger.free_lost_deliveries(max_deliveries=2) or [None]
    assert failed.reason == "the sender died or fell silent"
    assert ledger.job(job.id).state is JobState.FAILED


def test_the_next_for_a_destination_is_the_first_due_of_another_job(ledger, clock):
    jobs = []
    for number in range(3):
        clock.passes(1)
        job = claimed(ledger, series=f"1.2.{number}", destinations=("other", "pacs"))
        ledger.segmented(job, RESULT)
        jobs.append(job)
    first, second, third = jobs
    assert ledger.next_to_deliver("pacs", but_not=first.id) == [(second.id, "pacs")]
    ledger.postpone_delivery(ledger.claim_delivery(second.id, "pacs", LEASE), "hangs", 30.0)
    assert ledger.next_to_deliver("pacs", but_not=first.id) == [(third.id, "pacs")]
    for job in (first, third):
        claim = ledger.claim_delivery(job.id, "pacs", LEASE)
        ledger.end_delivery(claim, DeliveryState.DELIVERED, transaction_uid="2.25.1")
    assert ledger.next_to_deliver("pacs", but_not=first.id) == []
    assert ledger.next_to_commit("pacs", but_not=first.id) == [(third.id, "pacs")]
    assert ledger.next_to_commit("other", but_not=first.id) == []


def test_what_a_destination_took_is_remembered_until_the_results_are_made_anew(ledger, clock):
    job = sending(ledger, "pacs")
    ledger.postpone_delivery(ledger.claim_delivery(job.id, "pacs", LEASE), "no room", 1.0, taken=["seg.dcm"])
    clock.passes(1.0)
    again = ledger.claim_delivery(job.id, "pacs", LEASE)
    assert again.taken == ["seg.dcm"]
    ledger.end_delivery(again, DeliveryState.FAILED, "no room", taken=["sr.dcm"])
    ledger.retry(job.id)
    assert ledger.claim_delivery(job.id, "pacs", LEASE).taken == ["seg.dcm", "sr.dcm"]


def test_new_results_are_sent_whole_and_so_are_those_that_a_destination_did_not_keep(ledger, clock):
    job = sending(ledger, "pacs")
    ledger.end_delivery(ledger.claim_delivery(job.id, "pacs", LEASE), DeliveryState.FAILED, "no", taken=["seg.dcm"])
    ledger.retry(job.id, compute=True)
    assert ledger.deliveries(job.id)[0].taken == []
    assert ledger.segmented(ledger.claim(job.id, LEASE), RESULT)
    delivery = ledger.claim_delivery(job.id, "pacs", LEASE)
    ledger.end_delivery(delivery, DeliveryState.DELIVERED, transaction_uid="2.25.1", taken=["a.dcm"])
    asked = ledger.claim_commitment(job.id, "pacs", "2.25.2", 10.0)
    assert ledger.not_committed(asked, "lost them", 0.0, max_deliveries=9)
    assert ledger.claim_delivery(job.id, "pacs", LEASE).taken == []


def test_new_results_are_sent_whole_also_where_a_job_was_cancelled_while_they_were_sent(ledger):
    job = sending(ledger, "pacs")
    ledger.postpone_delivery(ledger.claim_delivery(job.id, "pacs", LEASE), "no room", 0.0, taken=["seg.dcm"])
    ledger.cancel(job.id)
    ledger.retry(job.id, compute=True)
    assert ledger.segmented(ledger.claim(job.id, LEASE), RESULT)
    assert ledger.claim_delivery(job.id, "pacs", LEASE).taken == []


def test_results_that_supersede_others_never_come_before_them(ledger, clock):
    old = sending(ledger, "other", "pacs")
    ledger.postpone_delivery(ledger.claim_delivery(old.id, "pacs", LEASE), "busy", 30.0)
    deliver(ledger, old, "other", DeliveryState.DELIVERED)
    clock.passes(1.0)
    new = claimed(ledger, images=4, destinations=("other", "pacs"))
    ledger.segmented(new, RESULT)
    assert ledger.to_deliver() == [(new.id, "other")]
    assert ledger.claim_delivery(new.id, "pacs", LEASE) is None
    clock.passes(30.0)
    assert ledger.to_deliver() == [(old.id, "pacs"), (new.id, "other")]
    assert ledger.next_to_deliver("pacs", but_not=old.id) == []
    assert deliver(ledger, old, "pacs", DeliveryState.FAILED, "refused") is JobState.FAILED
    assert ledger.to_deliver() == [(new.id, "other"), (new.id, "pacs")]


def test_results_wait_for_none_that_will_not_be_sent(ledger):
    old = sending(ledger, "pacs")
    new = claimed(ledger, images=4, destinations=("pacs",))
    ledger.segmented(new, RESULT)
    assert ledger.to_deliver() == [(old.id, "pacs")]
    ledger.cancel(old.id)
    assert ledger.to_deliver() == [(new.id, "pacs")]


def test_nothing_is_sent_for_a_cancelled_job(ledger):
    job = sending(ledger, "pacs")
    ledger.cancel(job.id)
    assert ledger.to_deliver() == []
    assert ledger.claim_delivery(job.id, "pacs", LEASE) is None


def test_two_last_deliveries_that_end_at_the_same_moment_end_the_job(ledger_url):
    ledger = Ledger(ledger_url)
    for number in range(20):
        job = claimed(ledger, series=f"1.2.{number}", destinations=("one", "two"))
        ledger.segmented(job, RESULT)
        deliveries = [ledger.claim_delivery(job.id, name, LEASE) for name in ("one", "two")]
        together = threading.Barrier(2)

        def end(delivery, together=together):
            together.wait()
            ledger.end_delivery(delivery, DeliveryState.DELIVERED)

        threads = [threading.Thread(target=end, args=(delivery,)) for delivery in deliveries]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert ledger.job(job.id).state is JobState.DELIVERED
    ledger.close()


# -- series and decisions


def test_a_series_is_settled_unless_an_image_came_meanwhile(ledger, clock):
    ledger.image_arrived("1.2", "1.2.3", **ARRIVAL)
    (seen,) = ledger.receiving()
    assert (seen.state, seen.calling_ae, seen.first_at) == (SeriesState.RECEIVING, "CT", clock.now)
    clock.passes(5)
    ledger.image_arrived("1.2", "1.2.3", **(ARRIVAL | {"calling_ae": "PACS"}))
    assert not ledger.settle(seen)
    (seen,) = ledger.receiving()
    assert (seen.calling_ae, seen.last_at - seen.first_at) == ("PACS", 5)
    assert ledger.settle(seen)
    assert ledger.receiving() == []


def test_quiet_time_starts_again_when_an_association_ends_but_only_for_open_series(ledger, clock):
    ledger.image_arrived("1.2", "1.2.3", **ARRIVAL)
    clock.passes(5)
    ledger.quiet_from_now("1.2", "1.2.3")
    (seen,) = ledger.receiving()
    assert seen.last_at == clock.now
    ledger.settle(seen)
    ledger.quiet_from_now("1.2", "1.2.3")
    assert ledger.receiving() == []


def test_a_full_series_is_not_settled_before_it_is_quiet_and_says_with_how_many_images_it_was_full(ledger, clock):
    ledger.image_arrived("1.2", "1.2.3", **ARRIVAL)
    (seen,) = ledger.receiving()
    assert (seen.full_with, ledger.settle_as_full(seen, 40)) == (0, True)
    assert not ledger.settle_as_full(seen, 40)
    (full,) = ledger.receiving()
    assert (full.state, full.full_with) == (SeriesState.FULL, 40)
    clock.passes(5)
    ledger.quiet_from_now("1.2", "1.2.3")
    assert not ledger.settle(full)
    (full,) = ledger.receiving()
    assert ledger.settle(full)
    ledger.image_arrived("1.2", "1.2.3", **ARRIVAL)
    (again,) = ledger.receiving()
    assert (again.state, again.full_with) == (SeriesState.RECEIVING, 40)


def test_a_late_image_opens_a_settled_series(ledger):
    ledger.image_arrived("1.2", "1.2.3", **ARRIVAL)
    ledger.settle(ledger.receiving()[0])
    ledger.image_arrived("1.2", "1.2.3", **ARRIVAL)
    assert [series.series_uid for series in ledger.receiving()] == ["1.2.3"]
    assert ledger.known_series() == {("1.2", "1.2.3")}


def test_decisions_are_kept_and_the_newest_stands(ledger, clock):
    ledger.decide("1.2", "1.2.3", "liver", taken=False, reason="Modality equals 'CT': no, it is MR")
    ledger.decide("1.2", "1.2.3", "brain", taken=True, reason="Modality equals 'MR': yes, it is MR")
    clock.passes(5)
    ledger.decide("1.2", "1.2.3", "liver", taken=True, reason="no conditions")
    found = {decision.protocol: decision for decision in ledger.decisions_on("1.2")}
    assert found["brain"].reason == "Modality equals 'MR': yes, it is MR"
    assert (found["liver"].taken, found["liver"].at) == (True, clock.now)
    assert ledger.decisions_on("1.3") == []

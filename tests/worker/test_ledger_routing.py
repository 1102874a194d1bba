"""Where results go: kinds of objects, fallbacks, what a person must release, and what is never sent."""

from collections.abc import Collection

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.ledger_stories import LEASE, claimed, deliver, work
from worker.errors import UnknownJobError
from worker.job_spec import JobSpec, Priority, Route
from worker.ledger import DeliveryState, Job, JobState, Ledger
from worker.ledger.routing import DeliveryStatus, destinations, objects_for, verdict
from worker.result import Result

FILES = ["seg.dcm", "rtstruct.dcm", "sr.dcm", "liver.nii.gz"]
DELIVERED, FAILED = DeliveryState.DELIVERED, DeliveryState.FAILED


def routed(*routes: Route, **circumstances: object) -> JobSpec:
    return work().model_copy(update={"routes": routes, **circumstances})


def result_of(files: list[str]) -> Result:
    return Result.model_validate({"files": files})


def files_for(task: JobSpec, files: list[str], destination: str, failed: Collection[str] = ()) -> list[str]:
    return [one.file for one in objects_for(task, result_of(files), destination, failed)]


def segmented(ledger: Ledger, task: JobSpec, files: list[str] = FILES) -> Job:
    """A job that has come to its results."""
    assert ledger.jobs.add(task)
    job = ledger.jobs.claim(task.job_id, LEASE)
    assert job is not None
    assert ledger.jobs.segmented(job, Result.model_validate({"files": files}))
    return ledger.jobs.get(job.id)


def states(ledger: Ledger, job: Job) -> dict[str, str]:
    return {line.destination: str(line.state) for line in ledger.deliveries.of_job(job.id)}


# -- which objects


def test_a_route_takes_only_the_kinds_of_objects_that_it_names():
    task = routed(
        Route(to="pacs"), Route(to="planning", outputs=("rtstruct",)), Route(to="viewer", outputs=("preview",))
    )
    assert destinations(task, result_of(FILES)) == ["pacs", "planning"]
    assert files_for(task, FILES, "pacs") == ["seg.dcm", "rtstruct.dcm", "sr.dcm"]
    assert files_for(task, FILES, "planning") == ["rtstruct.dcm"]
    assert files_for(task, ["preview-1.dcm", "seg.dcm"], "viewer") == ["preview-1.dcm"]


def test_a_fallback_gets_what_the_failed_destination_should_have_got():
    task = routed(Route(to="planning", outputs=("rtstruct",), fallback="pacs"), Route(to="pacs", outputs=("seg",)))
    assert files_for(task, FILES, "pacs") == ["seg.dcm"]
    assert files_for(task, FILES, "pacs", failed={"planning"}) == ["seg.dcm", "rtstruct.dcm"]


def test_a_job_of_which_no_destination_takes_anything_ends_with_its_results_on_disk(ledger):
    job = segmented(ledger, routed(Route(to="viewer", outputs=("preview",))))
    assert (job.state, ledger.deliveries.due()) == (JobState.SEGMENTED, [])


NAMES = ("one", "two", "three")
routes = st.builds(Route, to=st.sampled_from(NAMES), fallback=st.none() | st.sampled_from(NAMES))
statuses = st.dictionaries(
    st.sampled_from(NAMES), st.builds(DeliveryStatus, st.sampled_from(DeliveryState), st.just("why"))
)


@given(st.lists(routes, max_size=3), statuses)
def test_a_job_is_delivered_only_if_every_route_has_brought_its_objects_somewhere(task_routes, statuses):
    state, reason = verdict(task_routes, statuses)
    ended = {name: str(standing.state) for name, standing in statuses.items()}
    taken = {name for name, at in ended.items() if at in ("delivered", "committed")}
    begun = [route for route in task_routes if route.to in ended]
    unbrought = [route for route in begun if route.to not in taken and route.fallback not in taken]
    if set(ended.values()) & {"pending", "sending"}:
        assert state is JobState.SENDING
    elif unbrought:
        assert state is JobState.FAILED
        assert all(f"{route.to}: why" in reason for route in unbrought)
    else:
        assert state in (JobState.DELIVERED, JobState.COMMITTED)
        assert all(f"to {route.fallback} instead of {route.to}" in reason for route in begun if route.to not in taken)
    if state is JobState.COMMITTED:
        assert begun
        counts = [route.to if route.to in taken else route.fallback for route in begun]
        assert {ended[name] for name in counts} == {"committed"}


# -- fallbacks


def test_the_fallback_gets_what_a_destination_refused_and_the_job_says_so(ledger):
    job = segmented(ledger, routed(Route(to="pacs", fallback="archive")))
    assert deliver(ledger, job, "pacs", FAILED, "it does not know our AE title") is JobState.SENDING
    (instead,) = (line for line in ledger.deliveries.of_job(job.id) if line.destination == "archive")
    assert (instead.state, instead.stands_in_for) == (DeliveryState.PENDING, "pacs")
    assert deliver(ledger, job, "archive", DELIVERED) is JobState.DELIVERED
    assert ledger.jobs.get(job.id).reason == "delivered to archive instead of pacs: it does not know our AE title"


def test_a_fallback_that_fails_too_fails_the_job_and_a_retry_tries_the_destination_first(ledger):
    job = segmented(ledger, routed(Route(to="pacs", fallback="archive")))
    deliver(ledger, job, "pacs", FAILED, "refused")
    assert deliver(ledger, job, "archive", FAILED, "no room") is JobState.FAILED
    assert ledger.jobs.get(job.id).reason == "pacs: refused; archive, its fallback: no room"
    ledger.jobs.retry(job.id)
    assert ledger.deliveries.due() == [(job.id, "pacs")]
    assert deliver(ledger, job, "pacs", DELIVERED) is JobState.DELIVERED
    assert states(ledger, job) == {"pacs": "delivered"}


def test_a_destination_whose_sender_dies_every_time_has_its_fallback_too(ledger, clock):
    job = segmented(ledger, routed(Route(to="pacs", fallback="archive")))
    ledger.deliveries.claim(job.id, "pacs", LEASE)
    clock.passes(LEASE + 1)
    assert [line.destination for line in ledger.deliveries.free_lost_leases(max_deliveries=1)] == ["pacs"]
    assert ledger.deliveries.due() == [(job.id, "archive")]


def test_a_fallback_with_results_of_its_own_gets_them_again_with_what_is_missing(ledger):
    """Also while a sender is at it, who does not know of the rest and must not call it delivered."""
    routes = (Route(to="planning", outputs=("rtstruct",), fallback="pacs"), Route(to="pacs", outputs=("seg",)))
    job = segmented(ledger, routed(*routes))
    unknowing = ledger.deliveries.claim(job.id, "pacs", LEASE)
    deliver(ledger, job, "planning", FAILED, "refused")
    assert ledger.deliveries.end(unknowing, DELIVERED) is JobState.SENDING
    assert states(ledger, job) == {"planning": "failed", "pacs": "pending"}
    assert deliver(ledger, job, "pacs", DELIVERED) is JobState.DELIVERED


def test_two_destinations_may_share_a_fallback(ledger):
    job = segmented(ledger, routed(Route(to="one", fallback="archive"), Route(to="two", fallback="archive")))
    deliver(ledger, job, "one", FAILED, "refused")
    assert deliver(ledger, job, "archive", DELIVERED) is JobState.SENDING
    assert deliver(ledger, job, "two", FAILED, "refused") is JobState.SENDING
    assert deliver(ledger, job, "archive", DELIVERED) is JobState.DELIVERED


# -- release, shadow


def test_what_must_be_released_waits_for_a_person(ledger):
    job = segmented(ledger, routed(Route(to="pacs"), release=True))
    assert (job.state, ledger.deliveries.due()) == (JobState.REVIEW, [])
    assert ledger.jobs.release(job.id).state is JobState.SENDING
    assert ledger.deliveries.due() == [(job.id, "pacs")]
    with pytest.raises(UnknownJobError, match="is sending; only jobs in review can be released"):
        ledger.jobs.release(job.id)


def test_a_result_that_a_person_rejected_is_not_sent_by_a_retry(ledger):
    job = segmented(ledger, routed(Route(to="pacs"), release=True))
    assert ledger.jobs.cancel(job.id).state is JobState.CANCELLED
    assert ledger.jobs.retry(job.id).state is JobState.REVIEW
    assert ledger.deliveries.due() == []


def test_later_images_take_a_result_out_of_review(ledger):
    job = segmented(ledger, routed(Route(to="pacs"), release=True))
    assert ledger.jobs.add(work(images=4))
    assert ledger.jobs.get(job.id).state is JobState.CANCELLED


def test_a_job_in_the_shadow_is_never_sent(ledger):
    job = segmented(ledger, routed(Route(to="pacs"), shadow=True))
    assert (job.state, ledger.deliveries.of_job(job.id)) == (JobState.SEGMENTED, [])


def test_nothing_to_send_is_nothing_to_release(ledger):
    assert segmented(ledger, routed(Route(to="pacs"), release=True), ["result.json"]).state is JobState.SEGMENTED


# -- priorities, windows, volumes


def test_urgent_jobs_are_first_and_archived_ones_last(ledger, clock):
    ids = {}
    for number, priority in enumerate((Priority.ARCHIVE, Priority.ROUTINE, Priority.URGENT)):
        task = work(series=f"1.{number}").model_copy(update={"priority": priority})
        ledger.jobs.add(task)
        ids[priority] = task.job_id
        clock.passes(1.0)
    assert ledger.jobs.due() == [ids[priority] for priority in Priority]
    assert ledger.jobs.priorities() == {ids[one]: one for one in (Priority.URGENT, Priority.ARCHIVE)}
    assert ledger.jobs.priorities([ids[Priority.URGENT], ids[Priority.ROUTINE]]) == {
        ids[Priority.URGENT]: Priority.URGENT
    }


def test_a_job_is_not_to_be_had_outside_its_window(ledger, clock):
    """The window is told by the machine's clock, so the story begins where it has just closed."""
    from datetime import datetime

    now = datetime.fromtimestamp(clock.now)
    closed, opens = (f"{(now.hour + hours) % 24:02}:{now.minute:02}" for hours in (0, 2))
    task = work().model_copy(update={"window": (opens, closed)})
    ledger.jobs.add(task)
    assert ledger.jobs.due() == []
    clock.passes(2 * 3600)
    assert ledger.jobs.due() == [task.job_id]
    clock.passes(22 * 3600)  # it was not its turn before the window closed again
    assert ledger.jobs.claim(task.job_id, LEASE) is None
    assert ledger.jobs.get(task.job_id).attempts == 0
    clock.passes(2 * 3600)
    assert ledger.jobs.claim(task.job_id, LEASE) is not None


def test_two_volumes_of_one_series_are_two_jobs_that_leave_each_other_alone(ledger):
    others = work(series="1.2.3.4.9").instances
    arterial = work().model_copy(update={"volume": "arterial", "instances": others})
    venous = work().model_copy(update={"volume": "venous"})
    assert ledger.jobs.add(arterial)
    assert ledger.jobs.add(venous)
    assert [ledger.jobs.get(task.job_id).state for task in (arterial, venous)] == [JobState.QUEUED] * 2
    later = work(images=4).model_copy(update={"volume": "venous"})
    assert ledger.jobs.add(later)
    assert ledger.jobs.get(arterial.job_id).superseded_by is None
    assert ledger.jobs.get(venous.job_id).superseded_by == later.job_id


def test_a_second_volume_of_a_series_leaves_the_job_on_the_first_alone(ledger):
    first = claimed(ledger)
    assert not ledger.jobs.add(first.spec.model_copy(update={"volume": "arterial"}))  # named now, and the same work
    others = work(series="1.2.3.4.9").instances
    assert ledger.jobs.add(work().model_copy(update={"volume": "venous", "instances": others}))
    kept = ledger.jobs.get(first.id)
    assert (kept.state, kept.superseded_by) == (JobState.SEGMENTING, None)


def test_a_series_that_turned_out_to_be_two_volumes_supersedes_the_one(ledger):
    job = claimed(ledger)
    assert ledger.jobs.add(work(images=4).model_copy(update={"volume": "venous"}))
    assert ledger.jobs.get(job.id).state is JobState.CANCELLED

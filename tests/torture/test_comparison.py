"""The judge of the torture is judged: it finds each kind of loss in evidence that was sound before."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from dicom_node.store import Store
from tests.torture.compare import DIED, UNFORESEEN, Evidence, digest_of, judge
from tests.torture.sending import Study, new_study
from worker.job_spec import JobSpec, Prompt, Route
from worker.ledger import DeliveryState, JobState, Ledger, Series, SeriesState
from worker.result import Result

pytestmark = pytest.mark.torture

ROUTE = Route(to="pacs")


@pytest.fixture
def study(tmp_path: Path) -> Study:
    made = new_study(tmp_path / "sent", 1, seed=1, slices=3)
    made.acknowledged |= set(made.images)
    return made


@pytest.fixture
def sound(study: Study, tmp_path: Path) -> Evidence:
    """One study, one job, one object, all as it should be, out of a real ledger and a real store."""
    ledger, store = Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}"), Store(tmp_path / "home")
    work = JobSpec.of(
        study_uid=study.uid,
        series_uid=study.series_uid,
        instances=list(study.images),
        protocol="torture",
        protocol_digest="0",
        prompts=(Prompt(text="above 300"),),
        model=None,
        routes=(ROUTE,),
    )
    ledger.jobs.add(work)
    job = ledger.jobs.claim(work.job_id, 60)
    assert job is not None
    ledger.jobs.segmented(job, Result.model_validate({"files": ["seg.dcm"]}))
    delivery = ledger.deliveries.claim(job.id, "pacs", 60)
    assert delivery is not None
    ledger.deliveries.end(delivery, DeliveryState.DELIVERED, transaction_uid="1.2.9")
    asked = ledger.commitments.asked_with("1.2.9")
    assert asked is not None
    ledger.commitments.committed(asked)
    for uid, path in study.images.items():
        store.put(path.read_bytes(), study_uid=study.uid, series_uid=study.series_uid, sop_uid=uid)
    evidence = Evidence(
        studies=[study],
        poison=(),
        jobs=ledger.jobs.find(),
        deliveries=ledger.deliveries.of_job(job.id),
        receiving=ledger.series.unsettled(),
        stored={one.sop_uid: digest_of(one.path.read_bytes()) for one in store.walk()},
        results={job.id: {"1.2.3": "content"}},
        pacs=[("1.2.3", "content")],
        arrivals=1,
    )
    ledger.close()
    return evidence


def with_job(evidence: Evidence, **values: object) -> Evidence:
    return replace(evidence, jobs=[replace(evidence.jobs[0], **values)])


def without_an_image(evidence: Evidence) -> Evidence:
    lost = next(iter(evidence.stored))
    return replace(evidence, stored={uid: digest for uid, digest in evidence.stored.items() if uid != lost})


def with_another_image(evidence: Evidence) -> Evidence:
    return replace(evidence, stored=dict(evidence.stored) | {next(iter(evidence.stored)): "other"})


def with_fewer_images_in_the_job(evidence: Evidence) -> Evidence:
    work = evidence.jobs[0].spec
    return with_job(evidence, spec=work.model_copy(update={"instances": work.instances[1:]}))


def with_a_second_object(evidence: Evidence) -> Evidence:
    return replace(evidence, pacs=[*evidence.pacs, ("1.2.4", "content")], arrivals=2)


def with_the_object_twice(evidence: Evidence) -> Evidence:
    return replace(evidence, pacs=[*evidence.pacs, *evidence.pacs], arrivals=2)


def of_study(evidence: Evidence, **values: object) -> Evidence:
    return replace(evidence, studies=[replace(evidence.studies[0], **values)])


def with_an_open_series(evidence: Evidence) -> Evidence:
    job = evidence.jobs[0]
    left = Series(job.study_uid, job.series_uid, SeriesState.RECEIVING, "A", "B", "127.0.0.1", 0.0, 0.0)
    return replace(evidence, receiving=[left])


def with_an_open_delivery(evidence: Evidence) -> Evidence:
    (delivery,) = evidence.deliveries
    return replace(evidence, deliveries=[replace(delivery, state=DeliveryState.SENDING)])


def with_a_failed_predecessor(evidence: Evidence, reason: str = UNFORESEEN) -> Evidence:
    (job,) = evidence.jobs
    before = replace(job, id="b" * 16, state=JobState.FAILED, reason=reason, superseded_by=job.id)
    return replace(evidence, jobs=[before, job], results=evidence.results | {before.id: {}})


HARM: dict[str, tuple[Callable[[Evidence], Evidence], str]] = {
    "an image is lost": (without_an_image, "is not in the store"),
    "an image changed": (with_another_image, "is not what was sent"),
    "a job on fewer images": (with_fewer_images_in_the_job, "is on 2 images"),
    "no job": (lambda evidence: replace(evidence, jobs=[], pacs=[], arrivals=0), "has 0 jobs"),
    "a job left at work": (lambda evidence: with_job(evidence, state=JobState.SEGMENTING), "is left segmenting"),
    "a job left waiting": (lambda evidence: with_job(evidence, state=JobState.QUEUED), "is left queued"),
    "a job left sending": (lambda evidence: with_job(evidence, state=JobState.SENDING), "is left sending"),
    "a delivery left open": (with_an_open_delivery, "to pacs is left sending"),
    "a series left open": (with_an_open_series, "is left receiving"),
    "a promise is missing": (lambda evidence: with_job(evidence, state=JobState.DELIVERED), "is delivered"),
    "a superseded job failed by an error without a name": (with_a_failed_predecessor, "superseded, is failed"),
    "a job failed": (lambda evidence: with_job(evidence, state=JobState.FAILED, reason="why"), "is failed (why)"),
    "a result is missing": (lambda evidence: replace(evidence, pacs=[], arrivals=0), "is not in the PACS"),
    "a result is doubled": (with_a_second_object, "which is no delivered job's"),
    "a result came twice": (with_the_object_twice, "is in the PACS 2 times"),
    "a result came, went and came": (lambda evidence: replace(evidence, arrivals=2), "has added 2"),
    "a result is another": (lambda evidence: replace(evidence, pacs=[("1.2.3", "x")]), "is not what the job made"),
    "the job's folder is empty": (
        lambda evidence: replace(evidence, results={evidence.jobs[0].id: {}}, pacs=[], arrivals=0),
        "its folder holds 0 objects",
    ),
    "a report that nobody read": (lambda evidence: of_study(evidence, reported=True), "knows nothing of its report"),
    "images that did not leave": (lambda evidence: of_study(evidence, leaves=True), "were to be removed, and no job"),
    "images that left and nobody said so": (
        lambda evidence: replace(of_study(evidence, leaves=True), stored={}),
        "was acknowledged and is not in the store",
    ),
    "a poison study that did no harm": (
        lambda evidence: replace(evidence, poison=[evidence.jobs[0].study_uid]),
        "on a poison study is committed",
    ),
}


def test_nothing_is_wrong_with_sound_evidence(sound: Evidence) -> None:
    verdict = judge(sound)
    assert verdict.faults == []
    assert verdict.counts["images acknowledged"] == 3
    assert verdict.counts["results in the PACS"] == 1


def test_a_job_may_fail_by_a_full_disk_before_it_is_superseded(sound: Evidence) -> None:
    assert judge(with_a_failed_predecessor(sound, "no room")).faults == []


@pytest.mark.parametrize("harm", HARM)
def test_the_comparison_finds(harm: str, sound: Evidence) -> None:
    harmed, fault = HARM[harm]
    assert any(fault in found for found in judge(harmed(sound)).faults)


def test_images_may_leave_when_their_job_is_committed_and_says_so(sound: Evidence) -> None:
    left = replace(with_job(of_study(sound, leaves=True), cleaned_at=1.0), stored={})
    verdict = judge(left)
    assert verdict.faults == []
    assert verdict.counts["images removed by retention"] == 3


def test_results_that_went_by_stow_rs_are_at_their_end_without_a_promise(sound: Evidence) -> None:
    by_web = sound.jobs[0].spec.model_copy(update={"routes": (Route(to="web"),)})
    assert judge(with_job(sound, spec=by_web, state=JobState.DELIVERED)).faults == []
    assert judge(with_job(sound, spec=by_web, state=JobState.SENDING)).faults


def test_a_study_that_kills_its_worker_should_fail_with_that_reason(sound: Evidence) -> None:
    failed = with_job(sound, state=JobState.FAILED, reason=f"the worker {DIED} 3", result={})
    study_uid = sound.jobs[0].study_uid
    assert judge(replace(failed, poison=[study_uid], pacs=[], arrivals=0)).faults == []
    assert judge(replace(failed, pacs=[], arrivals=0)).faults

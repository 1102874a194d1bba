"""Jobs of a protocol that takes only the best volume of a study."""

from tests.support.ledger_stories import work
from worker.job_spec import JobSpec
from worker.ledger import JobState
from worker.result import Result


def on(series: str, volume: str | None = None, study: str = "1.2.3", protocol: str = "liver") -> JobSpec:
    images = 3 if volume is None else 4  # the same images would be the same work, whatever their volume is called
    return work(series=series, protocol=protocol, images=images).model_copy(
        update={"volume": volume, "study_uid": study}
    )


def test_a_better_volume_cancels_the_jobs_that_have_sent_nothing(ledger):
    thick, echo, thin = on("1"), on("1", "E=2"), on("2")
    other, elsewhere = on("1", protocol="other"), on("1", study="9.9")
    for one in (thick, other, elsewhere, thin):
        assert ledger.jobs.add(one)
    claimed = ledger.jobs.claim(thick.job_id, 60)
    assert not ledger.best_volume.prefer(thin)
    assert not ledger.best_volume.prefer(thin)
    assert not ledger.jobs.renew(claimed, 60)
    old = ledger.jobs.get(thick.job_id)
    assert (old.state, old.superseded_by) == (JobState.CANCELLED, thin.job_id)
    assert old.reason == f"superseded by job {thin.job_id}: a better volume of the study arrived"
    assert {ledger.jobs.get(one.job_id).state for one in (other, elsewhere, thin)} == {JobState.QUEUED}
    assert ledger.jobs.add(echo)
    assert not ledger.best_volume.prefer(echo)
    assert ledger.jobs.get(thin.job_id).superseded_by == echo.job_id


def test_a_job_that_gave_way_starts_again_when_the_better_volume_is_none_any_more(ledger):
    thick, thin = on("1"), on("2")
    for one in (thick, thin):
        ledger.jobs.add(one)
        ledger.best_volume.prefer(one)
    assert ledger.jobs.get(thick.job_id).state is JobState.CANCELLED
    assert not ledger.jobs.add(thick)
    assert ledger.best_volume.prefer(thick)
    again = ledger.jobs.get(thick.job_id)
    assert (again.state, again.superseded_by, again.reason) == (JobState.QUEUED, None, "")
    assert ledger.jobs.get(thin.job_id).superseded_by == thick.job_id
    ledger.jobs.cancel(thick.job_id)
    assert not ledger.best_volume.prefer(thick)  # a person's word stands


def test_what_is_done_stays_and_is_known(ledger):
    thick, echo, thin = on("1"), on("3", "E=2"), on("2")
    assert ledger.best_volume.volumes_done(thick.study_uid, thick.protocol) == set()
    for one in (thick, echo):
        ledger.jobs.add(one)
        assert ledger.best_volume.volumes_done(one.study_uid, "other") == set()
        assert ledger.jobs.segmented(ledger.jobs.claim(one.job_id, 60), Result.model_validate({"files": ["seg.dcm"]}))
    assert ledger.best_volume.volumes_done(thick.study_uid, thick.protocol) == {("1", ""), ("3", "E=2")}
    ledger.jobs.add(thin)
    assert not ledger.best_volume.prefer(thin)
    assert ledger.jobs.get(thick.job_id).state is not JobState.CANCELLED
    assert ledger.best_volume.volumes_done(thin.study_uid, thin.protocol) == {("1", ""), ("3", "E=2")}


def test_a_job_that_failed_is_not_done(ledger):
    thick = on("1")
    ledger.jobs.add(thick)
    ledger.jobs.fail(ledger.jobs.claim(thick.job_id, 60), "why")
    assert ledger.best_volume.volumes_done(thick.study_uid, thick.protocol) == set()

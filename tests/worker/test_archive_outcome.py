"""How a study of an archive run ends: over all combinations of series, decisions and jobs."""

from hypothesis import given
from hypothesis import strategies as st

from tests.support.ledger_stories import work
from worker.archive.outcome import WORST_FIRST, outcome_of
from worker.findings import Finding, VolumeFindings
from worker.ledger import Decision, Job, JobState, Series, SeriesState
from worker.ledger.archive_states import EntryState, StudyOutcome
from worker.ledger.records import Entry
from worker.result import Result

O = StudyOutcome  # noqa: E741
EMPTY = Result.model_validate({"files": ["a.dcm"], "found": []})
FOUND = Result.model_validate({"files": ["a.dcm"], "found": [{"label": "Liver", "prompt": "liver", "volume_ml": 1}]})
REGULAR, MODALITY = "one regular volume", "Modality equals 'CT'"


def entry(state: EntryState = EntryState.WAITING, outcome: StudyOutcome | None = None) -> Entry:
    return Entry(
        run_id="r", study_uid="1.2.3", accession="", study_date="", modalities="", series=[], images_expected=None,
        source_ref="", state=state, reason="", attempts=1, claims=1, lease_until=0, next_try_at=0, images=3, bytes=9,
        fetch_s=1.0, listed_at=0, fetched_at=1, ended_at=None, outcome=outcome, outcome_detail={},
    )  # fmt: skip


def series(state: SeriesState = SeriesState.SETTLED) -> Series:
    return Series(
        "1.2.3", "1.2.3.4", state, "PACS", "VOXTELL", "", 0, 1, reason="too slow" if state.value == "unreadable" else ""
    )


def job(state: JobState, result: Result | None = None, superseded_by: str | None = None) -> Job:
    spec = work()
    return Job(
        id=spec.job_id, study_uid=spec.study_uid, series_uid=spec.series_uid, protocol="liver", spec=spec, state=state,
        attempts=1, claims=1, reason="why", result=result, created_at=0, updated_at=0, next_try_at=0, lease_until=0,
        superseded_by=superseded_by, priority=2, cleaned_at=None,
    )  # fmt: skip


def decision(*findings: tuple[str, bool]) -> Decision:
    found = tuple(Finding(condition, "MR", holds) for condition, holds in findings)
    volumes = (VolumeFindings("", found),)
    return Decision("1.2.3", "1.2.3.4", "liver", volumes[0].taken, volumes[0].reason, volumes, 1.0)


def ends(**facts) -> StudyOutcome | None:
    given = {"entry": entry(), "series": [series()], "decisions": [], "jobs": []} | facts
    end = outcome_of(**given)
    return end and end.outcome


UNFINISHED = [JobState.QUEUED, JobState.SEGMENTING, JobState.SENDING]
ENDED = {
    O.DELIVER_FAILED: [job(JobState.FAILED, FOUND)],
    O.SEGMENT_FAILED: [job(JobState.FAILED)],
    O.REVIEW: [job(JobState.REVIEW, FOUND)],
    O.CANCELLED: [job(JobState.CANCELLED)],
    O.SEGMENTED: [job(state, FOUND) for state in (JobState.SEGMENTED, JobState.DELIVERED, JobState.COMMITTED)],
    O.NOTHING_FOUND: [job(state, EMPTY) for state in (JobState.SEGMENTED, JobState.DELIVERED, JobState.COMMITTED)],
    O.SUPERSEDED: [job(JobState.CANCELLED, superseded_by="another")],
}
KINDS = [(outcome, one) for outcome, ones in ENDED.items() for one in ones]


def test_every_state_of_a_job_has_its_place():
    assert {one.state for _, one in KINDS} | set(UNFINISHED) == set(JobState)
    assert set(ENDED) == set(WORST_FIRST)
    for outcome, one in KINDS:
        assert ends(jobs=[one]) is outcome


@given(st.lists(st.sampled_from(KINDS), min_size=1, max_size=5))
def test_of_several_jobs_the_worst_counts_whatever_their_order(kinds):
    worst = min((outcome for outcome, _ in kinds), key=list(ENDED).index)
    assert ends(jobs=[one for _, one in kinds]) is worst
    assert ends(jobs=[one for _, one in reversed(kinds)]) is worst


@given(st.lists(st.sampled_from(KINDS), max_size=4), st.sampled_from(UNFINISHED), st.integers(0, 4))
def test_a_study_has_no_outcome_while_one_of_its_jobs_is_at_work(kinds, state, place):
    jobs = [one for _, one in kinds]
    jobs.insert(place, job(state))
    assert ends(jobs=jobs) is None


@given(st.lists(st.sampled_from(SeriesState), max_size=4), st.lists(st.sampled_from(KINDS), max_size=3))
def test_a_study_has_no_outcome_while_one_of_its_series_may_change_and_has_one_as_soon_as_none_may(states, kinds):
    outcome = ends(series=[series(state) for state in states], jobs=[one for _, one in kinds])
    settled = bool(states) and not any(state.is_unsettled for state in states)
    assert (outcome is not None) == settled


@given(st.sampled_from(EntryState), st.sampled_from(KINDS))
def test_what_is_not_fetched_has_no_outcome_by_its_jobs(state, kind):
    fetched = state in (EntryState.FETCHED, EntryState.WAITING)
    assert (ends(entry=entry(state), jobs=[kind[1]]) is not None) == fetched


@given(st.sampled_from(StudyOutcome), st.lists(st.sampled_from(KINDS), max_size=2), st.sampled_from(SeriesState))
def test_an_outcome_never_changes(outcome, kinds, state):
    assert (
        ends(entry=entry(EntryState.DONE, outcome), series=[series(state)], jobs=[one for _, one in kinds]) is outcome
    )


def test_a_study_that_no_protocol_takes_says_why_for_each():
    no = [decision((MODALITY, False), (REGULAR, True)), decision((MODALITY, True), (REGULAR, False))]
    end = outcome_of(entry(), [series()], no, [])
    assert end.outcome is O.NOT_TAKEN
    assert end.reason == (
        "liver, series 1.2.3.4: Modality equals 'CT': no, it is MR; "
        "liver, series 1.2.3.4: one regular volume: no, it is MR"
    )
    assert ends(decisions=no[1:]) is O.NO_VOLUME
    assert outcome_of(entry(), [series()], [], []).reason == "no protocol was asked about it"


def test_a_study_whose_headers_cannot_be_read_has_no_volume_and_says_so():
    unreadable = series(SeriesState.UNREADABLE)
    end = outcome_of(entry(), [unreadable], [], [])
    assert (end.outcome, end.reason) == (O.NO_VOLUME, "series 1.2.3.4: too slow")
    assert ends(series=[unreadable, series()]) is O.NOT_TAKEN

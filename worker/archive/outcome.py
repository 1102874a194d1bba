"""How a study of an archive run ends, by what the ledger says of its series, the protocols' decisions and its jobs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from worker.ledger import Decision, Job, JobState, Series, SeriesState
from worker.ledger.archive_states import EntryState, StudyOutcome
from worker.ledger.records import Entry
from worker.selection.choose import REGULAR

WORST_FIRST: Final = (
    StudyOutcome.DELIVER_FAILED,
    StudyOutcome.SEGMENT_FAILED,
    StudyOutcome.REVIEW,
    StudyOutcome.CANCELLED,
    StudyOutcome.SEGMENTED,
    StudyOutcome.NOTHING_FOUND,
    StudyOutcome.SUPERSEDED,
)
"""Of a study with several jobs the first that one of them has counts. A job that gave way counts only by itself."""


@dataclass(frozen=True)
class StudyEnd:
    """The outcome of a study, and the sentence that says why; "" where the outcome says it all."""

    outcome: StudyOutcome
    reason: str = ""


def outcome_of(
    entry: Entry, series: Sequence[Series], decisions: Sequence[Decision], jobs: Sequence[Job]
) -> StudyEnd | None:
    """Returns how a study ended; None while it has not.

    A study that was not fetched has no end of its own: whoever lists or fetches it writes one. A fetched study ends
    when no series may change any more and no job is at work. Results that wait for a person end it too.

    Args:
        series: of the study; without any its images are missing, and it is fetched again.
        decisions: of the run's protocols on the study.
        jobs: of the run's protocols on the study.
    """
    if entry.outcome is not None:
        return StudyEnd(entry.outcome, entry.reason)
    if entry.state not in (EntryState.FETCHED, EntryState.WAITING):
        return None
    if not series or any(one.state.is_unsettled for one in series):
        return None
    if not jobs:
        return _without_jobs(series, decisions)
    ends = [_end_of(job) for job in jobs]
    if any(end is None for end in ends):
        return None
    return min((end for end in ends if end is not None), key=lambda end: WORST_FIRST.index(end.outcome))


def _end_of(job: Job) -> StudyEnd | None:
    """Returns what one job makes of its study; None while a worker has to do something."""
    if job.state is JobState.REVIEW:
        return StudyEnd(StudyOutcome.REVIEW, "; ".join(job.result.review) if job.result else "")
    if job.state.is_unfinished:
        return None
    if job.state is JobState.FAILED:
        return StudyEnd(StudyOutcome.DELIVER_FAILED if job.result else StudyOutcome.SEGMENT_FAILED, job.reason)
    if job.state is JobState.CANCELLED:
        return StudyEnd(StudyOutcome.SUPERSEDED if job.superseded_by else StudyOutcome.CANCELLED, job.reason)
    found = job.result is not None and bool(job.result.found)
    return StudyEnd(StudyOutcome.SEGMENTED if found else StudyOutcome.NOTHING_FOUND)


def _without_jobs(series: Sequence[Series], decisions: Sequence[Decision]) -> StudyEnd:
    """Returns the end of a study of which no job was made."""
    unreadable = [f"series {one.series_uid}: {one.reason}" for one in series if one.state is SeriesState.UNREADABLE]
    volumes = [volume for one in decisions for volume in one.volumes]
    irregular = [any(it.condition == REGULAR and not it.holds for it in one.findings) for one in volumes]
    said = [f"{one.protocol}, series {one.series_uid}: {one.reason}" for one in decisions]
    reason = "; ".join([*unreadable, *said]) or "no protocol was asked about it"
    none_is_one = all(irregular) if irregular else len(unreadable) == len(series)
    return StudyEnd(StudyOutcome.NO_VOLUME if none_is_one else StudyOutcome.NOT_TAKEN, reason)

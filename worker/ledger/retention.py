"""Queries of `worker.maintenance.retention`: which images and results may be removed from the disk.

Reads tables `series`, `jobs` and `deliveries`. When images or results were removed, it writes `cleaned_at` of `jobs`
and empties what `studies` says of the patient. An image may arrive right after an answer, so the retention thread asks
again just before it removes something.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

import sqlalchemy as sa

from worker.ledger.database import Database
from worker.ledger.job_of_deliveries import awaited
from worker.ledger.schema import deliveries, jobs, series
from worker.ledger.series import is_unsettled
from worker.ledger.states import JobState
from worker.ledger.studies import forget_facts


class RetentionNeed(IntEnum):
    """How much images or results are still needed; where several needs apply, the greatest counts."""

    UNUSED = 0  # no job was ever made of them
    DELIVERED = 1  # every result is where it should be, and promised where that was asked; or there was none to send
    FAILED = 2  # `jobs retry` would need them; it starts no job that is superseded
    NEEDED = 3  # a job is unfinished, a promise is awaited, or images are still arriving


@dataclass(frozen=True)
class RetentionStatus:
    """How much a study, or the results of a job, are needed, and since when that has not changed."""

    uid: str  # of the study, or the job's id
    need: RetentionNeed
    since: float  # when the last image arrived or the last job changed, whichever is later
    only_copy: bool = False  # results that were never sent anywhere


class RetentionLedger:
    """Says which images and results may be removed, and notes removals."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def studies(self, study_uid: str | None = None) -> list[RetentionStatus]:
        """Returns the status of every study of this store, or of one; those unchanged for longest first."""
        arriving = sa.func.max(sa.case((is_unsettled(), RetentionNeed.NEEDED), else_=RetentionNeed.UNUSED))
        known = sa.select(series.c.study_uid, arriving.label("need"), sa.func.max(series.c.last_at).label("since"))
        known = known.where(self._database.mine(series))
        if study_uid is not None:
            known = known.where(series.c.study_uid == study_uid)
        found: dict[str, list[tuple[RetentionNeed, float]]] = defaultdict(list)
        with self._database.read() as connection:
            for row in connection.execute(known.group_by(series.c.study_uid)):
                found[row.study_uid].append((RetentionNeed(row.need), row.since))
        of_study = self._database.mine(jobs)
        if study_uid is not None:
            of_study &= jobs.c.study_uid == study_uid
        for study, use in self._statuses_of_jobs(of_study):
            found[study].append((use.need, use.since))
        uses = (
            RetentionStatus(uid, max(need for need, _ in parts), max(since for _, since in parts))
            for uid, parts in found.items()
        )
        return sorted(uses, key=lambda use: use.since)

    def results(self, job_ids: Iterable[str]) -> list[RetentionStatus]:
        """Returns the status of these jobs' results, those unchanged for longest first; unknown jobs are left out."""
        wanted = set(job_ids)
        return sorted(
            (use for _, use in self._statuses_of_jobs(sa.true()) if use.uid in wanted), key=lambda use: use.since
        )

    def result(self, job_id: str) -> RetentionStatus | None:
        """Returns the status of this job's results; None when the job is not known."""
        return next((use for _, use in self._statuses_of_jobs(jobs.c.id == job_id)), None)

    def note_removed(self, *, study_uid: str | None = None, job_id: str | None = None) -> None:
        """Notes the removal of a study's images on its jobs, or of a job's results on that job.

        With the images goes what names the patient.
        """
        mine = jobs.c.study_uid == study_uid if study_uid is not None else jobs.c.id == job_id
        with self._database.write() as connection:
            cleaned = sa.update(jobs).where(mine, self._database.mine(jobs))
            connection.execute(cleaned.values(cleaned_at=self._database.now()))
            if study_uid is not None:
                forget_facts(connection, study_uid)

    def _statuses_of_jobs(self, which: sa.ColumnElement[bool]) -> list[tuple[str, RetentionStatus]]:
        """Returns (Study Instance UID, status) of the jobs that meet a condition."""
        facts = jobs.c.study_uid, jobs.c.id, jobs.c.state, jobs.c.updated_at, jobs.c.superseded_by
        with self._database.read() as connection:
            waiting = set(connection.scalars(sa.select(deliveries.c.job_id).where(awaited())))
            rows = connection.execute(sa.select(*facts).where(which)).all()
        return [
            (
                str(row.study_uid),
                RetentionStatus(
                    str(row.id),
                    _need(JobState(row.state), awaits=row.id in waiting, outdated=row.superseded_by is not None),
                    float(row.updated_at),
                    only_copy=not JobState(row.state).is_delivered,
                ),
            )
            for row in rows
        ]


def _need(state: JobState, *, awaits: bool, outdated: bool) -> RetentionNeed:
    """Returns the need of one job: `awaits` storage commitment; `outdated`, since a newer job supersedes it."""
    if state.is_unfinished or (awaits and state is JobState.DELIVERED):
        return RetentionNeed.NEEDED
    return RetentionNeed.FAILED if state is JobState.FAILED and not outdated else RetentionNeed.DELIVERED

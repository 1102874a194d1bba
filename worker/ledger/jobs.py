"""Facts about jobs: each transition is one guarded UPDATE."""

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from worker.errors import UnknownJobError
from worker.jobs import Work
from worker.ledger.records import Job
from worker.ledger.schema import deliveries, jobs
from worker.ledger.states import UNFINISHED, DeliveryState, JobState
from worker.ledger.tables import Tables


class JobFacts(Tables):
    """Jobs from QUEUED to their end."""

    def add_job(self, work: Work) -> bool:
        """Writes a QUEUED job unless the same work is known; says whether it is new.

        Unfinished jobs of the same series and protocol are CANCELLED, finished ones say what superseded them: their
        input has changed.
        """
        now = self._clock()
        row = {
            "id": work.job_id,
            "study_uid": work.study_uid,
            "series_uid": work.series_uid,
            "protocol": work.protocol,
            "work": work.model_dump(mode="json"),
            "state": JobState.QUEUED,
            "attempts": 0,
            "reason": "",
            "result": {},
            "created_at": now,
            "updated_at": now,
            "next_try_at": now,
            "lease_until": 0.0,
        }
        predecessors = (
            (jobs.c.series_uid == work.series_uid)
            & (jobs.c.study_uid == work.study_uid)
            & (jobs.c.protocol == work.protocol)
            & (jobs.c.id != work.job_id)
            & jobs.c.superseded_by.is_(None)
        )
        with self._engine.begin() as connection:
            if not connection.execute(self._insert(jobs).values(row).on_conflict_do_nothing()).rowcount:
                return False
            connection.execute(sa.update(jobs).where(predecessors).values(superseded_by=work.job_id, updated_at=now))
            connection.execute(
                sa.update(jobs)
                .where(jobs.c.superseded_by == work.job_id, jobs.c.state == JobState.QUEUED)
                .values(state=JobState.CANCELLED, reason=f"superseded by job {work.job_id}: later images arrived")
            )
        return True

    def job(self, job_id: str) -> Job:
        """The job of that id, or of the only id that starts so.

        Raises:
            UnknownJobError: no job, or more than one.
        """
        found = self._jobs(sa.select(jobs).where(jobs.c.id.startswith(job_id, autoescape=True)).limit(2))
        if len(found) != 1:
            what = "no job" if not found else "more than one job"
            raise UnknownJobError(f"{what} with id '{job_id}' in the ledger; see voxtell-dicom jobs")
        return found[0]

    def jobs(self, state: JobState | None = None, limit: int = 1000) -> list[Job]:
        """Jobs, newest first."""
        query = sa.select(jobs).order_by(jobs.c.created_at.desc(), jobs.c.id).limit(limit)
        return self._jobs(query if state is None else query.where(jobs.c.state == state))

    def predecessor(self, job: Job) -> Job | None:
        """The job on the same series and protocol that this one superseded, if it came to results."""
        query = sa.select(jobs).where(jobs.c.superseded_by == job.id, jobs.c.state != JobState.CANCELLED)
        found = self._jobs(query.order_by(jobs.c.created_at.desc()).limit(1))
        return found[0] if found else None

    def claim(self, job_id: str, lease_seconds: float) -> Job | None:
        """Takes a QUEUED job for this worker and counts the attempt; None if it is not to be had (any more)."""
        now = self._clock()
        claimed = self._changed(
            sa.update(jobs)
            .where(jobs.c.id == job_id, jobs.c.state == JobState.QUEUED, jobs.c.next_try_at <= now)
            .values(
                state=JobState.SEGMENTING,
                attempts=jobs.c.attempts + 1,
                lease_until=now + lease_seconds,
                updated_at=now,
            )
        )
        return self.job(job_id) if claimed else None

    def renew(self, job: Job, lease_seconds: float) -> bool:
        """Keeps the claim; False if the job was cancelled or taken back meanwhile."""
        return self._leave(job, lease_until=self._clock() + lease_seconds)

    def segmented(self, job: Job, result: Mapping[str, Any], destinations: Sequence[str]) -> bool:
        """The results are on disk: SEGMENTING -> SENDING with a delivery per destination, or SEGMENTED without one."""
        now = self._clock()
        state = JobState.SENDING if destinations else JobState.SEGMENTED
        with self._engine.begin() as connection:
            statement = self._leaving(job, state=state, result=dict(result), reason="")
            if not connection.execute(statement).rowcount:
                return False
            for destination in destinations:
                row = {"job_id": job.id, "destination": destination, "attempts": 0, "lease_until": 0.0}
                fresh = {"state": DeliveryState.PENDING, "reason": "", "next_try_at": now}
                insert = self._insert(deliveries).values(row | fresh)
                connection.execute(insert.on_conflict_do_nothing())
        return True

    def postpone(self, job: Job, reason: str, wait_seconds: float) -> bool:
        """An error that may pass: SEGMENTING -> QUEUED, not before the wait is over."""
        return self._leave(job, state=JobState.QUEUED, reason=reason, next_try_at=self._clock() + wait_seconds)

    def fail(self, job: Job, reason: str) -> bool:
        """SEGMENTING -> FAILED."""
        return self._leave(job, state=JobState.FAILED, reason=reason)

    def retry(self, job_id: str) -> Job:
        """Starts a FAILED or CANCELLED job again: its deliveries if the results exist, else the segmentation.

        Raises:
            UnknownJobError: no such job, or it is not in one of these states.
        """
        job, now = self.job(job_id), self._clock()
        segmented = bool(job.result)
        state = JobState.SENDING if segmented and job.work.destinations else JobState.QUEUED
        ended = jobs.c.state.in_([JobState.FAILED, JobState.CANCELLED])
        update = sa.update(jobs).where(jobs.c.id == job.id, ended)
        with self._engine.begin() as connection:
            fresh = {"state": state, "attempts": 0, "reason": "", "next_try_at": now, "updated_at": now}
            if not connection.execute(update.values(fresh)).rowcount:
                raise UnknownJobError(f"job {job.id} is {job.state}; only failed and cancelled jobs are started again")
            connection.execute(
                sa.update(deliveries)
                .where(deliveries.c.job_id == job.id, deliveries.c.state == DeliveryState.FAILED)
                .values(state=DeliveryState.PENDING, attempts=0, reason="", next_try_at=now)
            )
        return self.job(job.id)

    def cancel(self, job_id: str) -> Job:
        """Ends an unfinished job; a worker that is at it stops at its next window.

        Raises:
            UnknownJobError: no such job, or it is finished.
        """
        job = self.job(job_id)
        update = sa.update(jobs).where(jobs.c.id == job.id, jobs.c.state.in_(UNFINISHED))
        if not self._changed(update.values(state=JobState.CANCELLED, reason="cancelled", updated_at=self._clock())):
            raise UnknownJobError(f"job {job.id} is {job.state}; only unfinished jobs can be cancelled")
        return self.job(job.id)

    def to_segment(self) -> list[str]:
        """Ids of QUEUED jobs whose time has come, oldest first."""
        due = (jobs.c.state == JobState.QUEUED) & (jobs.c.next_try_at <= self._clock())
        with self._engine.connect() as connection:
            query = sa.select(jobs.c.id).where(due).order_by(jobs.c.created_at, jobs.c.id)
            return [str(row.id) for row in connection.execute(query)]

    def _leaving(self, job: Job, **values: Any) -> sa.Update:
        """The UPDATE by the worker that holds attempt `job.attempts`; a worker that lost its lease changes nothing."""
        mine = (jobs.c.id == job.id) & (jobs.c.state == JobState.SEGMENTING) & (jobs.c.attempts == job.attempts)
        return sa.update(jobs).where(mine).values(updated_at=self._clock(), **values)

    def _leave(self, job: Job, **values: Any) -> bool:
        return self._changed(self._leaving(job, **values))

    def _jobs(self, query: sa.Select[Any]) -> list[Job]:
        return self._select(Job, query)

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

        Jobs on the same series and protocol are superseded, because their input has changed: those without results yet
        are CANCELLED, also while a worker is at it; results that exist still go where they belong.
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
            "claims": 0,
            "reason": "",
            "result": {},
            "created_at": now,
            "updated_at": now,
            "next_try_at": now,
            "lease_until": 0.0,
            "priority": int(work.priority),
        }
        predecessors = (
            (jobs.c.series_uid == work.series_uid)
            & (jobs.c.study_uid == work.study_uid)
            & (jobs.c.protocol == work.protocol)
            & (jobs.c.id != work.job_id)
            & jobs.c.superseded_by.is_(None)
        )
        with self._engine.begin() as connection:
            insert = self._insert(jobs).values(row).on_conflict_do_nothing().returning(jobs.c.id)
            if connection.execute(insert).first() is None:
                return False
            connection.execute(sa.update(jobs).where(predecessors).values(superseded_by=work.job_id, updated_at=now))
            connection.execute(
                sa.update(jobs)
                .where(jobs.c.superseded_by == work.job_id)
                .where(jobs.c.state.in_([JobState.QUEUED, JobState.SEGMENTING]))
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
        """The newest older job on the same series and protocol that came to results: its objects are replaced."""
        query = (
            sa.select(jobs)
            .where(jobs.c.study_uid == job.study_uid, jobs.c.series_uid == job.series_uid)
            .where(jobs.c.protocol == job.protocol, jobs.c.created_at < job.created_at)
            .where(jobs.c.state != JobState.CANCELLED)
            .order_by(jobs.c.created_at.desc())
        )
        return next((older for older in self._jobs(query) if older.result), None)

    def claim(self, job_id: str, lease_seconds: float) -> Job | None:
        """Takes a QUEUED job for this worker and counts the attempt; None if it is not to be had (any more)."""
        now = self._clock()
        claimed = self._change(
            Job,
            sa.update(jobs)
            .where(jobs.c.id == job_id, jobs.c.state == JobState.QUEUED, jobs.c.next_try_at <= now)
            .values(
                state=JobState.SEGMENTING,
                attempts=jobs.c.attempts + 1,
                claims=jobs.c.claims + 1,
                lease_until=now + lease_seconds,
                updated_at=now,
            ),
        )
        return claimed[0] if claimed else None

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
                row = {"job_id": job.id, "destination": destination, "attempts": 0, "claims": 0}
                fresh = {"state": DeliveryState.PENDING, "reason": "", "next_try_at": now, "lease_until": 0.0}
                insert = self._insert(deliveries).values(row | fresh)
                connection.execute(insert.on_conflict_do_nothing())
        return True

    def postpone(self, job: Job, reason: str, wait_seconds: float) -> bool:
        """An error that may pass: SEGMENTING -> QUEUED, not before the wait is over."""
        return self._leave(job, state=JobState.QUEUED, reason=reason, next_try_at=self._clock() + wait_seconds)

    def fail(self, job: Job, reason: str) -> bool:
        """SEGMENTING -> FAILED."""
        return self._leave(job, state=JobState.FAILED, reason=reason)

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
        """Ids of QUEUED jobs whose time has come, by priority and age."""
        due = (jobs.c.state == JobState.QUEUED) & (jobs.c.next_try_at <= self._clock())
        with self._engine.connect() as connection:
            query = sa.select(jobs.c.id).where(due).order_by(jobs.c.priority, jobs.c.created_at, jobs.c.id)
            return [str(row.id) for row in connection.execute(query)]

    def _leaving(self, job: Job, **values: Any) -> sa.Update:
        """The UPDATE by the worker that made claim `job.claims`; a worker that lost its lease changes nothing."""
        mine = (jobs.c.id == job.id) & (jobs.c.state == JobState.SEGMENTING) & (jobs.c.claims == job.claims)
        return sa.update(jobs).where(mine).values(updated_at=self._clock(), **values)

    def _leave(self, job: Job, **values: Any) -> bool:
        return self._changed(self._leaving(job, **values))

    def _jobs(self, query: sa.Select[Any]) -> list[Job]:
        return self._select(Job, query)

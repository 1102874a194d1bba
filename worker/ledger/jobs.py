"""Facts about jobs: each transition is one guarded UPDATE."""

from collections.abc import Collection
from typing import Any

import sqlalchemy as sa

from worker.errors import UnknownJobError
from worker.job_spec import JobSpec, Priority
from worker.ledger import windows
from worker.ledger.records import Job
from worker.ledger.schema import jobs
from worker.ledger.states import UNFINISHED, JobState
from worker.ledger.tables import Tables

UNSENT = (JobState.QUEUED, JobState.SEGMENTING, JobState.REVIEW)


class JobFacts(Tables):
    """Jobs from QUEUED to the end of their segmentation."""

    def add_job(self, spec: JobSpec) -> bool:
        """Writes a QUEUED job unless the same work is known; says whether it is new.

        Jobs on the same volume and protocol are superseded, because their input has changed: those without results that
        may be sent are CANCELLED, also while a worker is at it; other results still go where they belong. Some of the
        images of a job whose images were removed are no new work: they are only being sent again.
        """
        now = self._clock()
        row = {
            "id": spec.job_id,
            "study_uid": spec.study_uid,
            "series_uid": spec.series_uid,
            "protocol": spec.protocol,
            "work": spec.model_dump(mode="json"),
            "state": JobState.QUEUED,
            "attempts": 0,
            "claims": 0,
            "reason": "",
            "result": {},
            "created_at": now,
            "updated_at": now,
            "next_try_at": windows.next_open(spec.window, now) if spec.window else now,
            "lease_until": 0.0,
            "priority": int(spec.priority),
        }
        predecessors = _on_volume_of(spec) & (jobs.c.id != spec.job_id) & jobs.c.superseded_by.is_(None)
        removed = sa.select(jobs.c.work).where(_on_volume_of(spec), jobs.c.cleaned_at.is_not(None))
        with self._engine.begin() as connection:
            known = (set(row.work["instances"]) for row in connection.execute(removed))
            if any(set(spec.instances) < instances for instances in known):
                return False
            insert = self._insert(jobs).values(row).on_conflict_do_nothing().returning(jobs.c.id)
            if connection.execute(insert).first() is None:
                return False
            connection.execute(sa.update(jobs).where(predecessors).values(superseded_by=spec.job_id, updated_at=now))
            connection.execute(
                sa.update(jobs)
                .where(jobs.c.superseded_by == spec.job_id)
                .where(jobs.c.state.in_(UNSENT))
                .values(state=JobState.CANCELLED, reason=f"superseded by job {spec.job_id}: later images arrived")
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
        """The newest older job on the same volume and protocol that came to results: its objects are replaced.

        Of a series that has become several volumes, only those replace its objects that hold some of their images. What
        was made in the shadow is nowhere: no result that is sent replaces it.
        """
        query = (
            sa.select(jobs)
            .where(_on_volume_of(job.spec), jobs.c.created_at < job.created_at)
            .where(jobs.c.state != JobState.CANCELLED)
            .order_by(jobs.c.created_at.desc())
        )
        return next((older for older in self._jobs(query) if older.result and _replaces(job.spec, older.spec)), None)

    def claim(self, job_id: str, lease_seconds: float) -> Job | None:
        """Takes a QUEUED job for this worker and counts the attempt; None if it is not to be had (any more).

        A job outside its window waits until that opens.
        """
        now = self._clock()
        queued = sa.update(jobs).where(jobs.c.id == job_id, jobs.c.state == JobState.QUEUED, jobs.c.next_try_at <= now)
        taken = queued.values(
            state=JobState.SEGMENTING,
            attempts=jobs.c.attempts + 1,
            claims=jobs.c.claims + 1,
            lease_until=now + lease_seconds,
            updated_at=now,
        )
        with self._engine.begin() as connection:
            window = connection.scalar(sa.select(jobs.c.work["window"]).where(jobs.c.id == job_id))
            opens_at = windows.next_open((window[0], window[1]), now) if window else now
            if opens_at > now:
                connection.execute(queued.values(next_try_at=opens_at))
                return None
            rows = connection.execute(taken.returning(*jobs.columns)).mappings().all()
        return Job(**self._typed(rows[0])) if rows else None

    def renew(self, job: Job, lease_seconds: float) -> bool:
        """Keeps the claim; False if the job was cancelled or taken back meanwhile."""
        return self._leave(job, lease_until=self._clock() + lease_seconds)

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

    def to_segment(self, limit: int | None = None) -> list[str]:
        """Ids of QUEUED jobs whose time has come, by priority and age; of these the first `limit`."""
        due = (jobs.c.state == JobState.QUEUED) & (jobs.c.next_try_at <= self._clock())
        with self._engine.connect() as connection:
            query = sa.select(jobs.c.id).where(due).order_by(jobs.c.priority, jobs.c.created_at, jobs.c.id).limit(limit)
            return [str(row.id) for row in connection.execute(query)]

    def priorities(self, job_ids: Collection[str] | None = None) -> dict[str, Priority]:
        """By id, the priority of every unfinished job (of these) that is not routine."""
        special = jobs.c.state.in_(UNFINISHED) & (jobs.c.priority != Priority.ROUTINE)
        if job_ids is not None:
            special &= jobs.c.id.in_(job_ids)
        with self._engine.connect() as connection:
            rows = connection.execute(sa.select(jobs.c.id, jobs.c.priority).where(special))
            return {str(row.id): Priority(row.priority) for row in rows}

    def _leaving(self, job: Job, **values: Any) -> sa.Update:
        """The UPDATE by the worker that made claim `job.claims`; a worker that lost its lease changes nothing."""
        mine = (jobs.c.id == job.id) & (jobs.c.state == JobState.SEGMENTING) & (jobs.c.claims == job.claims)
        return sa.update(jobs).where(mine).values(updated_at=self._clock(), **values)

    def _leave(self, job: Job, **values: Any) -> bool:
        return self._changed(self._leaving(job, **values))

    def _jobs(self, query: sa.Select[Any]) -> list[Job]:
        return self._select(Job, query)


def _replaces(spec: JobSpec, older: JobSpec) -> bool:
    if older.shadow and not spec.shadow:
        return False
    return spec.volume == older.volume or not set(spec.instances).isdisjoint(older.instances)


def _on_volume_of(spec: JobSpec) -> sa.ColumnElement[bool]:
    """Jobs of the same protocol on the same volume; a series that was one volume may have become several."""
    volume = jobs.c.work["volume"].as_string()
    same = sa.true() if spec.volume is None else volume.is_(None) | (volume == spec.volume)
    return (
        (jobs.c.study_uid == spec.study_uid)
        & (jobs.c.series_uid == spec.series_uid)
        & (jobs.c.protocol == spec.protocol)
        & same
    )

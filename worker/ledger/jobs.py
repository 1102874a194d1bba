"""Jobs, from QUEUED to the end of their segmentation.

Table `jobs`; `segmented`, `release` and `retry` write `deliveries` in the same transaction. The intake adds jobs,
segmentation workers claim them, people and the sweep change them, all at once: each transition is one UPDATE guarded by
the state that it leaves and, where a worker makes it, by the number of its claim: a worker that has lost its lease
changes nothing.

```
            add               claim                segmented
   (new) ---------> QUEUED ----------> SEGMENTING -----------> SEGMENTED | REVIEW | SENDING
                      ^  <---------------- | postpone, give_back              | release
                      | retry              | fail                              v
                      +--- FAILED <--------+                                SENDING, then as its deliveries say
                      +--- CANCELLED <---- cancel (of any unfinished job), superseded (before anything was sent)
```
"""

from collections.abc import Collection
from typing import Any

import sqlalchemy as sa

from worker.errors import UnknownJobError
from worker.job_spec import JobSpec, Priority
from worker.ledger import known_work, windows
from worker.ledger.database import Database, insert
from worker.ledger.job_of_deliveries import forget_taken, has_deliveries, open_deliveries, retry_failed, start_over
from worker.ledger.records import Job, as_record
from worker.ledger.routing import destinations
from worker.ledger.schema import jobs
from worker.ledger.states import CANCELLED_BY_A_PERSON, IMAGES_REPLACED, JobState, those
from worker.ledger.superseding import came_before_removal, on_volume_of, replaces, supersede_older
from worker.result import Result


class JobLedger:
    """Adds jobs, finds them, and makes the transitions of the segmentation and of `jobs cancel`, `release`, `retry`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, spec: JobSpec) -> bool:
        """Writes a QUEUED job unless the same work is known; returns whether it is new.

        Older jobs on the same volume and protocol are superseded, because their input has changed. Those that have sent
        nothing are CANCELLED, also while a worker is at one; results on their way still go to their destinations,
        unless the images came again with other content.

        A part of the images of a job whose images were removed is no new work: they are being sent again, and more of
        them will come.
        """
        now = self._database.now()
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
            "store_id": self._database.store_id,
        }
        with self._database.write() as connection:
            if came_before_removal(connection, spec):
                return False
            if (known := known_work.known_id(connection, spec)) is not None:
                known_work.adopt(connection, known, self._database.store_id, now, images_came=True)
                return False
            statement = insert(connection, jobs).values(row).on_conflict_do_nothing().returning(jobs.c.id)
            if connection.execute(statement).first() is None:
                return False
            supersede_older(connection, spec, spec.job_id, now)
        return True

    def revised(self, spec: JobSpec, counted: str) -> JobSpec:
        """Returns a specification with the revision of its content; see `worker.ledger.known_work.revised`."""
        with self._database.read() as connection:
            return known_work.revised(connection, spec, counted)

    def stands_again(self, spec: JobSpec) -> bool:
        """Starts the job of this work again if its images had come with other content, and now came with its own again.

        The results are computed and sent once more under their UIDs, since people were told to withdraw them; the job
        on the other content is superseded. Returns whether the job starts.
        """
        now = self._database.now()
        again = {"state": JobState.QUEUED, "reason": "", "superseded_by": None, "cleaned_at": None, "attempts": 0}
        with self._database.write() as connection:
            job_id = known_work.known_id(connection, spec)
            if job_id is None or not known_work.was_replaced(connection, spec, job_id):
                return False
            mine = sa.update(jobs).where(jobs.c.id == job_id)
            connection.execute(mine.values(again | {"next_try_at": now, "updated_at": now}))
            start_over(connection, job_id, now)
            supersede_older(connection, spec, job_id, now)
        return True

    def hasten(self, spec: JobSpec) -> bool:
        """Moves the QUEUED job that does this work forward, if `spec` is more urgent; returns whether it was moved.

        It gets the priority of `spec` where that is higher, and loses its hours where `spec` has none. A study that an
        archive run queued is started at once when the clinic sends it. No job is ever moved back.
        """
        now = self._database.now()
        with self._database.write() as connection:
            job_id = known_work.known_id(connection, spec)
            queued = (jobs.c.id == job_id) & (jobs.c.state == JobState.QUEUED)
            row = connection.execute(sa.select(jobs.c.priority, jobs.c.work).where(queued)).first()
            if row is None:
                return False
            priority = min(spec.priority, Priority(row.priority))
            freed = spec.window is None and row.work.get("window") is not None
            if priority == row.priority and not freed:
                return False
            work = {**row.work, "priority": int(priority), "window": None if freed else row.work.get("window")}
            change = {"priority": int(priority), "work": work, "updated_at": now}
            moved = sa.update(jobs).where(queued).values(change | ({"next_try_at": now} if freed else {}))
            return connection.execute(moved).rowcount == 1

    def id_of(self, spec: JobSpec) -> str:
        """Returns the id of the job that does this work, or the one that it would get."""
        with self._database.read() as connection:
            return known_work.known_id(connection, spec) or spec.job_id

    def get(self, job_id: str) -> Job:
        """Returns the job of that id, or the only one whose id starts with it.

        Raises:
            UnknownJobError: when there is no such job, or more than one.
        """
        query = sa.select(jobs).where(jobs.c.id.startswith(job_id, autoescape=True)).limit(2)
        found = self._database.select(Job, query)
        if len(found) != 1:
            what = "no job" if not found else "more than one job"
            raise UnknownJobError(f"{what} with id '{job_id}' in the ledger; see voxtell-dicom jobs")
        return found[0]

    def find(self, state: JobState | None = None, limit: int = 1000) -> list[Job]:
        """Returns the newest jobs, of one state or of all, newest first."""
        query = sa.select(jobs).order_by(jobs.c.created_at.desc(), jobs.c.id).limit(limit)
        return self._database.select(Job, query if state is None else query.where(jobs.c.state == state))

    def of_study(self, study_uid: str) -> list[Job]:
        """Returns the jobs of a study, oldest first."""
        query = sa.select(jobs).where(jobs.c.study_uid == study_uid).order_by(jobs.c.created_at, jobs.c.id)
        return self._database.select(Job, query)

    def predecessor(self, job: Job) -> Job | None:
        """Returns the newest older job on the same volume and protocol with results, which the job's objects replace.

        Where a series was one volume and has become several, a volume replaces the old objects only if it shares images
        with them. Results of shadow mode are at no destination, so no result that is sent replaces them.
        """
        query = (
            sa.select(jobs)
            .where(on_volume_of(job.spec), jobs.c.created_at < job.created_at)
            .where(jobs.c.state != JobState.CANCELLED)
            .order_by(jobs.c.created_at.desc())
        )
        found = self._database.select(Job, query)
        return next((older for older in found if older.result and replaces(job.spec, older.spec)), None)

    def claim(self, job_id: str, lease_seconds: float) -> Job | None:
        """Claims a job: QUEUED -> SEGMENTING, and counts the attempt; None if not due, or another worker has it.

        A job whose images lie in another store is none of this worker's. Outside the hours of its protocol the job
        stays QUEUED until they begin.
        """
        now = self._database.now()
        due = (jobs.c.state == JobState.QUEUED) & (jobs.c.next_try_at <= now)
        queued = sa.update(jobs).where(jobs.c.id == job_id, due, self._database.mine(jobs))
        taken = queued.values(
            state=JobState.SEGMENTING,
            attempts=jobs.c.attempts + 1,
            claims=jobs.c.claims + 1,
            lease_until=now + lease_seconds,
            updated_at=now,
        )
        with self._database.write() as connection:
            window = connection.scalar(sa.select(jobs.c.work["window"]).where(jobs.c.id == job_id))
            opens_at = windows.next_open((window[0], window[1]), now) if window else now
            if opens_at > now:
                connection.execute(queued.values(next_try_at=opens_at))
                return None
            rows = connection.execute(taken.returning(*jobs.columns)).mappings().all()
        return as_record(Job, rows[0]) if rows else None

    def renew(self, job: Job, lease_seconds: float) -> bool:
        """Extends the lease; False if the job was cancelled, or another worker has it."""
        return self._leave(job, lease_until=self._database.now() + lease_seconds)

    def postpone(self, job: Job, reason: str, wait_seconds: float) -> bool:
        """Puts a claimed job off: SEGMENTING -> QUEUED, due when the wait is over; False if the claim is lost."""
        return self._leave(job, state=JobState.QUEUED, reason=reason, next_try_at=self._database.now() + wait_seconds)

    def give_back(self, job: Job, reason: str) -> bool:
        """Returns a claimed job: SEGMENTING -> QUEUED, due now, and the attempt does not count; False if it is lost."""
        fresh = {"attempts": jobs.c.attempts - 1, "next_try_at": self._database.now()}
        return self._leave(job, state=JobState.QUEUED, reason=reason, **fresh)

    def fail(self, job: Job, reason: str) -> bool:
        """Ends a claimed job: SEGMENTING -> FAILED with the reason; False if the claim is lost."""
        return self._leave(job, state=JobState.FAILED, reason=reason)

    def give_up(self, job: Job) -> bool:
        """Ends a claimed job whose images have other content: SEGMENTING -> CANCELLED; False if the claim is lost."""
        return self._leave(job, state=JobState.CANCELLED, reason=IMAGES_REPLACED)

    def withdraw(self, job_id: str) -> bool:
        """Ends the sending of a job whose images have other content now: SENDING -> CANCELLED; False if it ended."""
        sending = sa.update(jobs).where(jobs.c.id == job_id, jobs.c.state == JobState.SENDING)
        ended = {"state": JobState.CANCELLED, "reason": IMAGES_REPLACED, "updated_at": self._database.now()}
        return self._database.update(sending.values(ended)) == 1

    def cancel(self, job_id: str) -> Job:
        """Cancels a job in any unfinished state. A worker that is at it stops after its next renewal of the lease.

        Raises:
            UnknownJobError: when there is no such job, or it is finished.
        """
        job = self.get(job_id)
        cancelled = {"state": JobState.CANCELLED, "reason": CANCELLED_BY_A_PERSON, "updated_at": self._database.now()}
        update = sa.update(jobs).where(jobs.c.id == job.id, _unfinished()).values(cancelled)
        if not self._database.update(update):
            raise UnknownJobError(f"job {job.id} is {job.state}; only unfinished jobs can be cancelled")
        return self.get(job.id)

    def due(self, limit: int | None = None) -> list[str]:
        """Returns the ids of this store's QUEUED jobs that are due, by priority and age; the first `limit` of them."""
        due = (jobs.c.state == JobState.QUEUED) & (jobs.c.next_try_at <= self._database.now())
        due &= self._database.mine(jobs)
        with self._database.read() as connection:
            query = sa.select(jobs.c.id).where(due).order_by(jobs.c.priority, jobs.c.created_at, jobs.c.id).limit(limit)
            return [str(row.id) for row in connection.execute(query)]

    def priorities(self, job_ids: Collection[str] | None = None) -> dict[str, Priority]:
        """Returns the priority, by id, of each unfinished job that is not routine; of these jobs, or of all."""
        special = _unfinished() & (jobs.c.priority != Priority.ROUTINE)
        if job_ids is not None:
            special &= jobs.c.id.in_(job_ids)
        with self._database.read() as connection:
            rows = connection.execute(sa.select(jobs.c.id, jobs.c.priority).where(special))
            return {str(row.id): Priority(row.priority) for row in rows}

    def segmented(self, job: Job, result: Result) -> bool:
        """Ends the segmentation, when the results are on the disk; False if the claim is lost.

        SEGMENTING -> SENDING, with a PENDING delivery for each destination that gets one of the objects; -> REVIEW
        where a person must release them first; -> SEGMENTED where no destination gets any.
        """
        wanted = destinations(job.spec, result)
        state = JobState.SENDING if wanted else JobState.SEGMENTED
        if wanted and job.spec.release:
            state = JobState.REVIEW
        with self._database.write() as connection:
            statement = self._leaving(job, state=state, result=result.json_facts(), reason="")
            if not connection.execute(statement).rowcount:
                return False
            if state is JobState.SENDING:
                open_deliveries(connection, job.id, wanted, self._database.now())
        return True

    def release(self, job_id: str) -> Job:
        """Releases a job: REVIEW -> SENDING, after a person has looked at the results.

        Raises:
            UnknownJobError: when there is no such job, or it does not wait for its release.
        """
        job = self.get(job_id)
        update = sa.update(jobs).where(jobs.c.id == job.id, jobs.c.state == JobState.REVIEW)
        with self._database.write() as connection:
            sending = update.values(state=JobState.SENDING, reason="", updated_at=self._database.now())
            if not connection.execute(sending).rowcount:
                raise UnknownJobError(f"job {job.id} is {job.state}; only jobs in review can be released")
            open_deliveries(connection, job.id, destinations(job.spec, job.result), self._database.now())
        return self.get(job.id)

    def retry(self, job_id: str, *, compute: bool = False) -> Job:
        """Starts a FAILED or CANCELLED job again where it stopped.

        With results -> SENDING (or REVIEW), and the deliveries that were not made start again; without results, or with
        `compute`, -> QUEUED. What has been delivered is not sent again.

        Raises:
            UnknownJobError: when there is no such job, or it is in another state.
        """
        job, now = self.get(job_id), self._database.now()
        wanted = [] if compute else destinations(job.spec, job.result)
        state = JobState.SENDING if wanted else JobState.QUEUED
        ended = (jobs.c.id == job.id) & jobs.c.state.in_(those(JobState, lambda state: state.may_be_retried))
        with self._database.write() as connection:
            if wanted and job.spec.release and not has_deliveries(connection, job.id):
                state = JobState.REVIEW
            fresh = {"state": state, "attempts": 0, "reason": "", "next_try_at": now, "updated_at": now}
            if not connection.execute(sa.update(jobs).where(ended).values(fresh)).rowcount:
                raise UnknownJobError(f"job {job.id} is {job.state}; only failed and cancelled jobs are started again")
            known_work.adopt(connection, job.id, self._database.store_id, now)
            retry_failed(connection, job.id, now)
            if state is JobState.QUEUED:  # by another model the new objects are others, although files are called alike
                forget_taken(connection, job.id)
            if state is JobState.SENDING:
                open_deliveries(connection, job.id, wanted, now)  # all may have been made before it was cancelled
        return self.get(job.id)

    def free_lost_leases(self, max_attempts: int) -> list[Job]:
        """Makes jobs whose lease has run out QUEUED, or FAILED after the last attempt; returns those that FAILED."""
        now = self._database.now()
        silent = (jobs.c.state == JobState.SEGMENTING) & (jobs.c.lease_until < now)
        reason = sa.literal("the worker died or fell silent during attempt ") + sa.cast(jobs.c.attempts, sa.String)
        freed = sa.update(jobs).where(silent).values(reason=reason, updated_at=now)
        spent = freed.where(jobs.c.attempts >= max_attempts).values(state=JobState.FAILED)
        failed = self._database.update_returning(Job, spent)
        self._database.update(
            freed.where(jobs.c.attempts < max_attempts).values(state=JobState.QUEUED, next_try_at=now)
        )
        return failed

    def _leaving(self, job: Job, **values: Any) -> sa.Update:
        """Returns the UPDATE of a job by this worker's claim: it changes nothing once the claim is lost."""
        mine = (jobs.c.id == job.id) & (jobs.c.state == JobState.SEGMENTING) & (jobs.c.claims == job.claims)
        return sa.update(jobs).where(mine).values(updated_at=self._database.now(), **values)

    def _leave(self, job: Job, **values: Any) -> bool:
        """Runs `_leaving`; returns whether this worker still had the claim."""
        return self._database.update(self._leaving(job, **values)) == 1


def _unfinished() -> sa.ColumnElement[bool]:
    """Returns a condition: the job is in an unfinished state."""
    return jobs.c.state.in_(those(JobState, lambda state: state.is_unfinished))

"""Facts about deliveries: one row per job and destination, so that a PACS that is down holds only its own results."""

from collections.abc import Collection, Mapping
from typing import Any

import sqlalchemy as sa

from worker.errors import UnknownJobError
from worker.ledger.job_of_deliveries import Following, awaited
from worker.ledger.records import Delivery, Job
from worker.ledger.routing import destinations
from worker.ledger.schema import deliveries, jobs
from worker.ledger.states import DeliveryState, JobState


class DeliveryFacts(Following):
    """Results from the end of the segmentation to the end of the last delivery, and what the queue may have lost."""

    def segmented(self, job: Job, result: Mapping[str, Any]) -> bool:
        """The results are on disk: SEGMENTING -> SENDING with a delivery per destination that gets something of them.

        Without one -> SEGMENTED; -> REVIEW where a person must release them first. False if the job was taken back.
        """
        wanted = destinations(job.spec, result["files"])
        state = JobState.SENDING if wanted else JobState.SEGMENTED
        if wanted and job.spec.release:
            state = JobState.REVIEW
        with self._engine.begin() as connection:
            statement = self._leaving(job, state=state, result=dict(result), reason="")
            if not connection.execute(statement).rowcount:
                return False
            if state is JobState.SENDING:
                self._open_deliveries(connection, job.id, wanted)
        return True

    def release(self, job_id: str) -> Job:
        """A person has looked at the results: REVIEW -> SENDING.

        Raises:
            UnknownJobError: no such job, or it does not wait for that.
        """
        job = self.job(job_id)
        update = sa.update(jobs).where(jobs.c.id == job.id, jobs.c.state == JobState.REVIEW)
        with self._engine.begin() as connection:
            sending = update.values(state=JobState.SENDING, reason="", updated_at=self._clock())
            if not connection.execute(sending).rowcount:
                raise UnknownJobError(f"job {job.id} is {job.state}; only jobs in review can be released")
            self._open_deliveries(connection, job.id, destinations(job.spec, job.result["files"]))
        return self.job(job.id)

    def deliveries(self, job_id: str) -> list[Delivery]:
        """Where a job's results stand at each destination."""
        query = sa.select(deliveries).where(deliveries.c.job_id == job_id).order_by(deliveries.c.destination)
        return self._select(Delivery, query)

    def claim_delivery(self, job_id: str, destination: str, lease_seconds: float) -> Delivery | None:
        """Takes a PENDING delivery of a SENDING job and counts the attempt; None if it is not to be had.

        Results that supersede others at the destination are not to be had before these have come to their end there.
        """
        now = self._clock()
        alive = sa.select(jobs.c.id).where(jobs.c.id == job_id, jobs.c.state == JobState.SENDING).exists()
        claimed = self._change(
            Delivery,
            sa.update(deliveries)
            .where(deliveries.c.job_id == job_id, deliveries.c.destination == destination)
            .where(deliveries.c.state == DeliveryState.PENDING, deliveries.c.next_try_at <= now, alive)
            .where(~overtakes())
            .values(
                state=DeliveryState.SENDING,
                attempts=deliveries.c.attempts + 1,
                claims=deliveries.c.claims + 1,
                lease_until=now + lease_seconds,
            ),
        )
        return claimed[0] if claimed else None

    def renew_delivery(self, delivery: Delivery, lease_seconds: float) -> bool:
        """Keeps the claim on a delivery; False if it was taken back."""
        return self._changed(self._sending(delivery).values(lease_until=self._clock() + lease_seconds))

    def postpone_delivery(
        self, delivery: Delivery, reason: str, wait_seconds: float, *, taken: Collection[str] = ()
    ) -> bool:
        """SENDING -> PENDING, not before the wait is over. `taken`: files that need not be sent again."""
        waiting: dict[str, Any] = {"state": DeliveryState.PENDING, "reason": reason}
        waiting |= {"next_try_at": self._clock() + wait_seconds, "taken": [*delivery.taken, *taken]}
        return self._changed(self._sending(delivery).values(waiting))

    def hold_destination(self, destination: str, wait_seconds: float) -> None:
        """A destination that cannot be reached: nothing else is sent to it or asked of it before the wait is over."""
        waiting = (deliveries.c.state == DeliveryState.PENDING) | awaited()
        self._hold((deliveries.c.destination == destination) & waiting, wait_seconds)

    def end_delivery(
        self,
        delivery: Delivery,
        state: DeliveryState,
        reason: str = "",
        *,
        transaction_uid: str | None = None,
        taken: Collection[str] = (),
    ) -> JobState:
        """SENDING -> DELIVERED or FAILED; the job follows when its last delivery has ended. Returns the job's state.

        `transaction_uid` says that the destination will be asked for storage commitment. After a failure for good the
        fallback's delivery starts, and `taken` are files that a retry need not send again.
        """
        ended: dict[str, Any] = {"state": state, "reason": reason, "taken": [*delivery.taken, *taken]}
        ended |= {"transaction_uid": transaction_uid, "next_try_at": self._clock()}
        if transaction_uid:
            ended["attempts"] = 0  # from now on they count the questions
        with self._engine.begin() as connection:
            self._lock_job(connection, delivery.job_id)
            if connection.execute(self._sending(delivery).values(ended)).rowcount:
                if state is DeliveryState.FAILED:
                    self._stand_in(connection, delivery.job_id, delivery.destination)
                self._follow_deliveries(connection, delivery.job_id)
        return self.job(delivery.job_id).state

    def retry(self, job_id: str, *, compute: bool = False) -> Job:
        """Starts a FAILED or CANCELLED job again: the deliveries that have not been made, or else the segmentation.

        With `compute` the segmentation, although there were results; what has been delivered is not sent again.

        Raises:
            UnknownJobError: no such job, or it is not in one of these states.
        """
        job, now = self.job(job_id), self._clock()
        wanted = destinations(job.spec, job.result["files"]) if job.result and not compute else []
        state = JobState.SENDING if wanted else JobState.QUEUED
        if wanted and job.spec.release and not self.deliveries(job.id):
            state = JobState.REVIEW
        ended = jobs.c.state.in_([JobState.FAILED, JobState.CANCELLED])
        mine = (deliveries.c.job_id == job.id) & (deliveries.c.state == DeliveryState.FAILED)
        with self._engine.begin() as connection:
            fresh = {"state": state, "attempts": 0, "reason": "", "next_try_at": now, "updated_at": now}
            if not connection.execute(sa.update(jobs).where(jobs.c.id == job.id, ended).values(fresh)).rowcount:
                raise UnknownJobError(f"job {job.id} is {job.state}; only failed and cancelled jobs are started again")
            connection.execute(  # the destination itself is tried first again
                sa.delete(deliveries).where(mine, deliveries.c.stands_in_for.is_not(None))
            )
            waiting: dict[str, Any] = {"state": DeliveryState.PENDING, "attempts": 0, "reason": "", "next_try_at": now}
            connection.execute(sa.update(deliveries).where(mine).values(waiting))
            if state is JobState.QUEUED:  # by another model the new objects are others, although files are called alike
                unsent = (deliveries.c.job_id == job.id) & (deliveries.c.state == DeliveryState.PENDING)
                connection.execute(sa.update(deliveries).where(unsent).values(taken=[]))
            if state is JobState.SENDING:
                self._open_deliveries(connection, job.id, wanted)  # all may have been made before it was cancelled
        return self.job(job.id)

    def free_lost_leases(self, max_attempts: int) -> list[Job]:
        """Jobs whose worker fell silent: QUEUED again, or FAILED after the last attempt. Returns those that FAILED."""
        now = self._clock()
        silent = (jobs.c.state == JobState.SEGMENTING) & (jobs.c.lease_until < now)
        reason = sa.literal("the worker died or fell silent during attempt ") + sa.cast(jobs.c.attempts, sa.String)
        freed = sa.update(jobs).where(silent).values(reason=reason, updated_at=now)
        failed = self._change(Job, freed.where(jobs.c.attempts >= max_attempts).values(state=JobState.FAILED))
        with self._engine.begin() as connection:
            waiting = freed.where(jobs.c.attempts < max_attempts)
            connection.execute(waiting.values(state=JobState.QUEUED, next_try_at=now))
        return failed

    def free_lost_deliveries(self, max_deliveries: int) -> list[Delivery]:
        """Deliveries whose sender fell silent: PENDING again, or FAILED after the last attempt. Returns the FAILED."""
        now = self._clock()
        silent = (deliveries.c.state == DeliveryState.SENDING) & (deliveries.c.lease_until < now)
        freed = sa.update(deliveries).where(silent).values(reason="the sender died or fell silent", next_try_at=now)
        self._change(
            Delivery,
            freed.where(deliveries.c.attempts < max_deliveries).values(state=DeliveryState.PENDING),
        )
        failed = []
        for lost in self._select(Delivery, sa.select(deliveries).where(silent)):
            self.end_delivery(lost, DeliveryState.FAILED, "the sender died or fell silent")
            failed += [
                line
                for line in self.deliveries(lost.job_id)
                if line.destination == lost.destination and line.state is DeliveryState.FAILED
            ]
        return failed

    def to_deliver(self, job_id: str | None = None) -> list[tuple[str, str]]:
        """(job id, destination) of PENDING deliveries whose time has come (of one job, or all), by priority and age."""
        query = self._due()
        return self._ways(query if job_id is None else query.where(jobs.c.id == job_id))

    def next_to_deliver(self, destination: str, but_not: str) -> list[tuple[str, str]]:
        """The first of `to_deliver` at a destination that is of another job; [] if there is none."""
        return self._ways(next_at(destination, but_not, self._due()))

    def _due(self) -> sa.Select[tuple[str, str]]:
        return (
            sa.select(deliveries.c.job_id, deliveries.c.destination)
            .join(jobs, jobs.c.id == deliveries.c.job_id)
            .where(deliveries.c.state == DeliveryState.PENDING, deliveries.c.next_try_at <= self._clock())
            .where(jobs.c.state == JobState.SENDING, ~overtakes())
            .order_by(jobs.c.priority, jobs.c.created_at, jobs.c.id, deliveries.c.destination)
        )

    def _ways(self, query: sa.Select[tuple[str, str]]) -> list[tuple[str, str]]:
        with self._engine.connect() as connection:
            return [(str(row.job_id), str(row.destination)) for row in connection.execute(query)]

    def _hold(self, waiting: sa.ColumnElement[bool], wait_seconds: float) -> None:
        later = self._clock() + wait_seconds
        self._changed(sa.update(deliveries).where(waiting, deliveries.c.next_try_at < later).values(next_try_at=later))

    def _sending(self, delivery: Delivery) -> sa.Update:
        """The UPDATE by the sender that made claim `delivery.claims`; one that lost its lease changes nothing."""
        return (
            sa.update(deliveries)
            .where(deliveries.c.job_id == delivery.job_id, deliveries.c.destination == delivery.destination)
            .where(deliveries.c.state == DeliveryState.SENDING, deliveries.c.claims == delivery.claims)
        )


def overtakes() -> sa.ColumnElement[bool]:
    """Whether a delivery would come before that of results which its own supersede: what came last is what counts."""
    older, theirs = jobs.alias("older"), deliveries.alias("theirs")
    return (
        sa.select(theirs.c.job_id)
        .join(older, older.c.id == theirs.c.job_id)
        .where(older.c.superseded_by == deliveries.c.job_id, theirs.c.destination == deliveries.c.destination)
        .where(older.c.state == JobState.SENDING)
        .where(theirs.c.state.in_([DeliveryState.PENDING, DeliveryState.SENDING]))
        .correlate(deliveries)
        .exists()
    )


def next_at(destination: str, but_not: str, waiting: sa.Select[tuple[str, str]]) -> sa.Select[tuple[str, str]]:
    """The first of the deliveries `waiting` at one destination that is not of this job."""
    return waiting.where(deliveries.c.destination == destination, deliveries.c.job_id != but_not).limit(1)

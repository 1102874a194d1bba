"""Facts about deliveries: one row per job and destination, so that a PACS that is down holds only its own results."""

import sqlalchemy as sa

from worker.errors import UnknownJobError
from worker.ledger.jobs import JobFacts
from worker.ledger.records import Delivery, Job
from worker.ledger.schema import deliveries, jobs
from worker.ledger.states import DeliveryState, JobState


class DeliveryFacts(JobFacts):
    """Deliveries from PENDING to their end, and what the queue may have lost."""

    def deliveries(self, job_id: str) -> list[Delivery]:
        """Where a job's results stand at each destination."""
        return self._select(Delivery, sa.select(deliveries).where(deliveries.c.job_id == job_id))

    def claim_delivery(self, job_id: str, destination: str, lease_seconds: float) -> Delivery | None:
        """Takes a PENDING delivery of a SENDING job and counts the attempt; None if it is not to be had."""
        now = self._clock()
        alive = sa.select(jobs.c.id).where(jobs.c.id == job_id, jobs.c.state == JobState.SENDING).exists()
        claimed = self._change(
            Delivery,
            sa.update(deliveries)
            .where(deliveries.c.job_id == job_id, deliveries.c.destination == destination)
            .where(deliveries.c.state == DeliveryState.PENDING, deliveries.c.next_try_at <= now, alive)
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

    def postpone_delivery(self, delivery: Delivery, reason: str, wait_seconds: float) -> bool:
        """SENDING -> PENDING, not before the wait is over."""
        later = self._clock() + wait_seconds
        return self._changed(
            self._sending(delivery).values(state=DeliveryState.PENDING, reason=reason, next_try_at=later)
        )

    def end_delivery(self, delivery: Delivery, state: DeliveryState, reason: str = "") -> JobState:
        """SENDING -> DELIVERED or FAILED; the job follows when its last delivery has ended. Returns the job's state."""
        with self._engine.begin() as connection:
            _lock_job(connection, delivery.job_id)
            connection.execute(self._sending(delivery).values(state=state, reason=reason))
            self._follow_deliveries(connection, delivery.job_id)
        return self.job(delivery.job_id).state

    def retry(self, job_id: str) -> Job:
        """Starts a FAILED or CANCELLED job again: the deliveries that have not been made, or else the segmentation.

        Raises:
            UnknownJobError: no such job, or it is not in one of these states.
        """
        job, now = self.job(job_id), self._clock()
        state = JobState.SENDING if job.result and job.work.routes else JobState.QUEUED
        ended = jobs.c.state.in_([JobState.FAILED, JobState.CANCELLED])
        with self._engine.begin() as connection:
            fresh = {"state": state, "attempts": 0, "reason": "", "next_try_at": now, "updated_at": now}
            if not connection.execute(sa.update(jobs).where(jobs.c.id == job.id, ended).values(fresh)).rowcount:
                raise UnknownJobError(f"job {job.id} is {job.state}; only failed and cancelled jobs are started again")
            connection.execute(
                sa.update(deliveries)
                .where(deliveries.c.job_id == job.id, deliveries.c.state == DeliveryState.FAILED)
                .values(state=DeliveryState.PENDING, attempts=0, reason="", next_try_at=now)
            )
            self._follow_deliveries(connection, job.id)  # all may have been made before it was cancelled
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
        spent = freed.where(deliveries.c.attempts >= max_deliveries)
        failed = self._change(Delivery, spent.values(state=DeliveryState.FAILED))
        with self._engine.begin() as connection:
            waiting = freed.where(deliveries.c.attempts < max_deliveries)
            connection.execute(waiting.values(state=DeliveryState.PENDING))
        for delivery in failed:
            with self._engine.begin() as connection:
                _lock_job(connection, delivery.job_id)
                self._follow_deliveries(connection, delivery.job_id)
        return failed

    def to_deliver(self) -> list[tuple[str, str]]:
        """(job id, destination) of PENDING deliveries whose time has come."""
        query = (
            sa.select(deliveries.c.job_id, deliveries.c.destination)
            .join(jobs, jobs.c.id == deliveries.c.job_id)
            .where(deliveries.c.state == DeliveryState.PENDING, deliveries.c.next_try_at <= self._clock())
            .where(jobs.c.state == JobState.SENDING)
            .order_by(jobs.c.created_at, jobs.c.id)
        )
        with self._engine.connect() as connection:
            return [(str(row.job_id), str(row.destination)) for row in connection.execute(query)]

    def _sending(self, delivery: Delivery) -> sa.Update:
        """The UPDATE by the sender that made claim `delivery.claims`; one that lost its lease changes nothing."""
        return (
            sa.update(deliveries)
            .where(deliveries.c.job_id == delivery.job_id, deliveries.c.destination == delivery.destination)
            .where(deliveries.c.state == DeliveryState.SENDING, deliveries.c.claims == delivery.claims)
        )

    def _follow_deliveries(self, connection: sa.Connection, job_id: str) -> None:
        """SENDING -> DELIVERED or FAILED if no delivery of the job is open any more."""
        ended = connection.execute(sa.select(deliveries).where(deliveries.c.job_id == job_id)).all()
        if any(row.state in (DeliveryState.PENDING, DeliveryState.SENDING) for row in ended):
            return
        refused = [f"{row.destination}: {row.reason}" for row in ended if row.state == DeliveryState.FAILED]
        state = JobState.FAILED if refused else JobState.DELIVERED
        connection.execute(
            sa.update(jobs)
            .where(jobs.c.id == job_id, jobs.c.state == JobState.SENDING)
            .values(state=state, reason="; ".join(refused), updated_at=self._clock())
        )


def _lock_job(connection: sa.Connection, job_id: str) -> None:
    """One at a time: of two last deliveries that end together, the second must see the first (PostgreSQL)."""
    connection.execute(sa.select(jobs.c.id).where(jobs.c.id == job_id).with_for_update())

"""Facts about deliveries: one row per job and destination, so that a PACS that is down holds only its own results."""

import sqlalchemy as sa

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
        claimed = self._changed(
            self._delivery(job_id, destination)
            .where(deliveries.c.state == DeliveryState.PENDING, deliveries.c.next_try_at <= now, alive)
            .values(
                state=DeliveryState.SENDING,
                attempts=deliveries.c.attempts + 1,
                lease_until=now + lease_seconds,
            )
        )
        if not claimed:
            return None
        return next(d for d in self.deliveries(job_id) if d.destination == destination)

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
        now = self._clock()
        mine = deliveries.c.job_id == delivery.job_id
        open_ones = sa.select(deliveries.c.job_id).where(
            mine, deliveries.c.state.in_([DeliveryState.PENDING, DeliveryState.SENDING])
        )
        failed = sa.select(deliveries.c.job_id).where(mine, deliveries.c.state == DeliveryState.FAILED)
        with self._engine.begin() as connection:
            connection.execute(self._sending(delivery).values(state=state, reason=reason))
            ended = sa.update(jobs).where(jobs.c.id == delivery.job_id, jobs.c.state == JobState.SENDING)
            ended = ended.where(~open_ones.exists())
            if state is DeliveryState.FAILED:
                connection.execute(
                    ended.values(state=JobState.FAILED, reason=f"{delivery.destination}: {reason}", updated_at=now)
                )
            else:
                connection.execute(
                    ended.values(
                        state=sa.case((failed.exists(), JobState.FAILED), else_=JobState.DELIVERED), updated_at=now
                    )
                )
        return self.job(delivery.job_id).state

    def free_lost_leases(self, max_attempts: int) -> list[Job]:
        """Jobs whose worker fell silent: QUEUED again, or FAILED after the last attempt. Returns those that FAILED."""
        now = self._clock()
        silent = (jobs.c.state == JobState.SEGMENTING) & (jobs.c.lease_until < now)
        spent = silent & (jobs.c.attempts >= max_attempts)
        reason = sa.literal("the worker died or fell silent during attempt ") + sa.cast(jobs.c.attempts, sa.String)
        with self._engine.begin() as connection:
            failed = [str(row.id) for row in connection.execute(sa.select(jobs.c.id).where(spent))]
            connection.execute(
                sa.update(jobs)
                .where(jobs.c.id.in_(failed))
                .where(spent)
                .values(state=JobState.FAILED, reason=reason, updated_at=now)
            )
            connection.execute(
                sa.update(jobs)
                .where(silent)
                .values(state=JobState.QUEUED, reason=reason, next_try_at=now, updated_at=now)
            )
            connection.execute(
                sa.update(deliveries)
                .where(deliveries.c.state == DeliveryState.SENDING, deliveries.c.lease_until < now)
                .values(state=DeliveryState.PENDING, reason="the sender died or fell silent", next_try_at=now)
            )
        return [self.job(job_id) for job_id in failed]

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

    def _delivery(self, job_id: str, destination: str) -> sa.Update:
        return sa.update(deliveries).where(deliveries.c.job_id == job_id, deliveries.c.destination == destination)

    def _sending(self, delivery: Delivery) -> sa.Update:
        mine = (deliveries.c.state == DeliveryState.SENDING) & (deliveries.c.attempts == delivery.attempts)
        return self._delivery(delivery.job_id, delivery.destination).where(mine)

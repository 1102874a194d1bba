"""Deliveries: one row per job and destination, so that a PACS that is down holds only its own results.

Table `deliveries`; the end of a delivery writes the state of its job in the same transaction. Delivery workers claim
them and the sweep frees what dead workers held: each transition is one UPDATE guarded by state and claim.
"""

from collections.abc import Collection, Sequence
from typing import Any

import sqlalchemy as sa

from worker.ledger.database import Database
from worker.ledger.job_of_deliveries import awaited, follow_deliveries, lock_job, start_fallbacks
from worker.ledger.jobs import JobLedger
from worker.ledger.records import Delivery
from worker.ledger.schema import deliveries, jobs
from worker.ledger.states import DeliveryState, JobState, those

AT_ONCE = 1000  # ids in one query; databases limit the values of one


class DeliveryLedger:
    """Takes a job's results from PENDING to DELIVERED or FAILED at each destination.

    Delivery workers use `claim`, `renew`, `postpone`, `hold` and `end`, the sweep `free_lost_leases` and `due`.
    """

    def __init__(self, database: Database, jobs: JobLedger) -> None:
        self._database, self._jobs = database, jobs

    def of_job(self, job_id: str) -> list[Delivery]:
        """Returns the deliveries of a job, in the order of the destinations' names."""
        query = sa.select(deliveries).where(deliveries.c.job_id == job_id).order_by(deliveries.c.destination)
        return self._database.select(Delivery, query)

    def of_jobs(self, job_ids: Sequence[str]) -> dict[str, list[Delivery]]:
        """Returns the deliveries of these jobs, by job."""
        found: dict[str, list[Delivery]] = {job_id: [] for job_id in job_ids}
        for start in range(0, len(job_ids), AT_ONCE):
            mine = deliveries.c.job_id.in_(job_ids[start : start + AT_ONCE])
            query = sa.select(deliveries).where(mine).order_by(deliveries.c.destination)
            for one in self._database.select(Delivery, query):
                found[one.job_id].append(one)
        return found

    def claim(self, job_id: str, destination: str, lease_seconds: float) -> Delivery | None:
        """Claims a delivery: PENDING -> SENDING, and counts the attempt; None if not due, or another has it.

        Results that supersede others wait until the delivery of those to the same destination has ended: what arrives
        last there must be the newest.
        """
        now = self._database.now()
        sending = (jobs.c.id == job_id) & (jobs.c.state == JobState.SENDING) & self._database.mine(jobs)
        alive = sa.select(jobs.c.id).where(sending).exists()
        claimed = self._database.update_returning(
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

    def renew(self, delivery: Delivery, lease_seconds: float) -> bool:
        """Extends the lease of a claimed delivery; False if the claim is lost."""
        renewed = self._sending(delivery).values(lease_until=self._database.now() + lease_seconds)
        return self._database.update(renewed) == 1

    def postpone(self, delivery: Delivery, reason: str, wait_seconds: float, *, taken: Collection[str] = ()) -> bool:
        """Puts a claimed delivery off: SENDING -> PENDING, due when the wait is over; False if the claim is lost.

        `taken` are the names of files that arrived all the same and need not be sent again.
        """
        waiting: dict[str, Any] = {"state": DeliveryState.PENDING, "reason": reason}
        waiting |= {"next_try_at": self._database.now() + wait_seconds, "taken": [*delivery.taken, *taken]}
        return self._database.update(self._sending(delivery).values(waiting)) == 1

    def give_back(self, delivery: Delivery, reason: str, *, taken: Collection[str] = ()) -> bool:
        """Returns a claimed delivery: SENDING -> PENDING, due now, and the attempt does not count; False if it is lost.

        `taken` as in `postpone`.
        """
        waiting: dict[str, Any] = {"state": DeliveryState.PENDING, "reason": reason}
        waiting |= {"next_try_at": self._database.now(), "taken": [*delivery.taken, *taken]}
        waiting["attempts"] = deliveries.c.attempts - 1
        return self._database.update(self._sending(delivery).values(waiting)) == 1

    def hold(self, destination: str, wait_seconds: float) -> None:
        """Puts off everything that waits for a destination that cannot be reached, until the wait is over."""
        waiting = (deliveries.c.state == DeliveryState.PENDING) | awaited()
        hold(self._database, (deliveries.c.destination == destination) & waiting, wait_seconds)

    def end(
        self,
        delivery: Delivery,
        state: DeliveryState,
        reason: str = "",
        *,
        transaction_uid: str | None = None,
        taken: Collection[str] = (),
    ) -> JobState:
        """Ends a claimed delivery: SENDING -> DELIVERED or FAILED; returns the job's state, which follows.

        Changes nothing if the claim is lost. After a failure the deliveries to the fallbacks start.

        Args:
            transaction_uid: given if the destination is to be asked for storage commitment, which is due at once.
            taken: names of files that arrived, which a retry need not send again.
        """
        ended: dict[str, Any] = {"state": state, "reason": reason, "taken": [*delivery.taken, *taken]}
        ended |= {"transaction_uid": transaction_uid, "next_try_at": self._database.now()}
        if transaction_uid:
            ended["attempts"] = 0  # from now on they count the questions
        with self._database.write() as connection:
            lock_job(connection, delivery.job_id)
            if connection.execute(self._sending(delivery).values(ended)).rowcount:
                if state is DeliveryState.FAILED:
                    start_fallbacks(connection, delivery.job_id, delivery.destination, self._database.now())
                follow_deliveries(connection, delivery.job_id, self._database.now())
        return self._jobs.get(delivery.job_id).state

    def free_lost_leases(self, max_deliveries: int) -> list[Delivery]:
        """Makes deliveries whose lease has run out PENDING, or FAILED after the last attempt; returns those FAILED."""
        now = self._database.now()
        silent = (deliveries.c.state == DeliveryState.SENDING) & (deliveries.c.lease_until < now)
        freed = sa.update(deliveries).where(silent).values(reason="the sender died or fell silent", next_try_at=now)
        self._database.update_returning(
            Delivery,
            freed.where(deliveries.c.attempts < max_deliveries).values(state=DeliveryState.PENDING),
        )
        failed = []
        for lost in self._database.select(Delivery, sa.select(deliveries).where(silent)):
            self.end(lost, DeliveryState.FAILED, "the sender died or fell silent")
            failed += [
                line
                for line in self.of_job(lost.job_id)
                if line.destination == lost.destination and line.state is DeliveryState.FAILED
            ]
        return failed

    def due(self, job_id: str | None = None) -> list[tuple[str, str]]:
        """Returns (job id, destination) of PENDING deliveries that are due, of one or all jobs, by priority and age."""
        query = self._due()
        return pairs(self._database, query if job_id is None else query.where(jobs.c.id == job_id))

    def next_due(self, destination: str, but_not: str) -> list[tuple[str, str]]:
        """Returns the first of `due` at a destination that is not of the job `but_not`; [] if there is none."""
        return pairs(self._database, first_at_destination(destination, but_not, self._due()))

    def _due(self) -> sa.Select[tuple[str, str]]:
        """Returns the query of `due`."""
        return (
            sa.select(deliveries.c.job_id, deliveries.c.destination)
            .join(jobs, jobs.c.id == deliveries.c.job_id)
            .where(deliveries.c.state == DeliveryState.PENDING, deliveries.c.next_try_at <= self._database.now())
            .where(jobs.c.state == JobState.SENDING, self._database.mine(jobs), ~overtakes())
            .order_by(jobs.c.priority, jobs.c.created_at, jobs.c.id, deliveries.c.destination)
        )

    def _sending(self, delivery: Delivery) -> sa.Update:
        """Returns the UPDATE by the sender that made claim `delivery.claims`; it changes nothing without the lease."""
        return (
            sa.update(deliveries)
            .where(deliveries.c.job_id == delivery.job_id, deliveries.c.destination == delivery.destination)
            .where(deliveries.c.state == DeliveryState.SENDING, deliveries.c.claims == delivery.claims)
        )


def overtakes() -> sa.ColumnElement[bool]:
    """Returns a condition: results that this delivery's supersede are still on their way to the same destination."""
    older, theirs = jobs.alias("older"), deliveries.alias("theirs")
    return (
        sa.select(theirs.c.job_id)
        .join(older, older.c.id == theirs.c.job_id)
        .where(older.c.superseded_by == deliveries.c.job_id, theirs.c.destination == deliveries.c.destination)
        .where(
            (older.c.state == JobState.SENDING) & theirs.c.state.in_(those(DeliveryState, lambda state: state.is_open))
            | (theirs.c.state == DeliveryState.SENDING)  # a worker is at it, although its job was cancelled
        )
        .correlate(deliveries)
        .exists()
    )


def hold(database: Database, waiting: sa.ColumnElement[bool], wait_seconds: float) -> None:
    """Puts the next attempt of these deliveries off until the wait is over."""
    later = database.now() + wait_seconds
    database.update(sa.update(deliveries).where(waiting, deliveries.c.next_try_at < later).values(next_try_at=later))


def pairs(database: Database, query: sa.Select[tuple[str, str]]) -> list[tuple[str, str]]:
    """Runs a query for (job id, destination)."""
    with database.read() as connection:
        return [(str(row.job_id), str(row.destination)) for row in connection.execute(query)]


def first_at_destination(
    destination: str, but_not: str, waiting: sa.Select[tuple[str, str]]
) -> sa.Select[tuple[str, str]]:
    """Narrows a query of waiting deliveries to the first at one destination that is not of the job `but_not`."""
    return waiting.where(deliveries.c.destination == destination, deliveries.c.job_id != but_not).limit(1)

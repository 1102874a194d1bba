"""Storage commitment: what destinations were asked to promise, and what they said (PS3.4 annex J).

A DELIVERED delivery with a transaction UID waits for a promise; `attempts` counts the questions. Each question has a
UID of its own, and a report counts only while its UID is the last one asked with.
"""

import sqlalchemy as sa

from worker.errors import UnknownJobError
from worker.ledger.database import Database
from worker.ledger.deliveries import hold, next_at, pairs
from worker.ledger.job_of_deliveries import awaited, follow_deliveries, lock_job, start_fallbacks
from worker.ledger.jobs import JobLedger
from worker.ledger.records import Delivery, Job
from worker.ledger.schema import deliveries, jobs
from worker.ledger.states import DeliveryState, JobState, those

NEVER = 1e12  # seconds since 1970: a time that does not come
GIVEN_UP = "stored, but it never answered the question for storage commitment; see whether it knows this node's address"


class CommitmentLedger:
    """Deliveries from DELIVERED to COMMITTED, or back to be sent again."""

    def __init__(self, database: Database, jobs: JobLedger) -> None:
        self._database, self._jobs = database, jobs

    def due(self) -> list[tuple[str, str]]:
        """(job id, destination) of deliveries whose destination is to be asked (again), the oldest first."""
        return pairs(self._database, self._to_ask())

    def next_due(self, destination: str, but_not: str) -> list[tuple[str, str]]:
        """The first of `due` at a destination that is of another job; [] if there is none."""
        return pairs(self._database, next_at(destination, but_not, self._to_ask()))

    def claim(self, job_id: str, destination: str, transaction_uid: str, wait_seconds: float) -> Delivery | None:
        """Counts a question under a new transaction UID before it is asked; None if it is not to be asked now.

        It is not asked again before `wait_seconds` are over, twice as long after every further question.
        """
        now = self._database.now()
        mine = (deliveries.c.job_id == job_id) & (deliveries.c.destination == destination)
        found = self._database.select(
            Delivery, sa.select(deliveries).where(mine, awaited(), deliveries.c.next_try_at <= now)
        )
        if not found:
            return None
        claimed = self._database.update_returning(
            Delivery,
            sa.update(deliveries)
            .where(mine, awaited(), deliveries.c.claims == found[0].claims)
            .values(
                transaction_uid=transaction_uid,
                attempts=deliveries.c.attempts + 1,
                claims=deliveries.c.claims + 1,
                next_try_at=now + wait_seconds * 2 ** found[0].attempts,
            ),
        )
        return claimed[0] if claimed else None

    def asked_with(self, transaction_uid: str) -> Delivery | None:
        """The delivery that waits for the answer to this question, if one does."""
        found = self._database.select(
            Delivery, sa.select(deliveries).where(awaited(), deliveries.c.transaction_uid == transaction_uid)
        )
        return found[0] if found else None

    def promised_by(self, transaction_uid: str) -> bool:
        """Whether the answer to this question was a promise."""
        promised = (deliveries.c.transaction_uid == transaction_uid) & (deliveries.c.state == DeliveryState.COMMITTED)
        return bool(self._database.select(Delivery, sa.select(deliveries).where(promised)))

    def committed(self, delivery: Delivery) -> bool:
        """DELIVERED -> COMMITTED; False if the question was not the last one."""
        return self._answered(delivery, DeliveryState.COMMITTED, "", self._database.now())

    def not_committed(self, delivery: Delivery, reason: str, wait_seconds: float, max_deliveries: int) -> bool:
        """DELIVERED -> PENDING, to be sent again after the wait; -> FAILED when that has not helped often enough."""
        spent = delivery.claims >= max_deliveries
        state = DeliveryState.FAILED if spent else DeliveryState.PENDING
        return self._answered(delivery, state, reason, self._database.now() + wait_seconds)

    def not_asked(self, delivery: Delivery, reason: str) -> None:
        """The question did not reach the destination, or was refused: why. It is asked again in its time."""
        self._database.update(_asked(delivery).values(reason=reason))

    def hold(self, destination: str, wait_seconds: float) -> None:
        """A destination that cannot be asked: nothing else is asked of it before the wait is over."""
        hold(self._database, (deliveries.c.destination == destination) & awaited(), wait_seconds)

    def give_up(self, max_questions: int) -> list[Delivery]:
        """Deliveries whose last question had no answer in its time: asked no more. Returns them; the jobs say why."""
        now = self._database.now()
        over = awaited() & (deliveries.c.attempts >= max_questions) & (deliveries.c.next_try_at <= now)
        reason = sa.case((deliveries.c.reason == "", GIVEN_UP), else_=deliveries.c.reason)
        ending = sa.update(deliveries).where(over).values(next_try_at=NEVER, reason=reason)
        ended = self._database.update_returning(Delivery, ending)
        for delivery in ended:
            with self._database.write() as connection:
                lock_job(connection, delivery.job_id)
                follow_deliveries(connection, delivery.job_id, self._database.now())
        return ended

    def ask_again(self, job_id: str) -> Job:
        """Asks the destinations of a DELIVERED job again that did not commit themselves.

        Raises:
            UnknownJobError: when no such job, or nobody is to be asked.
        """
        job = self._jobs.get(job_id)
        mine = (deliveries.c.job_id == job.id) & awaited()
        again = sa.update(deliveries).where(mine).values(attempts=0, reason="", next_try_at=self._database.now())
        if not self._database.update_returning(Delivery, again):
            raise UnknownJobError(f"job {job.id} is {job.state} and waits for no storage commitment")
        with self._database.write() as connection:
            lock_job(connection, job.id)
            follow_deliveries(connection, job.id, self._database.now())
        return self._jobs.get(job.id)

    def _to_ask(self) -> sa.Select[tuple[str, str]]:
        return (
            sa.select(deliveries.c.job_id, deliveries.c.destination)
            .join(jobs, jobs.c.id == deliveries.c.job_id)
            .where(awaited(), deliveries.c.next_try_at <= self._database.now())
            .where(jobs.c.state.in_(those(JobState, lambda state: state.follows_deliveries)))
            .order_by(deliveries.c.next_try_at, jobs.c.id)
        )

    def _answered(self, delivery: Delivery, state: DeliveryState, reason: str, next_try_at: float) -> bool:
        values = {"state": state, "reason": reason, "next_try_at": next_try_at}
        if state is not DeliveryState.COMMITTED:
            values |= {"transaction_uid": None, "attempts": delivery.claims, "taken": []}  # it does not keep them
        with self._database.write() as connection:
            lock_job(connection, delivery.job_id)
            if not connection.execute(_asked(delivery).values(values)).rowcount:
                return False
            if state is DeliveryState.FAILED:
                start_fallbacks(connection, delivery.job_id, delivery.destination, self._database.now())
            follow_deliveries(connection, delivery.job_id, self._database.now())
        return True


def _asked(delivery: Delivery) -> sa.Update:
    """The UPDATE that an answer to this very question may make."""
    return (
        sa.update(deliveries)
        .where(deliveries.c.job_id == delivery.job_id, deliveries.c.destination == delivery.destination)
        .where(awaited(), deliveries.c.transaction_uid == delivery.transaction_uid)
    )

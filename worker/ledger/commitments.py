"""Facts about storage commitment: what destinations were asked to promise, and what they said (PS3.4 annex J).

A DELIVERED delivery with a transaction UID waits for a promise; `attempts` counts the questions. Each question has a
UID of its own, and a report counts only while its UID is the last one asked with.
"""

import sqlalchemy as sa

from worker.errors import UnknownJobError
from worker.ledger.deliveries import DeliveryFacts, next_at
from worker.ledger.job_of_deliveries import awaited
from worker.ledger.records import Delivery, Job
from worker.ledger.schema import deliveries, jobs
from worker.ledger.states import DeliveryState, JobState

NEVER = 1e12  # seconds since 1970: a time that does not come
GIVEN_UP = "stored, but it never answered the question for storage commitment; see whether it knows this node's address"


class CommitmentFacts(DeliveryFacts):
    """Deliveries from DELIVERED to COMMITTED, or back to be sent again."""

    def to_commit(self) -> list[tuple[str, str]]:
        """(job id, destination) of deliveries whose destination is to be asked (again), the oldest first."""
        return self._ways(self._to_ask())

    def next_to_commit(self, destination: str, but_not: str) -> list[tuple[str, str]]:
        """The first of `to_commit` at a destination that is of another job; [] if there is none."""
        return self._ways(next_at(destination, but_not, self._to_ask()))

    def claim_commitment(
        self, job_id: str, destination: str, transaction_uid: str, wait_seconds: float
    ) -> Delivery | None:
        """Counts a question under a new transaction UID before it is asked; None if it is not to be asked now.

        It is not asked again before `wait_seconds` are over, twice as long after every further question.
        """
        now = self._clock()
        mine = (deliveries.c.job_id == job_id) & (deliveries.c.destination == destination)
        found = self._select(Delivery, sa.select(deliveries).where(mine, awaited(), deliveries.c.next_try_at <= now))
        if not found:
            return None
        claimed = self._change(
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
        found = self._select(
            Delivery, sa.select(deliveries).where(awaited(), deliveries.c.transaction_uid == transaction_uid)
        )
        return found[0] if found else None

    def promised_by(self, transaction_uid: str) -> bool:
        """Whether the answer to this question was a promise."""
        promised = (deliveries.c.transaction_uid == transaction_uid) & (deliveries.c.state == DeliveryState.COMMITTED)
        return bool(self._select(Delivery, sa.select(deliveries).where(promised)))

    def committed(self, delivery: Delivery) -> bool:
        """DELIVERED -> COMMITTED; False if the question was not the last one."""
        return self._answered(delivery, DeliveryState.COMMITTED, "", self._clock())

    def not_committed(self, delivery: Delivery, reason: str, wait_seconds: float, max_deliveries: int) -> bool:
        """DELIVERED -> PENDING, to be sent again after the wait; -> FAILED when that has not helped often enough."""
        spent = delivery.claims >= max_deliveries
        state = DeliveryState.FAILED if spent else DeliveryState.PENDING
        return self._answered(delivery, state, reason, self._clock() + wait_seconds)

    def not_asked(self, delivery: Delivery, reason: str) -> None:
        """The question did not reach the destination, or was refused: why. It is asked again in its time."""
        self._changed(_asked(delivery).values(reason=reason))

    def hold_questions(self, destination: str, wait_seconds: float) -> None:
        """A destination that cannot be asked: nothing else is asked of it before the wait is over."""
        self._hold((deliveries.c.destination == destination) & awaited(), wait_seconds)

    def give_up_commitments(self, max_questions: int) -> list[Delivery]:
        """Deliveries whose last question had no answer in its time: asked no more. Returns them; the jobs say why."""
        now = self._clock()
        over = awaited() & (deliveries.c.attempts >= max_questions) & (deliveries.c.next_try_at <= now)
        reason = sa.case((deliveries.c.reason == "", GIVEN_UP), else_=deliveries.c.reason)
        ended = self._change(Delivery, sa.update(deliveries).where(over).values(next_try_at=NEVER, reason=reason))
        for delivery in ended:
            with self._engine.begin() as connection:
                self._lock_job(connection, delivery.job_id)
                self._follow_deliveries(connection, delivery.job_id)
        return ended

    def ask_for_commitment_again(self, job_id: str) -> Job:
        """Asks the destinations of a DELIVERED job again that did not commit themselves.

        Raises:
            UnknownJobError: no such job, or nobody is to be asked.
        """
        job = self.job(job_id)
        mine = (deliveries.c.job_id == job.id) & awaited()
        again = sa.update(deliveries).where(mine).values(attempts=0, reason="", next_try_at=self._clock())
        if not self._change(Delivery, again):
            raise UnknownJobError(f"job {job.id} is {job.state} and waits for no storage commitment")
        with self._engine.begin() as connection:
            self._lock_job(connection, job.id)
            self._follow_deliveries(connection, job.id)
        return self.job(job.id)

    def _to_ask(self) -> sa.Select[tuple[str, str]]:
        return (
            sa.select(deliveries.c.job_id, deliveries.c.destination)
            .join(jobs, jobs.c.id == deliveries.c.job_id)
            .where(awaited(), deliveries.c.next_try_at <= self._clock())
            .where(jobs.c.state.in_([JobState.SENDING, JobState.DELIVERED]))
            .order_by(deliveries.c.next_try_at, jobs.c.id)
        )

    def _answered(self, delivery: Delivery, state: DeliveryState, reason: str, next_try_at: float) -> bool:
        values = {"state": state, "reason": reason, "next_try_at": next_try_at}
        if state is not DeliveryState.COMMITTED:
            values |= {"transaction_uid": None, "attempts": delivery.claims, "taken": []}  # it does not keep them
        with self._engine.begin() as connection:
            self._lock_job(connection, delivery.job_id)
            if not connection.execute(_asked(delivery).values(values)).rowcount:
                return False
            if state is DeliveryState.FAILED:
                self._stand_in(connection, delivery.job_id, delivery.destination)
            self._follow_deliveries(connection, delivery.job_id)
        return True


def _asked(delivery: Delivery) -> sa.Update:
    """The UPDATE that an answer to this very question may make."""
    return (
        sa.update(deliveries)
        .where(deliveries.c.job_id == delivery.job_id, deliveries.c.destination == delivery.destination)
        .where(awaited(), deliveries.c.transaction_uid == delivery.transaction_uid)
    )

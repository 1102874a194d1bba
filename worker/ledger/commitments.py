"""Storage commitment (PS3.4 annex J): which destinations to ask to keep the results, and what they answered.

A DELIVERED delivery with a transaction UID waits for a promise; its `attempts` count the questions. Each question has a
transaction UID of its own, and a report counts only while its UID is that of the last question.

Delivery workers claim questions and ask; the answer may reach a listener process instead. The end of a question and the
state of the job that follows are written in one transaction.
"""

import sqlalchemy as sa

from worker.errors import UnknownJobError
from worker.ledger.database import Database
from worker.ledger.deliveries import first_at_destination, hold, pairs
from worker.ledger.job_of_deliveries import awaited, follow_deliveries, lock_job, start_fallbacks
from worker.ledger.jobs import JobLedger
from worker.ledger.records import Delivery, Job
from worker.ledger.schema import deliveries, jobs
from worker.ledger.states import DeliveryState, JobState, those

NEVER = 1e12  # seconds since 1970, some 30,000 years from now: `next_try_at` of a question that is not asked again
GIVEN_UP = "stored, but it never answered the question for storage commitment; see whether it knows this node's address"


class CommitmentLedger:
    """Takes deliveries from DELIVERED to COMMITTED, or back to PENDING where the destination does not promise."""

    def __init__(self, database: Database, jobs: JobLedger) -> None:
        self._database, self._jobs = database, jobs

    def due(self) -> list[tuple[str, str]]:
        """Returns (job id, destination) of the deliveries whose question is due, those that wait longest first."""
        return pairs(self._database, self._to_ask())

    def next_due(self, destination: str, but_not: str) -> list[tuple[str, str]]:
        """Returns the first of `due` at a destination that is not of the job `but_not`; [] if there is none."""
        return pairs(self._database, first_at_destination(destination, but_not, self._to_ask()))

    def claim(self, job_id: str, destination: str, transaction_uid: str, wait_seconds: float) -> Delivery | None:
        """Counts a question under a new transaction UID, before it is asked; None if it is not due or another has it.

        The next question is due after `wait_seconds`, and after twice that wait with each further question.
        """
        now = self._database.now()
        here = sa.select(jobs.c.id).where(jobs.c.id == job_id, self._database.mine(jobs)).exists()
        mine = (deliveries.c.job_id == job_id) & (deliveries.c.destination == destination) & here
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
        """Returns the delivery whose last question has this transaction UID and no answer yet; None without one."""
        found = self._database.select(
            Delivery, sa.select(deliveries).where(awaited(), deliveries.c.transaction_uid == transaction_uid)
        )
        return found[0] if found else None

    def promised_by(self, transaction_uid: str) -> bool:
        """Whether the answer to this question was a promise."""
        promised = (deliveries.c.transaction_uid == transaction_uid) & (deliveries.c.state == DeliveryState.COMMITTED)
        return bool(self._database.select(Delivery, sa.select(deliveries).where(promised)))

    def committed(self, delivery: Delivery) -> bool:
        """Notes the promise: DELIVERED -> COMMITTED, and the job follows; False if it answers an older question."""
        return self._answered(delivery, DeliveryState.COMMITTED, "", self._database.now())

    def not_committed(self, delivery: Delivery, reason: str, wait_seconds: float, max_deliveries: int) -> bool:
        """Notes a refusal: DELIVERED -> PENDING, to be sent again after the wait; FAILED after `max_deliveries`.

        The job follows. All files are sent again, since the destination does not keep them. False if the question was
        not the last one.
        """
        spent = delivery.claims >= max_deliveries
        state = DeliveryState.FAILED if spent else DeliveryState.PENDING
        return self._answered(delivery, state, reason, self._database.now() + wait_seconds)

    def not_asked(self, delivery: Delivery, reason: str) -> None:
        """Notes why a question did not reach its destination, or was refused. It stays due as `claim` has set it."""
        self._database.update(_asked(delivery).values(reason=reason))

    def hold(self, destination: str, wait_seconds: float) -> None:
        """Puts off all questions to a destination that cannot be asked, until the wait is over."""
        hold(self._database, (deliveries.c.destination == destination) & awaited(), wait_seconds)

    def give_up(self, max_questions: int) -> list[Delivery]:
        """Ends the questions of deliveries that were asked `max_questions` times without an answer; returns these.

        They stay DELIVERED; the reason goes into the delivery and its job. The listener's sweep calls it.
        """
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
        """Makes the questions of a DELIVERED job due again, at the destinations that have not promised. `jobs retry`.

        Raises:
            UnknownJobError: when there is no such job, or none of its destinations is to be asked.
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
        """Returns the query of `due`."""
        return (
            sa.select(deliveries.c.job_id, deliveries.c.destination)
            .join(jobs, jobs.c.id == deliveries.c.job_id)
            .where(awaited(), deliveries.c.next_try_at <= self._database.now())
            .where(jobs.c.state.in_(those(JobState, lambda state: state.follows_deliveries)), self._database.mine(jobs))
            .order_by(deliveries.c.next_try_at, jobs.c.id)
        )

    def _answered(self, delivery: Delivery, state: DeliveryState, reason: str, next_try_at: float) -> bool:
        """Writes the answer to a delivery's last question; starts fallbacks after a failure, and the job follows."""
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
    """Returns the UPDATE of a delivery, which changes nothing once another question was asked."""
    return (
        sa.update(deliveries)
        .where(deliveries.c.job_id == delivery.job_id, deliveries.c.destination == delivery.destination)
        .where(awaited(), deliveries.c.transaction_uid == delivery.transaction_uid)
    )

"""Repairs deadlines that lie too far ahead after the system clock was set back.

Writes tables `series`, `jobs` and `deliveries`, in one transaction; the listener's sweep calls it.
"""

import sqlalchemy as sa

from worker.ledger.commitments import NEVER
from worker.ledger.database import Database
from worker.ledger.job_of_deliveries import awaited
from worker.ledger.schema import deliveries, jobs, series
from worker.ledger.series import is_unsettled
from worker.ledger.states import DeliveryState, JobState, those

SLACK_SECONDS = 60.0  # by which the clocks of several machines may differ


class LedgerClock:
    """The ledger's clock, and its repair after the system clock was set back."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def now(self) -> float:
        """Returns the time, in seconds since 1970-01-01 UTC."""
        return self._database.now()

    def repair(self, *, lease_seconds: float, longest_wait_seconds: float, commitment_wait_seconds: float) -> int:
        """Sets deadlines that lie further ahead than any wait to now; returns how many rows had one.

        Without this repair series would not settle, leases not run out and jobs not be tried again until the clock has
        come to where it was before. A minute is allowed for clocks of several machines that differ.

        Args:
            lease_seconds: length of the lease of a delivery.
            longest_wait_seconds: longest wait between two attempts at a delivery.
            commitment_wait_seconds: wait after the first question for storage commitment; doubled after each further.
        """
        now = self._database.now()
        late = now + SLACK_SECONDS
        # A job says when it was last written; its other times are moved back by as much as that one lies ahead.
        ahead = jobs.c.updated_at - now
        job_times = {"next_try_at": jobs.c.next_try_at - ahead, "lease_until": jobs.c.lease_until - ahead}
        doubled = sa.literal(1).op("<<")(deliveries.c.attempts)
        asked_until = late + commitment_wait_seconds * doubled
        pending, sending = deliveries.c.state == DeliveryState.PENDING, deliveries.c.state == DeliveryState.SENDING
        segmenting = jobs.c.state.in_(those(JobState, lambda state: state.awaits_segmentation))
        mended = [
            sa.update(series).where(is_unsettled(), series.c.last_at > late).values(last_at=now),
            sa.update(jobs).where(segmenting, jobs.c.updated_at > late).values(updated_at=now, **job_times),
            sa.update(deliveries)
            .where(pending, deliveries.c.next_try_at > late + longest_wait_seconds)
            .values(next_try_at=now),
            sa.update(deliveries)
            .where(sending, deliveries.c.lease_until > late + lease_seconds)
            .values(lease_until=now + lease_seconds),
            sa.update(deliveries)
            .where(awaited(), deliveries.c.next_try_at > asked_until, deliveries.c.next_try_at < NEVER)
            .values(next_try_at=now),
        ]
        with self._database.write() as connection:
            return sum(connection.execute(statement).rowcount for statement in mended)

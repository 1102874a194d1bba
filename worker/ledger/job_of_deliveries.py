"""How a job follows its deliveries: one state for all of them, and fallbacks that start when a destination failed."""

from collections.abc import Sequence

import sqlalchemy as sa

from worker.job_spec import JobSpec
from worker.ledger.jobs import JobFacts
from worker.ledger.routing import DeliveryStatus, verdict
from worker.ledger.schema import deliveries, jobs
from worker.ledger.states import DeliveryState, JobState


class Following(JobFacts):
    """What each change of a delivery does to its job, in the same transaction."""

    def _lock_job(self, connection: sa.Connection, job_id: str) -> None:
        """One at a time: of two last deliveries that end together, the second must see the first (PostgreSQL)."""
        connection.execute(sa.select(jobs.c.id).where(jobs.c.id == job_id).with_for_update())

    def _open_deliveries(self, connection: sa.Connection, job_id: str, destinations: Sequence[str]) -> None:
        """A PENDING delivery for each destination that has none yet; the job follows."""
        for destination in destinations:
            connection.execute(
                self._insert(deliveries).values(self._fresh(job_id, destination)).on_conflict_do_nothing()
            )
        self._follow_deliveries(connection, job_id)

    def _stand_in(self, connection: sa.Connection, job_id: str, failed: str) -> None:
        """Starts the deliveries to the fallbacks of a destination that FAILED for good.

        A fallback that gets results of its own gets them again with what is now missing: whoever is at that delivery
        loses the claim, because it does not know of the rest.
        """
        for route in self._work(connection, job_id).routes:
            if route.to != failed or route.fallback is None:
                continue
            fresh = self._fresh(job_id, route.fallback) | {"stands_in_for": failed}
            again = {name: fresh[name] for name in ("state", "stands_in_for", "attempts", "next_try_at", "reason")}
            connection.execute(
                self._insert(deliveries)
                .values(fresh)
                .on_conflict_do_update(
                    index_elements=["job_id", "destination"],
                    set_=again | {"claims": deliveries.c.claims + 1, "transaction_uid": None},
                    where=deliveries.c.state != DeliveryState.FAILED,
                )
            )

    def _follow_deliveries(self, connection: sa.Connection, job_id: str) -> None:
        """The job's state is what its deliveries make of it, unless it was cancelled meanwhile."""
        rows = connection.execute(sa.select(deliveries).where(deliveries.c.job_id == job_id)).all()
        statuses = {row.destination: DeliveryStatus(DeliveryState(row.state), row.reason) for row in rows}
        state, reason = verdict(self._work(connection, job_id).routes, statuses)
        connection.execute(
            sa.update(jobs)
            .where(jobs.c.id == job_id, jobs.c.state.in_([JobState.SENDING, JobState.DELIVERED]))
            .where((jobs.c.state != state) | (jobs.c.reason != reason))
            .values(state=state, reason=reason, updated_at=self._clock())
        )

    def _work(self, connection: sa.Connection, job_id: str) -> JobSpec:
        return JobSpec.model_validate(connection.scalar(sa.select(jobs.c.work).where(jobs.c.id == job_id)))

    def _fresh(self, job_id: str, destination: str) -> dict[str, object]:
        return {
            "job_id": job_id,
            "destination": destination,
            "state": DeliveryState.PENDING,
            "attempts": 0,
            "claims": 0,
            "reason": "",
            "next_try_at": self._clock(),
            "lease_until": 0.0,
            "transaction_uid": None,
            "stands_in_for": None,
            "taken": [],
        }


def awaited() -> sa.ColumnElement[bool]:
    """Deliveries whose destination was or will be asked for a promise and has not given it."""
    return (deliveries.c.state == DeliveryState.DELIVERED) & deliveries.c.transaction_uid.is_not(None)

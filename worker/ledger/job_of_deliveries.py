"""How a job follows its deliveries: one state for all of them, and fallbacks that start when a destination has failed.

Each function is part of a transaction that its caller has begun on tables `jobs` and `deliveries`. The caller locks the
job first (`lock_job`), changes a delivery, and calls `follow_deliveries` last. `now` is the ledger's time.
"""

from collections.abc import Sequence

import sqlalchemy as sa

from worker.job_spec import JobSpec
from worker.ledger.database import insert
from worker.ledger.routing import DeliveryStatus, verdict
from worker.ledger.schema import deliveries, jobs
from worker.ledger.states import DeliveryState, JobState, those


def lock_job(connection: sa.Connection, job_id: str) -> None:
    """Locks a job's row until the transaction ends (PostgreSQL; SQLite has one writer anyway).

    Where the last two deliveries of a job end at once, the second must see the first, or none would end the job.
    """
    connection.execute(sa.select(jobs.c.id).where(jobs.c.id == job_id).with_for_update())


def open_deliveries(connection: sa.Connection, job_id: str, destinations: Sequence[str], now: float) -> None:
    """Inserts a PENDING delivery for each destination that has none yet; the job follows."""
    for destination in destinations:
        row = _fresh(job_id, destination, now)
        connection.execute(insert(connection, deliveries).values(row).on_conflict_do_nothing())
    follow_deliveries(connection, job_id, now)


def start_fallbacks(connection: sa.Connection, job_id: str, failed: str, now: float) -> None:
    """Starts the deliveries to the fallbacks of a destination whose delivery has FAILED.

    A fallback that is a destination of its own has a delivery already. That one starts again, with the objects that
    have come in addition; a worker that is at it loses its claim, since it does not know of them.
    """
    for route in _spec_of(connection, job_id).routes:
        if route.to != failed or route.fallback is None:
            continue
        fresh = _fresh(job_id, route.fallback, now) | {"stands_in_for": failed}
        again = {name: fresh[name] for name in ("state", "stands_in_for", "attempts", "next_try_at", "reason")}
        connection.execute(
            insert(connection, deliveries)
            .values(fresh)
            .on_conflict_do_update(
                index_elements=["job_id", "destination"],
                set_=again | {"claims": deliveries.c.claims + 1, "transaction_uid": None},
                where=deliveries.c.state != DeliveryState.FAILED,
            )
        )


def retry_failed(connection: sa.Connection, job_id: str, now: float) -> None:
    """Makes the job's FAILED deliveries PENDING; deletes those of fallbacks: the destination itself is tried first."""
    failed = (deliveries.c.job_id == job_id) & (deliveries.c.state == DeliveryState.FAILED)
    connection.execute(sa.delete(deliveries).where(failed, deliveries.c.stands_in_for.is_not(None)))
    waiting = {"state": DeliveryState.PENDING, "attempts": 0, "reason": "", "next_try_at": now}
    connection.execute(sa.update(deliveries).where(failed).values(waiting))


def start_over(connection: sa.Connection, job_id: str, now: float) -> None:
    """Makes all deliveries of a job PENDING with nothing sent, those of fallbacks go; who is at one loses it."""
    mine = deliveries.c.job_id == job_id
    connection.execute(sa.delete(deliveries).where(mine, deliveries.c.stands_in_for.is_not(None)))
    again: dict[str, object] = {"state": DeliveryState.PENDING, "attempts": 0, "reason": "", "next_try_at": now}
    again |= {"taken": [], "transaction_uid": None, "claims": deliveries.c.claims + 1}
    connection.execute(sa.update(deliveries).where(mine).values(again))


def forget_taken(connection: sa.Connection, job_id: str) -> None:
    """Has every file of the job's PENDING deliveries sent again, also those that the destination took."""
    unsent = (deliveries.c.job_id == job_id) & (deliveries.c.state == DeliveryState.PENDING)
    connection.execute(sa.update(deliveries).where(unsent).values(taken=[]))


def has_deliveries(connection: sa.Connection, job_id: str) -> bool:
    """Whether the job has had deliveries, so that its results need no release any more."""
    return bool(connection.scalar(sa.select(sa.func.count()).where(deliveries.c.job_id == job_id)))


def follow_deliveries(connection: sa.Connection, job_id: str, now: float) -> None:
    """Gives a job the state and reason that follow from its deliveries, unless it was cancelled meanwhile."""
    rows = connection.execute(sa.select(deliveries).where(deliveries.c.job_id == job_id)).all()
    statuses = {row.destination: DeliveryStatus(DeliveryState(row.state), row.reason) for row in rows}
    state, reason = verdict(_spec_of(connection, job_id).routes, statuses)
    connection.execute(
        sa.update(jobs)
        .where(jobs.c.id == job_id, jobs.c.state.in_(those(JobState, lambda state: state.follows_deliveries)))
        .where((jobs.c.state != state) | (jobs.c.reason != reason))
        .values(state=state, reason=reason, updated_at=now)
    )


def awaited() -> sa.ColumnElement[bool]:
    """Returns a condition: DELIVERED, with storage commitment asked for and not yet given."""
    return (deliveries.c.state == DeliveryState.DELIVERED) & deliveries.c.transaction_uid.is_not(None)


def _spec_of(connection: sa.Connection, job_id: str) -> JobSpec:
    """Returns the specification of a job."""
    return JobSpec.model_validate(connection.scalar(sa.select(jobs.c.work).where(jobs.c.id == job_id)))


def _fresh(job_id: str, destination: str, now: float) -> dict[str, object]:
    """Returns the row of a new delivery, due now."""
    return {
        "job_id": job_id,
        "destination": destination,
        "state": DeliveryState.PENDING,
        "attempts": 0,
        "claims": 0,
        "reason": "",
        "next_try_at": now,
        "lease_until": 0.0,
        "transaction_uid": None,
        "stands_in_for": None,
        "taken": [],
    }

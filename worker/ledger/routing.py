"""Routing: which objects go to which destination, which fallback replaces a failed one, and the job state that follows.

Pure functions. The ledger and the delivery worker both call them, so that they agree.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from worker.job_spec import JobSpec, Route
from worker.ledger.states import DeliveryState, JobState
from worker.result import Result, ResultObject


@dataclass(frozen=True)
class DeliveryStatus:
    """The state of a job's results at one destination, with the reason."""

    state: DeliveryState
    reason: str


def destinations(spec: JobSpec, result: Result | None) -> list[str]:
    """Returns the destinations that get an object of this result, each once; none in shadow mode or without result."""
    if spec.shadow or result is None:
        return []
    return list(dict.fromkeys(route.to for route in spec.routes if any(_takes(route, one) for one in result.objects)))


def objects_for(
    spec: JobSpec, result: Result | None, destination: str, failed: Collection[str] = ()
) -> list[ResultObject]:
    """Returns the objects that go to `destination`, by its own routes and as fallback of destinations that `failed`."""
    routes = [
        route
        for route in spec.routes
        if route.to == destination or (route.fallback == destination and route.to in failed)
    ]
    made = result.objects if result else ()
    return [one for one in made if any(_takes(route, one) for route in routes)]


def verdict(routes: Sequence[Route], statuses: Mapping[str, DeliveryStatus]) -> tuple[JobState, str]:
    """Returns the state of a job with these deliveries, and the reason. `statuses` are by destination.

    SENDING while one is open. Then a route has succeeded when its destination, or else its fallback, has taken the
    objects; one that has not makes the job FAILED. COMMITTED when every destination that counts has promised to keep
    them, else DELIVERED.
    """
    if any(status.state.is_open for status in statuses.values()):
        return JobState.SENDING, ""
    refused, instead, counts = [], [], []
    for route in routes:
        status = statuses.get(route.to)
        if status is None:  # nothing of the job goes there
            continue
        if status.state is DeliveryState.FAILED:
            other = statuses.get(route.fallback) if route.fallback else None
            if other is None or not other.state.is_delivered:
                refused.append(f"{route.to}: {status.reason}")
                if other is not None:
                    refused.append(f"{route.fallback}, its fallback: {other.reason}")
                continue
            instead.append(f"delivered to {route.fallback} instead of {route.to}: {status.reason}")
            status = other
        counts.append(status)
    if refused:
        return JobState.FAILED, "; ".join(dict.fromkeys(refused))
    committed = bool(counts) and all(status.state is DeliveryState.COMMITTED for status in counts)
    waiting = [status.reason for status in counts if status.reason]
    return JobState.COMMITTED if committed else JobState.DELIVERED, "; ".join(dict.fromkeys(instead + waiting))


def _takes(route: Route, one: ResultObject) -> bool:
    """Whether a route takes an object; without `outputs` it takes every one."""
    return route.outputs is None or one.kind in route.outputs

"""Which objects of a job go to which destination, who stands in for one that is not to be had, and what that makes of
the job. Pure: the ledger and the sender both ask here, so that they agree.
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from worker.job_spec import JobSpec, Output, Route
from worker.ledger.states import DeliveryState, JobState

OPEN = (DeliveryState.PENDING, DeliveryState.SENDING)
TAKEN = (DeliveryState.DELIVERED, DeliveryState.COMMITTED)


@dataclass(frozen=True)
class DeliveryStatus:
    """Where the results stand at one destination."""

    state: DeliveryState
    reason: str


def destinations(spec: JobSpec, files: Iterable[str]) -> list[str]:
    """The destinations that get something of these result files, each once; none for work in the shadow."""
    if spec.shadow:
        return []
    names = list(files)
    return list(dict.fromkeys(route.to for route in spec.routes if _taken(route.outputs, names)))


def objects_for(spec: JobSpec, files: Iterable[str], destination: str, failed: Collection[str] = ()) -> list[str]:
    """The files that go to `destination`: by its own routes, and by those whose fallback it is and that `failed`."""
    names = list(files)
    wanted: set[str] = set()
    for route in spec.routes:
        if route.to == destination or (route.fallback == destination and route.to in failed):
            wanted |= _taken(route.outputs, names)
    return [name for name in names if name in wanted]


def verdict(routes: Sequence[Route], statuses: Mapping[str, DeliveryStatus]) -> tuple[JobState, str]:
    """The state of a job whose results stand so, and why.

    A route has done its work when its destination or else its fallback has taken the objects. The job is COMMITTED when
    every one that counts has promised to keep them.
    """
    if any(status.state in OPEN for status in statuses.values()):
        return JobState.SENDING, ""
    refused, instead, counts = [], [], []
    for route in routes:
        status = statuses.get(route.to)
        if status is None:  # nothing of the job goes there
            continue
        if status.state is DeliveryState.FAILED:
            other = statuses.get(route.fallback) if route.fallback else None
            if other is None or other.state not in TAKEN:
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


def _taken(outputs: tuple[Output, ...] | None, names: Iterable[str]) -> set[str]:
    """The DICOM objects among the files that are of these kinds; a file's name begins with its kind."""
    objects = {name for name in names if name.endswith(".dcm")}
    return objects if outputs is None else {name for name in objects if _kind(name) in outputs}


def _kind(name: str) -> str:
    return re.split(r"[^a-z]", name, maxsplit=1)[0]

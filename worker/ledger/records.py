"""The rows of the ledger as values. Times are seconds since 1970-01-01 UTC."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from dicom_node.uids import SeriesKey
from worker.job_spec import JobSpec
from worker.ledger.states import DeliveryState, JobState, SeriesState
from worker.result import Result

Record = TypeVar("Record")


@dataclass(frozen=True)
class Series:
    """A received series."""

    study_uid: str
    series_uid: str
    state: SeriesState
    calling_ae: str
    called_ae: str
    address: str
    first_at: float
    last_at: float
    full_with: int = 0  # how many images it had when it was last proved full; 0: never

    @property
    def series_key(self) -> SeriesKey:
        """The UIDs of its study and series."""
        return SeriesKey(self.study_uid, self.series_uid)


@dataclass(frozen=True)
class Job:
    """A job as the ledger knows it."""

    id: str
    study_uid: str
    series_uid: str
    protocol: str
    spec: JobSpec
    state: JobState
    attempts: int
    claims: int
    reason: str
    result: Result | None  # None: none yet
    created_at: float
    updated_at: float
    next_try_at: float
    lease_until: float
    superseded_by: str | None
    priority: int
    cleaned_at: float | None

    @property
    def series_key(self) -> SeriesKey:
        """The UIDs of its study and series."""
        return SeriesKey(self.study_uid, self.series_uid)


@dataclass(frozen=True)
class Delivery:
    """One job's results on their way to one destination."""

    job_id: str
    destination: str
    state: DeliveryState
    attempts: int
    claims: int
    reason: str
    next_try_at: float
    lease_until: float
    transaction_uid: str | None
    stands_in_for: str | None
    taken: list[str]  # files that the destination took while it refused others


@dataclass(frozen=True)
class Decision:
    """Why a protocol took a series or did not."""

    study_uid: str
    series_uid: str
    protocol: str
    taken: bool
    reason: str
    conditions: Sequence[Mapping[str, Any]]
    at: float


@dataclass(frozen=True)
class Report:
    """A radiology report on the disk."""

    id: str
    study_uid: str | None
    accession: str | None
    source: str
    path: str
    received_at: float
    read_at: float | None


def _result(facts: Mapping[str, Any]) -> Result | None:
    return Result.model_validate(facts) if facts else None


_READ_AS: Mapping[type, Mapping[str, Callable[[Any], Any]]] = {
    Series: {"state": SeriesState},
    Job: {"state": JobState, "work": JobSpec.model_validate, "result": _result},
    Delivery: {"state": DeliveryState},
}


def as_record(kind: type[Record], row: Mapping[Any, Any]) -> Record:
    """The row of a table as a value of its class, whose fields are named as the columns; `work` is a job's `spec`."""
    read_as = _READ_AS.get(kind, {})
    values = {name: read_as[name](value) if name in read_as else value for name, value in row.items()}
    if kind is Job:
        values["spec"] = values.pop("work")
    return kind(**values)

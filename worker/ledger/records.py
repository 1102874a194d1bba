"""The rows of the ledger as values. Times are seconds since 1970-01-01 UTC.

Fields are named as the columns of `schema`, which explains them. A record is a copy: it does not change when the row
does, and passing one back (`jobs.renew(job, ...)`) names the claim that it was read with.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from dicom_node.origin import Origin
from dicom_node.uids import SeriesKey
from worker.findings import VolumeFindings
from worker.job_spec import JobSpec
from worker.ledger.archive_states import EntryState, RunState, StudyOutcome, WindowState
from worker.ledger.states import DeliveryState, JobState, SeriesState
from worker.result import Result

Record = TypeVar("Record")


@dataclass(frozen=True)
class Series:
    """A received series, with the sender of its last association."""

    study_uid: str
    series_uid: str
    state: SeriesState
    calling_ae: str
    called_ae: str
    address: str
    first_at: float
    last_at: float
    full_with: int = 0  # how many images it had when it was last proved complete; 0: never
    looks: int = 0  # at its headers, in a row, that did not come to their end
    reason: str = ""  # why it is UNREADABLE
    store_id: str | None = None  # that holds its images; None: any

    @property
    def series_key(self) -> SeriesKey:
        """The UIDs of its study and series."""
        return SeriesKey(self.study_uid, self.series_uid)

    @property
    def origin(self) -> Origin:
        """Who sent it: the last association or request that brought an image of it."""
        return Origin(self.calling_ae, self.called_ae, self.address)


@dataclass(frozen=True)
class StoreSeen:
    """A store that uses the ledger."""

    id: str
    host: str
    seen_at: float  # when its listener was last at work


@dataclass(frozen=True)
class Job:
    """A job: its specification, its state and reason, its claim and lease, and its result."""

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
    store_id: str | None = None  # that holds its images and results; None: any

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
class StudyFacts:
    """What people know a study by, as its headers say; "" where that is empty or not kept."""

    patient_id: str = ""
    patient_name: str = ""
    accession_number: str = ""
    study_date: str = ""  # YYYYMMDD
    description: str = ""


@dataclass(frozen=True)
class Decision:
    """Why a protocol took a series or did not: its findings on each volume, and the sentence that follows from them."""

    study_uid: str
    series_uid: str
    protocol: str
    taken: bool
    reason: str
    volumes: tuple[VolumeFindings, ...]  # empty in decisions of the first version, which kept the reason alone
    at: float

    def json_facts(self) -> dict[str, Any]:
        """Returns the decision as JSON values, with the findings in one list `conditions`."""
        conditions = [
            asdict(finding) | ({"volume": one.volume} if one.volume else {})
            for one in self.volumes
            for finding in one.findings
        ]
        facts = {name: value for name, value in asdict(self).items() if name != "volumes"}
        return facts | {"conditions": conditions}


@dataclass(frozen=True)
class Report:
    """A radiology report on the disk; `id` is a digest of its bytes and links."""

    id: str
    study_uid: str | None
    accession: str | None
    source: str
    path: str
    received_at: float
    read_at: float | None


@dataclass(frozen=True)
class Run:
    """An archive run: where its studies come from, and what is to become of them."""

    id: str
    name: str
    source: Mapping[str, Any]
    filters: Mapping[str, Any]
    limits: Mapping[str, Any]
    protocols: Mapping[str, str]  # their digests, by name
    outputs: Mapping[str, Any]
    state: RunState
    reason: str
    created_at: float
    started_at: float | None
    ended_at: float | None
    store_id: str | None = None  # that its studies are fetched to; None: any


@dataclass(frozen=True)
class ListingWindow:
    """A part of a run's listing: the studies from one date and time to another, with further keys of the query."""

    run_id: str
    lo: str  # YYYYMMDDHHMMSS
    hi: str
    keys: str  # JSON with sorted keys
    state: WindowState
    matches: int
    reason: str
    attempts: int
    next_try_at: float


@dataclass(frozen=True)
class Entry:
    """One study of a run: what the source says of it, how far it has come, and how it ended."""

    run_id: str
    study_uid: str
    accession: str
    study_date: str
    modalities: str  # separated by backslashes, as in Modalities in Study
    series: list[Mapping[str, Any]]
    images_expected: int | None  # None: the source does not count them
    source_ref: str  # the folder or member of an archive that it lies in
    state: EntryState
    reason: str
    attempts: int
    claims: int
    lease_until: float
    next_try_at: float
    images: int
    bytes: int
    fetch_s: float | None
    listed_at: float
    fetched_at: float | None
    ended_at: float | None
    outcome: StudyOutcome | None
    outcome_detail: Mapping[str, Any]


def _outcome(text: str | None) -> StudyOutcome | None:
    return None if text is None else StudyOutcome(text)


def _result(facts: Mapping[str, Any]) -> Result | None:
    """Reads the result in a job's column; None where it is empty."""
    return Result.model_validate(facts) if facts else None


_READ_AS: Mapping[type, Mapping[str, Callable[[Any], Any]]] = {
    Series: {"state": SeriesState},
    Job: {"state": JobState, "work": JobSpec.model_validate, "result": _result},
    Delivery: {"state": DeliveryState},
    Run: {"state": RunState},
    ListingWindow: {"state": WindowState},
    Entry: {"state": EntryState, "outcome": _outcome},
}


def as_record(kind: type[Record], row: Mapping[Any, Any]) -> Record:
    """Returns the row of a table as a record of this kind; a job's column `work` becomes its `spec`."""
    read_as = _READ_AS.get(kind, {})
    values = {name: read_as[name](value) if name in read_as else value for name, value in row.items()}
    if kind is Job:
        values["spec"] = values.pop("work")
    return kind(**values)

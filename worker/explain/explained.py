"""What is told of a study: each protocol's answer to each of its series, jobs, and hints. One form for all sources.

A dry run of a folder or of a PACS's list fills it with what the protocols say now, the history of a study that was sent
here with what they said then. `facts` is the one JSON form of `protocols explain`.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from worker.explain.plain_words import sentence
from worker.findings import Answer, VolumeFindings
from worker.ledger import Decision, Delivery, Job, Series, StudyFacts


@dataclass(frozen=True)
class ProtocolAnswer:
    """What one protocol says to a series, or said at a time."""

    protocol: str
    taken: Answer  # None: it cannot be known yet
    volumes: tuple[VolumeFindings, ...]
    reason: str  # in the words of the protocol's file
    at: float | None = None  # seconds since 1970-01-01 UTC; None in a dry run

    @property
    def sentence(self) -> str:
        """One line in plain words: "lungs does not take it: Modality is MR, not CT"."""
        if not self.volumes and self.reason:  # a decision of the first version kept the reason alone
            return f"{sentence(self.protocol, self.taken, (), past=True)}: {self.reason}"
        return sentence(self.protocol, self.taken, self.volumes, past=self.at is not None)

    def facts(self) -> dict[str, Any]:
        """Returns the answer as JSON values, with the findings in one list `conditions`."""
        conditions = [
            asdict(finding) | ({"volume": one.volume} if one.volume else {})
            for one in self.volumes
            for finding in one.findings
        ]
        facts = {"protocol": self.protocol, "taken": self.taken, "sentence": self.sentence, "reason": self.reason}
        return facts | {"at": self.at, "conditions": conditions}


@dataclass(frozen=True)
class JobHistory:
    """A job, its deliveries, and one sentence on both."""

    job: Job
    deliveries: tuple[Delivery, ...]
    sentence: str

    def facts(self) -> dict[str, Any]:
        """Returns the job as JSON values, without its whole specification."""
        job = self.job
        facts: dict[str, Any] = {"id": job.id, "protocol": job.protocol, "volume": job.spec.volume, "state": job.state}
        facts |= {"reason": job.reason, "attempts": job.attempts, "superseded_by": job.superseded_by}
        return facts | {"sentence": self.sentence, "deliveries": [asdict(one) for one in self.deliveries]}


@dataclass(frozen=True)
class ExplainedSeries:
    """A series, what each protocol says to it, and its jobs."""

    study_uid: str
    series_uid: str
    description: str  # what people call it; "" where only the ledger is asked
    images: int | None  # files in the folder or store, or instances in a PACS; None where it does not say
    decisions: tuple[ProtocolAnswer, ...]
    sentence: str = ""  # who sent it, and whether it is complete
    jobs: tuple[JobHistory, ...] = ()
    not_asked: tuple[str, ...] = ()  # protocols in force now that have not judged it
    arrived: Series | None = None  # as the ledger knows it; None in a dry run

    def facts(self) -> dict[str, Any]:
        """Returns the series as JSON values; what the ledger alone knows is null in a dry run."""
        known = asdict(self.arrived) if self.arrived else {field.name: None for field in fields(Series)}
        return known | {
            "study_uid": self.study_uid,
            "series_uid": self.series_uid,
            "description": self.description,
            "images": self.images,
            "sentence": self.sentence,
            "decisions": [one.facts() for one in self.decisions],
            "not_asked": list(self.not_asked),
            "jobs": [one.facts() for one in self.jobs],
        }


@dataclass(frozen=True)
class ExplainedStudy:
    """One study; `hints` are sentences on what else to look at."""

    study_uid: str
    about: StudyFacts
    summary: str
    series: tuple[ExplainedSeries, ...]
    hints: tuple[str, ...] = ()

    def facts(self) -> dict[str, Any]:
        """Returns the study as JSON values: the one form of `protocols explain --json`."""
        facts: dict[str, Any] = {"study_uid": self.study_uid} | asdict(self.about)
        facts |= {"summary": self.summary, "hints": list(self.hints)}
        return facts | {"series": [one.facts() for one in self.series]}


def decided(decisions: Sequence[Decision]) -> tuple[ProtocolAnswer, ...]:
    """Returns decisions of the ledger as answers."""
    return tuple(ProtocolAnswer(one.protocol, one.taken, one.volumes, one.reason, one.at) for one in decisions)


def summary_of(series: Sequence[ExplainedSeries]) -> str:
    """Returns one sentence on what protocols take of a study in a dry run."""
    takers = dict.fromkeys(one.protocol for each in series for one in each.decisions if one.taken)
    maybe = dict.fromkeys(one.protocol for each in series for one in each.decisions if one.taken is None)
    maybe = {name: None for name in maybe if name not in takers}
    parts = [f"{', '.join(takers)} would take it" if takers else "no protocol takes it"]
    if maybe:
        parts = [parts[0]] if takers else []
        parts.append(f"{', '.join(maybe)} may take it")
    return f"{len(series)} series: {'; '.join(parts)}"

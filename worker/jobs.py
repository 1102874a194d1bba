"""What a job is to do, as it stands in the ledger: enough to run it again on any machine."""

import hashlib
import json
from collections.abc import Sequence
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field

Output = Literal["seg", "rtstruct", "sr", "nifti"]


class Prompt(BaseModel):
    """One thing to segment."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    text: str  # what the network reads
    name: str | None = Field(None, min_length=1, max_length=64)  # label in the results, if not the text
    sentence: str | None = None  # the report's sentence that asked for it

    @property
    def label(self) -> str:
        """The name people see."""
        return self.name or self.text


class Work(BaseModel):
    """One series, one protocol: everything that decides what the result is."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    study_uid: str
    series_uid: str
    instances: tuple[str, ...]  # SOP Instance UIDs, sorted
    protocol: str
    protocol_digest: str
    prompts: tuple[Prompt, ...]
    model: str | None
    outputs: tuple[Output, ...] = ("seg",)
    destinations: tuple[str, ...] = ()

    @classmethod
    def of(cls, *, instances: Sequence[str], **facts: object) -> Self:
        """The work on these instances, in an order that does not depend on how they arrived."""
        return cls(instances=tuple(sorted(instances)), **facts)

    @property
    def job_id(self) -> str:
        """16 hexadecimal digits of the SHA-256 of the work: the same work is the same job, changed input a new one.

        Destinations do not count: they change where a result goes, not what it is.
        """
        facts = self.model_dump(mode="json", exclude={"destinations"})
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]

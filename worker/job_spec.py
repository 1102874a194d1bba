"""What a job is to do, as it stands in the ledger: enough to run it again on any machine."""

from collections.abc import Sequence
from enum import IntEnum
from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from dicom_node.uids import SeriesKey
from worker.identity import deciding_facts, digest_of

Output = Literal["seg", "rtstruct", "sr", "preview", "nifti"]
Name = Annotated[str, Field(min_length=1, max_length=64)]
"""What people call a structure in the results (PS3.5 6.2, VR LO)."""


class Frozen(BaseModel):
    """A value: compared by content, never changed, no field that is not named here."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Finish(Frozen):
    """What is done to a mask after the network, in this order. Everything is off unless it is asked for."""

    crop_to: Name | None = None  # only inside this other structure of the protocol
    largest_component: bool = False  # 26-connected
    min_volume_ml: float = Field(0.0, ge=0)  # smaller components are removed
    fill_holes: bool = False  # cavities that are closed on their axial slice
    smooth_mm: float = Field(0.0, ge=0, le=20)  # Gaussian of this deviation in millimetres, cut at one half


class Plausible(Frozen):
    """What a found mask should be. What is not so marks the result for review; it never hides it."""

    volume_ml: tuple[float, float] | None = None  # least and most
    left_of: Name | None = None  # its centroid lies to the patient's left of that structure's
    right_of: Name | None = None
    inside_view: bool = False  # it does not touch the border of the scanned volume


class Prompt(Frozen):
    """One thing to segment."""

    text: str  # what the network reads
    name: Name | None = None  # label in the results, if not the text
    code: str | None = None  # SNOMED CT concept id, where the table of regions has none or another
    tg263: str | None = None  # AAPM TG-263 name, for RTSTRUCT
    colour: tuple[int, int, int] | None = None  # RGB, 0 to 255
    roi_type: str | None = None  # RT ROI Interpreted Type (PS3.3 C.8.8.8), such as ORGAN
    finish: Finish = Finish()
    expect: Plausible = Plausible()
    sentence: str | None = None  # the report's sentence that asked for it

    @property
    def label(self) -> str:
        """The name people see."""
        return self.name or self.text


class Derived(Frozen):
    """A structure made of others: first the union, then the intersection, then the subtraction, then the margin."""

    name: Name
    union: tuple[Name, ...] = ()
    intersect: tuple[Name, ...] = ()
    subtract: tuple[Name, ...] = ()
    margin_mm: float = Field(0.0, ge=-50, le=100)  # negative: shrunk
    tg263: str | None = None
    colour: tuple[int, int, int] | None = None
    roi_type: str | None = None
    empty: bool = False  # a placeholder in the RTSTRUCT for a person to draw; made of nothing


class EngineOptions(Frozen):
    """Settings of the engine that a protocol changes, named as the node's; None: as the node has it."""

    exact: bool = False  # without the node's shortcuts; those named here are taken all the same
    early_exit: float | None = Field(None, ge=0)
    skip_below: float | None = None
    coarse_first: float | None = Field(None, ge=0)
    resample: bool | None = None
    resample_tilt: bool | None = None


class Priority(IntEnum):
    """Smaller goes first. In protocols by name: urgent, routine, archive."""

    URGENT = 0
    ROUTINE = 1
    ARCHIVE = 2

    @classmethod
    def named(cls, value: object) -> object:
        """The priority that a protocol names; other values pass on to be judged."""
        return cls[value.upper()] if isinstance(value, str) and value.upper() in cls.__members__ else value


class Route(Frozen):
    """Where results go, and what of them."""

    to: str  # name of a destination in the settings
    outputs: tuple[Output, ...] | None = None  # None: every DICOM object that the job makes
    fallback: str | None = None  # the destination that gets them if `to` refuses or never answers


class JobSpec(Frozen):
    """One volume, one protocol: everything that decides what the result is."""

    study_uid: str
    series_uid: str
    volume: str | None = None  # which volume of a series that holds several (phase, echo, b-value); None: the only one
    instances: tuple[str, ...]  # SOP Instance UIDs, sorted
    frames: str | None = None  # digest of the frames, where a multi-frame image holds frames of other volumes, too
    protocol: str
    protocol_digest: str
    prompts: tuple[Prompt, ...]
    derived: tuple[Derived, ...] = ()
    model: str | None
    engine: EngineOptions = EngineOptions()
    outputs: tuple[Output, ...] = ("seg",)
    holes: Literal["keyhole", "xor"] = "keyhole"  # how RTSTRUCT contours say that a structure has a hole

    # How and when, not what: these do not change the job's identity.
    routes: tuple[Route, ...] = ()
    priority: Annotated[Priority, BeforeValidator(Priority.named)] = Priority.ROUTINE
    window: tuple[str, str] | None = None  # local time of day from and to, "22:00", "06:00": only then it is started
    release: bool = False  # a person must release the result before it is sent
    shadow: bool = False  # processed, never sent

    @classmethod
    def of(cls, *, instances: Sequence[str], **facts: object) -> Self:
        """The work on these instances, in an order that does not depend on how they arrived."""
        return cls(instances=tuple(sorted(instances)), **facts)

    @property
    def series_key(self) -> SeriesKey:
        """The UIDs of its study and series."""
        return SeriesKey(self.study_uid, self.series_uid)

    @property
    def job_id(self) -> str:
        """16 hexadecimal digits of what the job is made of (`worker.identity`): the same work is the same job.

        A job that is in a ledger keeps the id it has there; see `same_work`.
        """
        return digest_of(deciding_facts(self, CIRCUMSTANCES))

    def same_work(self, older: Self) -> bool:
        """Whether a job that is in the ledger, under whatever id, does this work already."""
        if self.frames and not older.frames:  # written when volumes of one file were told apart by their names alone
            return self.volume == older.volume and self.model_copy(update={"frames": None}).job_id == older.job_id
        return self.job_id == older.job_id


CIRCUMSTANCES: Final = dict.fromkeys(("volume", "routes", "priority", "window", "release", "shadow"), True)
"""What a volume is called, and what changes where and when a result goes: nothing of what it is."""

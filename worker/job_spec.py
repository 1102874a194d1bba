"""The specification of a job: what to segment, in which images, with which model, and where the results go.

The intake makes it from a protocol and a volume (`worker.selection.select.spec_of`), the ledger keeps it as JSON, and
the segmentation worker runs it. It holds all that is needed to do the same work again on another machine with the same
images and model. Protocols use the same classes for their fields, so the field names are keys of protocol files.

A field added here needs a default that means what the program did before (`worker.identity`).
"""

from collections.abc import Sequence
from enum import IntEnum
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from dicom_node.uids import SeriesKey
from worker.identity import deciding_facts, digest_of

Output = Literal["seg", "rtstruct", "sr", "preview", "nifti"]
Name = Annotated[str, Field(min_length=1, max_length=64)]
"""The name of a structure in the results, at most 64 characters (PS3.5 6.2, VR LO)."""


def _one_short_line(value: str) -> str:
    """Refuses what VR SH cannot hold (PS3.5 6.2)."""
    if not 0 < len(value.strip()) <= len(value) <= 16 or not value.isprintable() or "\\" in value:
        raise ValueError("give 1 to 16 characters on one line, without backslash (VR SH)")
    return value


SetLabel = Annotated[str, AfterValidator(_one_short_line)]
"""A Structure Set Label, as planning systems list it (PS3.3 C.8.8.5)."""


class Frozen(BaseModel):
    """A value that is compared by content and never changed. An unknown field is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Finish(Frozen):
    """The post-processing of a mask after the network, in the order of these fields. Everything is off by default."""

    crop_to: Name | None = None  # only inside this other structure of the protocol
    largest_component: bool = False  # 26-connected
    min_volume_ml: float = Field(0.0, ge=0)  # smaller components are removed
    fill_holes: bool = False  # cavities that are closed on their axial slice
    smooth_mm: float = Field(0.0, ge=0, le=20)  # Gaussian of this deviation in millimetres, cut at one half


class Plausible(Frozen):
    """What a found mask should be like. A mask that is not marks the result for review; it is never hidden."""

    volume_ml: tuple[float, float] | None = None  # least and most
    left_of: Name | None = None  # its centroid lies to the patient's left of that structure's
    right_of: Name | None = None
    inside_view: bool = False  # it does not touch the border of the scanned volume


class Prompt(Frozen):
    """One thing to segment: the text that the network reads, and what becomes of its mask."""

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
        """The name that people see in results."""
        return self.name or self.text


class Derived(Frozen):
    """A structure made of finished ones: first the union, then the intersection, the subtraction and the margin.

    A ring of 5 mm around a target takes two of them: `{name: grown, union: [target], margin_mm: 5}` and
    `{name: ring, union: [grown], subtract: [target]}`.
    """

    name: Name
    union: tuple[Name, ...] = ()
    intersect: tuple[Name, ...] = ()
    subtract: tuple[Name, ...] = ()
    margin_mm: float = Field(0.0, ge=-50, le=100)  # negative: shrunk
    tg263: str | None = None
    colour: tuple[int, int, int] | None = None
    roi_type: str | None = None
    empty: bool = False  # a placeholder in the RTSTRUCT for a person to draw; made of nothing
    body: bool = False  # the patient's outline, found in the image by its values; made of nothing else


class EngineOptions(Frozen):
    """Settings of the engine that a protocol changes. They have the names of the node's settings; None keeps those."""

    exact: bool = False  # without the node's shortcuts; those named here are taken all the same
    early_exit: float | None = Field(None, ge=0)
    skip_below: float | None = None
    coarse_first: float | None = Field(None, ge=0)
    resample: bool | None = None
    resample_tilt: bool | None = None
    resample_spacing: bool = False  # takes volumes whose spacing changes by design, on a regular grid (no such setting)


class Priority(IntEnum):
    """How urgent a job is; the smaller number goes first. Protocols give the name: urgent, routine or archive."""

    URGENT = 0
    ROUTINE = 1
    ARCHIVE = 2

    @classmethod
    def named(cls, value: object) -> object:
        """Returns the priority of that name, in any case of letters; passes other values on for pydantic to judge."""
        return cls[value.upper()] if isinstance(value, str) and value.upper() in cls.__members__ else value


class Route(Frozen):
    """One line of a protocol's `destinations`: a destination, which outputs it gets, and which one stands in for it."""

    to: str  # name of a destination in the settings
    outputs: tuple[Output, ...] | None = None  # None: every DICOM object that the job makes
    fallback: str | None = None  # the destination that gets them if `to` refuses or never answers


class JobSpec(Frozen):
    """The work of one protocol on one volume.

    The fields down to `structure_set_label` decide what the result is, and so the job's id; `volume` is the exception,
    since it is only a name. The others say where, when and how the result goes, and change neither the id nor the
    objects' UIDs.
    """

    study_uid: str
    series_uid: str
    volume: str | None = None  # which volume of a series that holds several (phase, echo, b-value); None: the only one
    instances: tuple[str, ...]  # SOP Instance UIDs, sorted
    revision: str = (
        ""  # which content of the instances, where later ones replaced the first (`worker.selection.contents`)
    )
    frames: str | None = None  # digest of the frames, where a multi-frame image holds frames of other volumes, too
    protocol: str
    protocol_digest: str
    prompts: tuple[Prompt, ...]
    derived: tuple[Derived, ...] = ()
    model: str | None
    engine: EngineOptions = EngineOptions()
    outputs: tuple[Output, ...] = ("seg",)
    holes: Literal["keyhole", "xor"] = "keyhole"  # how RTSTRUCT contours say that a structure has a hole
    tilted_rtstruct: bool = True  # whether an RTSTRUCT is made on the slices of a tilted gantry
    structure_set_label: SetLabel | None = None  # of the RTSTRUCT; None: the node's own

    # How and when, not what: these do not change the job's identity.
    routes: tuple[Route, ...] = ()
    priority: Annotated[Priority, BeforeValidator(Priority.named)] = Priority.ROUTINE
    window: tuple[str, str] | None = None  # local time of day from and to, "22:00", "06:00": only then it is started
    release: bool = False  # a person must release the result before it is sent
    shadow: bool = False  # processed, never sent
    content: str = ""  # digest of the images' files, where others may take their place; `revision` tells them apart

    @classmethod
    def of(cls, *, instances: Sequence[str], **facts: object) -> Self:
        """Makes the specification with its instances sorted, so that the order of arrival changes no id."""
        return cls(instances=tuple(sorted(instances)), **facts)

    @property
    def series_key(self) -> SeriesKey:
        """The UIDs of the job's study and series."""
        return SeriesKey(self.study_uid, self.series_uid)

    @property
    def job_id(self) -> str:
        """The job's id: 16 hexadecimal digits of a digest of the work, so that the same work is the same job.

        See `worker.identity`. A job that is in a ledger already keeps the id that it has there; see `same_work`.
        """
        return digest_of(deciding_facts(self, CIRCUMSTANCES))

    def same_work(self, older: Self) -> bool:
        """Whether `older`, a job that is in the ledger under whatever id, does the same work."""
        if self.frames and not older.frames:  # written when volumes of one file were told apart by their names alone
            return self.volume == older.volume and self.model_copy(update={"frames": None}).job_id == older.job_id
        return self.job_id == older.job_id


CIRCUMSTANCES: Final = dict.fromkeys(("volume", "routes", "priority", "window", "release", "shadow", "content"), True)
"""The fields that change nothing of what a result is: a volume's name, where, when and how the result goes, and the
content, for which the revision stands."""

"""Records where a result comes from: which job made it, by which algorithm, under which UIDs, and what it replaces.

The UIDs of a result derive from the source SOP Instance UIDs and their revision, the prompts, the model's identity, the
protocol's digest and the kind of object, so that the same work always gives the same object. No result is approved:
where an object has no Approval Status, its description says UNAPPROVED.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from pydicom.sr.coding import Code
from pydicom.uid import UID

from dicom_node.regions import Region, one_line, shortened
from dicom_node.series import ImageSeries
from dicom_node.uids import derived_uid

OUTLINE: Final = "body outline"
"""What finds the body in an image, as results name it."""
LABEL_MAP_STORAGE: Final = UID("1.2.840.10008.5.1.4.1.1.66.7")  # Label Map Segmentation Storage; newer than pydicom 3.0


@dataclass(frozen=True)
class ObjectKind:
    """Says what a kind of object is called; the module that writes the kind has it."""

    name: str  # goes into its UIDs: never changed
    sop_class: UID
    purpose: Code  # what it is to an object that refers to it; no context group of PS3.16 has codes for all of them


@dataclass(frozen=True)
class ObjectReference:
    """Names one object of a result, so that others can refer to it."""

    sop_class_uid: str
    sop_uid: str
    series_uid: str
    purpose: Code | None = field(default=None, compare=False)  # what it is to the other objects of its result


def _put_on_one_line(facts: object, *fields: str, limit: int = 1024, unset: str = "") -> None:
    """Makes texts of a frozen dataclass fit for DICOM: one line, no backslash, at most `limit` bytes; `unset` if empty.

    A backslash would split a value, and a receiver would refuse one that is too long.
    """
    for name in fields:
        object.__setattr__(facts, name, shortened(one_line(getattr(facts, name)), limit) or unset)


@dataclass(frozen=True)
class Review:
    """Gives a reason why a person should look at a result before it is used."""

    sentence: str
    label: str | None = None  # of the region it is about; None: all of them

    def __post_init__(self) -> None:
        _put_on_one_line(self, "sentence")


@dataclass(frozen=True)
class Algorithm:
    """Names what computed the masks."""

    name: str
    version: str
    digest: str  # of the weights, "sha256:..."
    notice: str = ""  # one sentence: what it is not for
    identity: str = ""  # everything of it that can change a mask, as UIDs derive from it; "": the digest alone

    has_weights: bool = True  # False: rules alone, the same for every model

    def __post_init__(self) -> None:
        _put_on_one_line(self, "notice")
        _put_on_one_line(self, "digest", unset="not told")
        _put_on_one_line(self, "name", "version", limit=64, unset="not told")

    @property
    def title(self) -> str:
        """Name and version."""
        return f"{self.name} {self.version}"

    @property
    def sentence(self) -> str:
        """Name, version and weights, as descriptions have them."""
        return f"{self.title}, weights {self.digest}" if self.has_weights else self.title


@dataclass(frozen=True)
class Provenance:
    """Holds the facts of one job that its results carry.

    made: local time; only dates and times in the objects depend on it. review: reasons for a person to look at it.
    """

    algorithm: Algorithm
    made: datetime
    protocol: str = ""  # its name
    protocol_digest: str = ""
    software_version: str = ""
    series_number: int = 9001
    revision: str = ""  # of images that were replaced by later ones under their UIDs; part of the result's UIDs
    review: tuple[Review, ...] = ()
    siblings: tuple[ObjectReference, ...] = ()  # every object of this result
    predecessors: tuple[ObjectReference, ...] = ()  # the objects of the result that this one replaces

    def __post_init__(self) -> None:
        _put_on_one_line(self, "protocol")
        _put_on_one_line(self, "software_version", limit=64)

    def maker_of(self, region: Region) -> Algorithm:
        """Returns what computed the mask of a region: the model, or the node itself by the values of the image."""
        if region.by_network:
            return self.algorithm
        return Algorithm(OUTLINE, self.software_version, "", has_weights=False)

    def uid(self, kind: str, series: ImageSeries, regions: Sequence[Region], *more: str) -> str:
        """Returns the UID that belongs to this work on `series`.

        kind: the name of the object's kind, such as "SEG". more: options that change the object.
        """
        sources = sorted(f"{reference.sop_uid}#{reference.frame_number or ''}" for reference in series.references)
        prompts = [region.prompt + (f" <- {region.sentence}" if region.sentence else "") for region in regions]
        facts = [
            self.algorithm.identity or self.algorithm.digest,
            self.protocol_digest,
            str(len(sources)),
            *sources,
            str(len(prompts)),
            *prompts,
        ]
        return derived_uid(kind, *facts, *more, *([f"revision {self.revision}"] if self.revision else []))

    def reference(
        self, kind: ObjectKind, series: ImageSeries, regions: Sequence[Region], *more: str
    ) -> ObjectReference:
        """Returns the identity of the object of that kind that belongs to this work, whether it is written or not."""
        sop_uid, series_uid = (self.uid(name, series, regions, *more) for name in (kind.name, f"{kind.name} series"))
        return ObjectReference(kind.sop_class, sop_uid, series_uid, kind.purpose)

    def others(self, one: ObjectReference) -> tuple[ObjectReference, ...]:
        """Returns the objects of this result except `one`."""
        return tuple(other for other in self.siblings if other != one)

    def predecessor(self, sop_class_uid: str) -> tuple[ObjectReference, ...]:
        """Returns the objects of that SOP class in the result that this one replaces; () without one."""
        return tuple(one for one in self.predecessors if one.sop_class_uid == sop_class_uid)

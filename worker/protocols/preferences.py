"""How a protocol chooses among the volumes of a study that satisfy its conditions: the block `choose` of its file.

    choose:
      take: best                     # one volume per study; `all`, the default: every volume that matches
      prefer:                        # the first that tells two volumes apart decides
        - axial
        - named                      # whose own words name the region of `match`, before those by the study's words
        - {says: portal venous}      # conditions as under `match`: those that satisfy them first
        - soft kernel
        - thin
      never: [projection, phantom]   # projection (MIP and the like), reformatted (MPR), derived, phantom

Localizers, secondary captures, dose reports and whatever else is no regular volume are never taken, whatever this block
says. `worker.selection.choose` applies it; `dicom_node.ranking.order` defines the qualities and kinds.
"""

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, field_validator

from dicom_node.ranking.order import Kind, Quality
from worker.job_spec import Frozen
from worker.protocols.conditions import Match

Named = Literal["named"]
"""Prefers volumes whose own description names the protocol's region, then those whose protocol's name does."""

Preference = Annotated[
    Annotated[Quality | Named, Tag("quality")] | Annotated[Match, Tag("conditions")],
    Discriminator(lambda value: "quality" if isinstance(value, str) else "conditions"),
]
"""A quality by name, or conditions on attributes: a volume that satisfies them goes before one that does not."""

DEFAULT_PREFERENCES: tuple[Preference, ...] = ("original", "axial", "soft kernel", "coverage", "thin")


class Choose(Frozen):
    """Which of the volumes that match are taken: all of them, or the best by the preferences in their order.

    `never` lists the kinds of volumes that are taken in neither case.
    """

    take: Literal["best", "all"] = "all"
    prefer: tuple[Preference, ...] = Field(DEFAULT_PREFERENCES, min_length=1)
    never: tuple[Kind, ...] = ("projection",)

    @field_validator("prefer", mode="before")
    @classmethod
    def _one_by_one(cls, value: Any) -> Any:
        """Refuses a single preference that is not written as a list."""
        if not isinstance(value, (list, tuple)):
            raise ValueError("preferences are a list, the most important first, such as [axial, thin]")
        return value

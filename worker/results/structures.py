"""The structures of a result: the masks of the prompts after post-processing, those derived from them, and their names.

A structure may need others that are finished before it: the one that it is cropped to, the ones that it is made of.
Pure functions; masks are packed, and few are unpacked at one time.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from graphlib import CycleError, TopologicalSorter
from typing import Any

import numpy as np
from pydicom.sr.coding import Code

from dicom_node.masks import postprocess
from dicom_node.masks.measures import Extent, extent
from dicom_node.masks.packed import Mask, Masks, PackedMask
from dicom_node.masks.postprocess import Affine
from dicom_node.regions import Region, label_of, region_for
from worker.errors import WorkerError
from worker.job_spec import Derived, Finish, Prompt
from worker.protocols.snomed import meanings


class StructureError(WorkerError):
    """A structure refers to one that the job has not, or to itself by way of others."""


@dataclass(frozen=True)
class Structure:
    """One structure of a result: what it was made from, what it is called, and where it lies."""

    made: Prompt | Derived
    region: Region
    extent: Extent | None  # where its finished mask lies on the slices; None where nothing was found

    @property
    def label(self) -> str:
        """The name that people see."""
        return label_of_made(self.made)

    @property
    def asked(self) -> bool:
        """Whether something was looked for: an empty structure that a person is to draw was not."""
        return isinstance(self.made, Prompt) or not self.made.empty


def label_of_made(made: Prompt | Derived) -> str:
    """Returns the name that people see of a prompt or derived structure."""
    return made.label if isinstance(made, Prompt) else made.name


def finished(
    found: Masks,
    prompts: Sequence[Prompt],
    derived: Sequence[Derived],
    affine: Affine,
    body: Callable[[], Mask],
) -> Masks:
    """Returns the masks of the prompts after post-processing, then those of the derived structures.

    Args:
        found: the network's masks bool (P, slices, rows, columns), in the order of `prompts`.
        affine: (4, 4), from indices of the masks to LPS in mm, with the shear of a tilted gantry.
        body: finds the patient's outline (slices, rows, columns); called only where a structure is made of it.

    Raises:
        StructureError: when a structure needs one that is not there, or itself by way of others.
    """
    made: list[Prompt | Derived] = [*prompts, *derived]
    places = {label_of_made(one): place for place, one in reversed(list(enumerate(made)))}
    masks: list[PackedMask | None] = [None] * len(made)

    def mask_of(name: str) -> Mask:
        packed = masks[places[name]]
        assert packed is not None, "the order has put it before"
        return packed.mask()

    for place in _order(made, places):
        one = made[place]
        if isinstance(one, Derived) and one.body:
            masks[place] = PackedMask.of(body())
        elif isinstance(one, Derived):
            masks[place] = PackedMask.of(_combined(one, mask_of, found.shape[1:], affine))
        elif one.finish == Finish():
            masks[place] = found.packed[place]
        else:
            masks[place] = PackedMask.of(_finished(found[place], one.finish, mask_of, affine))
    return Masks(mask for mask in masks if mask is not None)


def _order(made: Sequence[Prompt | Derived], places: dict[str, int]) -> Iterable[int]:
    """Returns the places of the structures in an order in which each comes after those that it needs."""
    needs: dict[int, list[int]] = {}
    for place, one in enumerate(made):
        names = list(_needed(one))
        unknown = [name for name in names if name not in places]
        if unknown:
            raise StructureError(f"structure '{label_of_made(one)}' needs '{unknown[0]}', which the job does not have")
        needs[place] = [places[name] for name in names]
    try:
        return list(TopologicalSorter(needs).static_order())
    except CycleError as error:
        circle = " needs ".join(f"'{label_of_made(made[place])}'" for place in reversed(error.args[1]))
        raise StructureError(f"structures go round in a circle: {circle}") from None


def _needed(one: Prompt | Derived) -> Iterator[str]:
    """Yields the names of the structures that one needs."""
    if isinstance(one, Derived):
        yield from (*one.union, *one.intersect, *one.subtract)
    elif one.finish.crop_to:
        yield one.finish.crop_to


def _finished(mask: Mask, how: Finish, mask_of: Any, affine: Affine) -> Mask:
    """Applies the steps of `how` to a mask bool (slices, rows, columns), in the order of the fields of `Finish`."""
    if how.crop_to:
        mask = postprocess.crop_to(mask, mask_of(how.crop_to))
    if how.largest_component:
        mask = postprocess.largest_component(mask)
    if how.min_volume_ml:
        mask = postprocess.remove_small(mask, affine, how.min_volume_ml)
    if how.fill_holes:
        mask = postprocess.fill_holes(mask, affine)
    if how.smooth_mm:
        mask = postprocess.smooth(mask, affine, how.smooth_mm)
    return mask


def _combined(how: Derived, mask_of: Any, shape: tuple[int, ...], affine: Affine) -> Mask:
    """Returns the union of masks, inside all of `intersect` and outside all of `subtract`, grown by the margin."""
    mask = np.zeros(shape, dtype=bool)
    for name in how.union:
        mask |= mask_of(name)
    for name in how.intersect:
        mask &= mask_of(name)
    for name in how.subtract:
        mask &= ~mask_of(name)
    return postprocess.margin(mask, affine, how.margin_mm)


def structures_of(
    masks: Masks,
    prompts: Sequence[Prompt],
    derived: Sequence[Derived],
    affine: Affine,
    unlearnt: Collection[str] = (),
    *,
    judged: bool = True,
) -> tuple[Structure, ...]:
    """Returns the structure of each finished mask, in the order of `finished`.

    Args:
        masks: as `finished` gives them; `affine` maps their indices to LPS in mm.
        unlearnt: the texts of prompts for what the model was not trained on; an empty mask means "not known" there.
        judged: whether the image is of the kind that the model was trained on; else an empty mask is "not judged".
    """
    made: list[Prompt | Derived] = [*prompts, *derived]
    return tuple(
        Structure(
            one, _region_judged(one, unlearnt, judged), extent(packed.mask(), affine) if len(packed.held) else None
        )
        for one, packed in zip(made, masks.packed, strict=True)
    )


def _region_judged(made: Prompt | Derived, unlearnt: Collection[str], judged: bool) -> Region:
    """Returns the region of a structure, with what it means if its mask is empty."""
    unknown = isinstance(made, Prompt) and made.text in unlearnt
    return replace(region_of(made), empty_means="not known" if unknown else "not found" if judged else "not judged")


# -- what they are called

BODY = "the patient's outline, found in the image by its values"
"""How the body is made, in the words of the results. It goes into their UIDs: not to be changed."""


def region_of(made: Prompt | Derived) -> Region:
    """Returns the region of a structure: from the table of regions, with what the protocol says of it instead."""
    region = _region_of_prompt(made) if isinstance(made, Prompt) else _region_of_derived(made)
    if made.tg263:
        region = replace(region, tg263=made.tg263, roi_name=made.tg263)
    if made.colour:
        region = replace(region, colour=made.colour)
    if made.roi_type:
        region = replace(region, interpreted_type=made.roi_type)
    return region


def _region_of_prompt(prompt: Prompt) -> Region:
    """Returns the region of the prompt's text, with the protocol's name and code."""
    region = replace(region_for(prompt.text), sentence=prompt.sentence or "")
    if prompt.name is not None:
        region = replace(region, label=label_of(prompt.name))
    if prompt.code is not None:
        region = replace(region, type=_concept(prompt.code, prompt.label), coded=True)
    return region


def _concept(code: str, label: str) -> Code:
    """Returns the SNOMED CT concept with the meaning that pydicom's dictionary has for it, else with the label."""
    return Code(code, "SCT", meanings().get(code) or label_of(label))


def _region_of_derived(structure: Derived) -> Region:
    """Returns the region of a derived structure.

    A plain union may be coded as the organ that its name says. What is cut or grown is that organ no more, so its code
    is generic, and only the colour is that of its name. The body is the external contour of radiotherapy (TG-263).
    """
    if structure.body:
        outline = region_for("body")
        return replace(outline, prompt=BODY, label=label_of(structure.name), by_network=False)
    plain = structure.union and not (structure.intersect or structure.subtract or structure.margin_mm)
    region = region_for(structure.name if plain else "")
    colour = region_for(structure.name).colour
    words = "empty, to be drawn by a person" if structure.empty else how_made(structure)
    label = label_of(structure.name)
    return replace(region, prompt=words, label=label, colour=colour, placeholder=structure.empty)


def how_made(structure: Derived) -> str:
    """Returns one phrase on how a structure was made: "made of kidney and cyst, without tumour, margin +3 mm"."""
    parts = [" and ".join(structure.union)]
    parts += [f"inside {' and '.join(structure.intersect)}"] if structure.intersect else []
    parts += [f"without {' and '.join(structure.subtract)}"] if structure.subtract else []
    parts += [f"margin {structure.margin_mm:+g} mm"] if structure.margin_mm else []
    return "made of " + ", ".join(parts)

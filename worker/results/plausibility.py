"""Plausibility: why a person should look at a result before it is used.

Each reason is a sentence in the result (`review`) and in its objects. It hides nothing and stops nothing: only a
protocol with `release: true` makes a result wait for a person.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np

from dicom_node.masks.packed import Masks, bounding_box
from dicom_node.masks.postprocess import Affine
from dicom_node.objects.provenance import Review
from dicom_node.regions import region_for
from worker.job_spec import Prompt
from worker.results.structures import Structure

Values = np.ndarray[Any, np.dtype[np.float32]]

# A network is trained on bodies that lie straight, turned by some 30 degrees at most.
TURNED_DEGREES: Final = 30.0
# Voxel sides of the images that networks for CT, MR and PET are trained on; outside, anatomy has another size for them.
SPACING_MM: Final = (0.3, 6.0)
# A model that names the coarsest grid that it was trained on is trusted up to this multiple of it.
COARSER: Final = 2.0

# What is mostly below this is air or lung (HU): no organ that is not filled with air.
AIR_HU: Final = -300.0
# Across the patient, where the body is at least THICK_MM from front to back, the narrowest slices (5th percentile) of a
# hundred scans of head and neck have 4 to 159 mm, those of three trunks 276 to 462 mm.
THICK_MM: Final = 50.0
TRUNK_MM: Final = 220.0

_MAY_HOLD_AIR: Final = """lung lungs pulmonary lobe lobes trachea tracheal airway airways bronchus bronchi bronchial
    pneumothorax emphysema emphysematous air gas sinus sinuses nasal nose mastoid bowel colon intestine duodenum jejunum
    ileum cecum rectum stomach gastric cavity bulla bullae bleb bronchiectasis pneumatosis pneumomediastinum
    pneumoperitoneum pneumobilia pharynx nasopharynx oropharynx hypopharynx mouth ear ventilation atelectasis opacity
    opacities consolidation nodule nodules lesion lesions"""
AIRY: Final = frozenset(_MAY_HOLD_AIR.split())
"""Words of structures that may hold air, and of findings that may lie in the lung: a mask in the air says nothing."""

HEAD_AND_NECK: Final = frozenset(
    region_for(name).type
    for name in (
        *("brainstem", "brain", "mandible", "parotid gland", "submandibular gland", "larynx", "optic chiasm", "eye"),
        *("optic nerve", "lens", "cochlea", "pituitary", "tongue", "cerebellum", "hippocampus", "inner ear"),
    )
    if region_for(name).coded
)
"""Codes of structures that lie in the head or the neck and nowhere else."""

_AXES: Final = ("superior", "anterior", "right")


def reviews(structures: Sequence[Structure], masks: Masks) -> Iterator[Review]:
    """Yields what is not as the protocol expects, structure by structure: unknown prompt, volume, side, edge.

    `masks` (P, slices, rows, columns) are the finished masks in the order of `structures`.
    """
    known = {one.label: one for one in structures}
    for place, one in enumerate(structures):
        if isinstance(one.made, Prompt):
            if one.region.empty_means == "not known":
                yield Review(
                    f"{one.label} is not among the structures that the model was trained on: its mask says nothing.",
                    one.region.label,
                )
            yield from _of_volume(one, one.made, _ends(masks, place))
            yield from _of_side(one, one.made, known)
            if one.made.expect.inside_view and (edge := _edge(masks, place)):
                yield Review(f"{one.label} touches the edge of the scanned volume ({edge}).", one.region.label)


def tissue_reviews(
    structures: Sequence[Structure], masks: Masks, values: Values, *, trunk_alone: bool
) -> Iterator[Review]:
    """Says which masks of a CT lie where their structure cannot be: in the air, or in a trunk without head and neck.

    `values` (slices, rows, columns) are Hounsfield units on the grid of the masks; `trunk_alone` is `shows_trunk_alone`
    of the image.
    """
    for place, one in enumerate(structures):
        if one.extent is None or not isinstance(one.made, Prompt):
            continue
        middle = float(np.median(values[masks[place]]))
        if middle < AIR_HU and AIRY.isdisjoint(_words(one.made)):
            yield Review(
                f"{one.label} lies in the air: half of its voxels are below {middle:.0f} HU, so it is something else.",
                one.region.label,
            )
        if trunk_alone and one.region.type in HEAD_AND_NECK:
            yield Review(
                f"{one.label} lies in the head or neck, and the image shows neither: every slice is as wide as a trunk "
                f"(over {TRUNK_MM:.0f} mm).",
                one.region.label,
            )


def _words(prompt: Prompt) -> set[str]:
    return set(re.findall(r"[a-z]+", prompt.text.casefold()))


def shows_trunk_alone(image: Values, spacing: Sequence[float]) -> bool:
    """Whether no slice of a CT (S, A, R) in HU is as narrow as a head or a neck; `spacing` in mm per voxel (S, A, R).

    A table or a mask is thin, so only columns with much tissue count. Without a slice that holds a body it is False.
    """
    widths = [((plane > AIR_HU).sum(axis=0) * spacing[1] >= THICK_MM).sum() * spacing[2] for plane in image]
    held = [width for width in widths if width]
    return bool(held) and float(np.percentile(held, 5)) > TRUNK_MM


def grid_reviews(affine: Affine, spacing: Sequence[float], coarsest: Sequence[float] | None = None) -> Iterator[Review]:
    """Yields why the network's grid is far from those it was trained on: turned too far, or too coarse or fine.

    Args:
        affine: (4, 4), from indices (S, A, R) to LPS in mm.
        spacing: of the axes (S, A, R), in mm.
        coarsest: the largest spacing that the model was trained on, in mm; None where it does not say.
    """
    directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    upright = np.array([[0.0, 0.0, 1.0], [0.0, -1.0, 0.0], [-1.0, 0.0, 0.0]])  # S, A, R in LPS
    turned = np.degrees(np.arccos(np.clip((directions.T * upright).sum(axis=1), -1, 1)))
    if turned.max() > TURNED_DEGREES:
        axis = int(turned.argmax())
        yield Review(
            f"The image is turned by {turned[axis]:.0f} degrees from the patient's {_AXES[axis]} axis; the "
            f"network knows up to {TURNED_DEGREES:.0f}."
        )
    sides = " x ".join(f"{side:.2f}" for side in spacing)
    if coarsest is not None:
        if any(side > COARSER * most for side, most in zip(spacing, coarsest, strict=True)):
            most = " x ".join(f"{side:g}" for side in coarsest)
            yield Review(f"Voxels of {sides} mm are far coarser than the {most} mm that the network was trained on.")
    elif not all(SPACING_MM[0] <= side <= SPACING_MM[1] for side in spacing):
        yield Review(
            f"Voxels of {sides} mm are far from the {SPACING_MM[0]:g} to {SPACING_MM[1]:g} mm of usual images."
        )


def _of_volume(one: Structure, prompt: Prompt, ends: str) -> Iterator[Review]:
    """Yields a reason if the volume is outside the expected range, or the structure was not found at all."""
    if prompt.expect.volume_ml is None:
        return
    least, most = prompt.expect.volume_ml
    if one.extent is None:
        if least > 0:
            yield Review(f"{one.label} was not found, expected are {least:g} to {most:g} ml.", one.region.label)
    elif not least <= one.extent.volume_ml <= most:
        cut = f"; it touches the {ends} and may go on beyond" if ends else ""
        yield Review(
            f"{one.label} holds {one.extent.volume_ml:.1f} ml, expected are {least:g} to {most:g} ml{cut}.",
            one.region.label,
        )


def _of_side(one: Structure, prompt: Prompt, known: Mapping[str, Structure]) -> Iterator[Review]:
    """Yields a reason if the centroid is not on the expected side of another structure's."""
    for side, name in (("left", prompt.expect.left_of), ("right", prompt.expect.right_of)):
        if name is None or one.extent is None:
            continue
        other = known[name].extent if name in known else None
        if other is None:
            yield Review(f"{one.label} should lie to the {side} of {name}, which was not found.", one.region.label)
            continue
        towards_left = one.extent.centroid[0] - other.centroid[0]  # LPS: x grows to the patient's left
        if (towards_left if side == "left" else -towards_left) <= 0:
            yield Review(
                f"{one.label} should lie to the {side} of {name}, its centre lies {abs(towards_left):.1f} mm to the "
                f"{'right' if side == 'left' else 'left'} of it.",
                one.region.label,
            )


def _ends(masks: Masks, place: int) -> str:
    """Says which of the first and last slice a mask touches; "" for none."""
    held, count = masks.packed[place].held, masks.shape[1]
    touched = (("first slice", len(held) and held[0] == 0), ("last slice", len(held) and held[-1] == count - 1))
    return " and the ".join(name for name, touches in touched if touches)


def _edge(masks: Masks, place: int) -> str:
    """Says which edges of the volume a mask touches; "" for none."""
    box = bounding_box(masks[place])
    if box is None:
        return ""
    names = (("first slice", "last slice"), ("first row", "last row"), ("first column", "last column"))
    touched = [
        name
        for part, size, ends in zip(box, masks.shape[1:], names, strict=True)
        for name, touches in zip(ends, (part.start == 0, part.stop == size), strict=True)
        if touches
    ]
    return ", ".join(touched)

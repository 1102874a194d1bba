"""Ranks the volumes of a study and says why each one is placed where it is, from facts of headers alone.

Wishes are asked in their order, the most important first. Of the volumes still in, those within the wish's tolerance of
the best one stay; the others are out, and that wish is the reason. The volume left at the end is first; the same
procedure without it gives the second, and so on. So a head scan that ends one slice earlier does not lose by "coverage"
to one of five times its spacing: the next wish decides between them.

What the qualities prefer:

    thin                       the least distance between slices
    slices, coverage           the most slices, the longest extent along the normal
    axial, coronal, sagittal   slices that are closest to this plane
    soft kernel, sharp kernel  reconstruction by a kernel that kernels.toml calls so
    original                   ORIGINAL PRIMARY, neither projected nor reformatted
    contrast, no contrast      a contrast agent given, or none
    small field, large field   the reconstructed field of view
    newest                     the latest acquisition
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from dicom_node.ranking.facts import VolumeFacts

Quality = Literal[
    "thin",
    "coverage",
    "slices",
    "axial",
    "coronal",
    "sagittal",
    "soft kernel",
    "sharp kernel",
    "original",
    "contrast",
    "no contrast",
    "small field",
    "large field",
    "newest",
]
"""What a protocol may prefer in a volume."""

Kind = Literal["projection", "reformatted", "derived", "phantom"]
"""What a protocol may refuse: intensity projections (MIP and the like), reformatted planes (MPR), everything DERIVED,
and images of phantoms."""


@dataclass(frozen=True)
class Wish:
    """Holds one preference and how far each volume fulfils it, in the order of the volumes.

    tolerance: 0.05 counts a score as equal to the best if it is within 5 % of it.
    """

    name: str
    scores: tuple[float, ...]  # more is better
    shown: tuple[str, ...]  # the same for people
    tolerance: float = 0.0  # scores this close to the best, as a part of its size, count as equal


@dataclass(frozen=True)
class Rank:
    """Tells a volume's place in the order."""

    volume: int  # its index
    behind: str  # why the volume before it comes before it; "" for the first
    behind_first: str  # why the first comes before it; "" for the first


def rank(labels: Sequence[str], wishes: Sequence[Wish]) -> list[Rank]:
    """Returns the places of all volumes, the best first. Volumes that no wish distinguishes keep the given order.

    labels: what the reasons call the volumes. wishes: the most important first; each has one score per label.

    >>> thin = Wish("thin", scores=(-5.0, -1.0), shown=("5 mm", "1 mm"), tolerance=0.05)
    >>> [(place.volume, place.behind) for place in rank(["CT 1", "CT 2"], [thin])]
    [(1, ''), (0, 'thin: it has 5 mm, CT 2 has 1 mm')]
    """
    order: list[Rank] = []
    left = list(range(len(labels)))
    lost_to_first: dict[int, str] = {}
    lost_to_last: dict[int, str] = {}
    while left:
        winner, lost = _best(left, labels, wishes)
        order.append(Rank(winner, lost_to_last.get(winner, ""), lost_to_first.get(winner, "")))
        lost_to_last = lost
        lost_to_first = lost_to_first or lost
        left.remove(winner)
    return order


def _best(left: Sequence[int], labels: Sequence[str], wishes: Sequence[Wish]) -> tuple[int, dict[int, str]]:
    """Returns the best of those that are left, and for each other one the reason why it is not.

    Volumes are indices. A reason names the first wish at which a volume dropped out, with its figure and the winner's.
    """
    among = list(left)
    out: dict[int, Wish] = {}
    for wish in wishes:
        top = max(wish.scores[volume] for volume in among)
        dropped = [volume for volume in among if wish.scores[volume] < top - wish.tolerance * abs(top)]
        among = [volume for volume in among if volume not in dropped]
        out |= dict.fromkeys(dropped, wish)
    winner = among[0]
    reasons = {
        volume: f"{wish.name}: it has {wish.shown[volume]}, {labels[winner]} has {wish.shown[winner]}"
        for volume, wish in out.items()
    }
    return winner, reasons | {
        volume: f"nothing asked for tells it from {labels[winner]}" for volume in among if volume != winner
    }


def wish_for(quality: Quality, volumes: Sequence[VolumeFacts]) -> Wish:
    """Returns how far the volumes have a quality. What the headers do not say ranks between yes and no."""
    score, show, tolerance = _QUALITIES[quality]
    return Wish(quality, tuple(float(score(one)) for one in volumes), tuple(show(one) for one in volumes), tolerance)


def refused(facts: VolumeFacts, kinds: Sequence[Kind]) -> str:
    """Returns why a volume is not taken, as the kind that it is; "" if it is none of the refused kinds.

    The text continues "it is ...", and quotes the words of the headers that say so.
    """
    said = "\\".join(facts.image_type) or "no Image Type"
    if "projection" in kinds and facts.projection:
        return f"an intensity projection ({said})"
    if "reformatted" in kinds and facts.reformatted:
        return f"reformatted from another volume ({said})"
    if "derived" in kinds and "DERIVED" in facts.image_type:
        return f"derived ({said})"
    if "phantom" in kinds and facts.phantom_said:
        return f"an image of a phantom ({facts.phantom_said})"
    return ""


_Row = tuple[Callable[[VolumeFacts], float], Callable[[VolumeFacts], str], float]


def _plane(wanted: str) -> _Row:
    """Returns the row of `_QUALITIES` for a wanted plane: score, text, tolerance."""
    return (
        lambda facts: facts.plane == wanted,
        lambda facts: (
            facts.plane + (f" ({facts.oblique_degrees:.0f} degrees off)" if facts.oblique_degrees > 1 else "")
        ),
        0.0,
    )


def _kernel(wanted: str) -> _Row:
    """Returns the row for a wanted sharpness of the kernel; an unknown kernel scores one half."""
    return (
        lambda facts: 1.0 if facts.sharpness == wanted else 0.5 if facts.sharpness is None else 0.0,
        lambda facts: f"{facts.kernel or 'no kernel'} ({facts.sharpness or 'neither soft nor sharp'})",
        0.0,
    )


def _contrast(wanted: bool) -> _Row:
    """Returns the row for images with or without contrast agent; unknown scores one half."""
    return (
        lambda facts: 0.5 if facts.contrast is None else float(facts.contrast is wanted),
        lambda facts: facts.contrast_said,
        0.0,
    )


def _image_type(facts: VolumeFacts) -> str:
    """Returns the values of Image Type for people."""
    return "\\".join(facts.image_type) or "no Image Type"


# For each quality: score (more is better), the same for people, tolerance. Spacings and fields of one protocol differ
# by rounding; coverage differs by where the technician set the range.
_QUALITIES: Final[dict[Quality, _Row]] = {
    "thin": (lambda facts: -facts.spacing_mm, lambda facts: f"{facts.spacing_mm:.2f} mm between slices", 0.05),
    "coverage": (lambda facts: facts.coverage_mm, lambda facts: f"{facts.coverage_mm:.0f} mm", 0.1),
    "slices": (lambda facts: facts.slices, lambda facts: f"{facts.slices} slices", 0.0),
    "axial": _plane("axial"),
    "coronal": _plane("coronal"),
    "sagittal": _plane("sagittal"),
    "soft kernel": _kernel("soft"),
    "sharp kernel": _kernel("sharp"),
    "original": (lambda facts: facts.original, _image_type, 0.0),
    "contrast": _contrast(True),
    "no contrast": _contrast(False),
    "small field": (lambda facts: -facts.field_mm, lambda facts: f"a field of {facts.field_mm:.0f} mm", 0.05),
    "large field": (lambda facts: facts.field_mm, lambda facts: f"a field of {facts.field_mm:.0f} mm", 0.05),
    "newest": (lambda facts: float(facts.acquired or 0), lambda facts: facts.acquired or "no time", 0.0),
}

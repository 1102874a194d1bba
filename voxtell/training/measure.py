"""Measures what a model can do: agreement with planners' contours, sides, unseen phrasings, negatives, time and memory.

Masks are bool (S, A, R): superior, anterior, right; spacing is mm per voxel in this order.
"""

import resource
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

import numpy as np
import numpy.typing as npt

from voxtell.nifti import read_image
from voxtell.phantom import Mask, head_and_neck
from voxtell.segmenter import Segmenter
from voxtell.training.dataset import Case, Dataset
from voxtell.training.scores import Scores, score
from voxtell.training.vocabulary import HeldOut

RIGHT, LEFT = "right parotid", "left parotid"


@dataclass(frozen=True)
class Disagreement:
    """Holds the axial slice of a patient in which a mask and the planner's contour differ most."""

    case: str
    dice: float
    """Dice of the whole volume."""
    image: npt.NDArray[np.float32]
    """HU (A, R)."""
    found: Mask
    """(A, R)."""
    contour: Mask
    """(A, R)."""
    spacing: tuple[float, float]
    """Millimetres per voxel (A, R)."""


@dataclass
class Measured:
    """Holds everything that the report prints; lists are in the order of the cases."""

    scores: dict[str, list[Scores]] = field(default_factory=dict)
    worst: dict[str, Disagreement] = field(default_factory=dict)
    """By structure, the patient with the lowest Dice."""
    swapped: list[str] = field(default_factory=list)
    sided_cases: int = 0
    phrasings: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    """Structure to prompt to Dice per patient; the structure's own name is the first prompt."""
    negatives: list[tuple[str, str, float]] = field(default_factory=list)
    """Case, prompt, millilitres."""
    seconds: list[float] = field(default_factory=list)
    phantoms: dict[str, list[float]] = field(default_factory=dict)

    @property
    def median_seconds(self) -> float:
        """Median time of one patient with all structures, in seconds."""
        return median(self.seconds)

    @property
    def peak_memory_mb(self) -> float:
        """Largest memory of this process so far, in MB (Linux counts in kB)."""
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(
    segmenter: Segmenter,
    data: Dataset,
    held_out: Mapping[str, HeldOut],
    negatives: Sequence[str],
    *,
    robust: int,
    phantoms: int,
    say: Callable[[str], object] = lambda _: None,
) -> Measured:
    """Segments every validation patient with every structure and returns the figures.

    Args:
        segmenter: the model.
        data: volumes and contours; only its validation cases are read.
        held_out: unseen prompts by structure, asked in the first `robust` patients only.
        negatives: prompts for what is not in the image, asked in the same patients.
        robust: how many patients these are.
        phantoms: how many phantoms to measure; their seeds, from 0, are not among those of training phantoms.
        say: is told each case.
    """
    measured = Measured()
    structures = tuple(data.structures)
    for number, case in enumerate(c for c in data.cases if c.split == "validation"):
        scan = read_image(case.image)
        image, spacing = scan.array, scan.spacing
        started = time.perf_counter()
        masks = dict(zip(structures, segmenter(image, structures, spacing=spacing), strict=True))
        measured.seconds.append(time.perf_counter() - started)
        contours = read_contours(case)
        for structure, contour in contours.items():
            scores = score(masks[structure], contour, spacing)
            measured.scores.setdefault(structure, []).append(scores)
            if structure not in measured.worst or scores.dice < measured.worst[structure].dice:
                measured.worst[structure] = _shown(case.name, scores.dice, image, masks[structure], contour, spacing)
        if RIGHT in contours and LEFT in contours:
            measured.sided_cases += 1
            if swapped(masks[RIGHT], masks[LEFT], contours[RIGHT], contours[LEFT]):
                measured.swapped.append(case.name)
        if number < robust:
            _unseen(measured, segmenter, case, image, spacing, contours, held_out, negatives)
        say(f"{case.name}: {measured.seconds[-1]:.1f} s")
    _phantoms(measured, segmenter, structures, phantoms)
    return measured


def read_contours(case: Case) -> dict[str, Mask]:
    """Returns the contours of a case as bool (S, A, R); empty ones and those known to be absent are left out."""
    found = {}
    for structure, contour in case.contours.items():
        if contour is not None:
            labels = read_image(contour.file).array
            mask = labels > 0 if contour.value is None else labels == contour.value
            if mask.any():
                found[structure] = mask
    return found


def _shown(
    case: str,
    dice: float,
    image: npt.NDArray[np.float32],
    found: Mask,
    contour: Mask,
    spacing: tuple[float, float, float],
) -> Disagreement:
    """Returns the axial slice in which a mask and its contour differ in most voxels."""
    level = int((found ^ contour).sum((1, 2)).argmax())
    return Disagreement(case, dice, image[level], found[level], contour[level], spacing[1:])


def swapped(right: Mask, left: Mask, right_contour: Mask, left_contour: Mask) -> bool:
    """Whether either mask overlaps the other side's contour more than its own; all four are bool (S, A, R)."""
    meets = [[int((mask & contour).sum()) for contour in (right_contour, left_contour)] for mask in (right, left)]
    return meets[0][1] > meets[0][0] or meets[1][0] > meets[1][1]


def _unseen(
    measured: Measured,
    segmenter: Segmenter,
    case: Case,
    image: npt.NDArray[np.float32],
    spacing: tuple[float, float, float],
    contours: Mapping[str, Mask],
    held_out: Mapping[str, HeldOut],
    negatives: Sequence[str],
) -> None:
    """Adds the Dice of unseen prompts, and the volumes in millilitres of masks for negative prompts."""
    asked = {
        structure: (
            structure,
            *held_out[structure].phrasings,
            *held_out[structure].typos,
            *held_out[structure].descriptions,
        )
        for structure in contours
        if structure in held_out
    }
    masks = masks_by_meaning(
        segmenter, image, [p for prompts in asked.values() for p in prompts] + [*negatives], spacing
    )
    for structure, prompts in asked.items():
        for prompt in prompts:
            dice = score(masks[prompt], contours[structure], spacing).dice
            measured.phrasings.setdefault(structure, {}).setdefault(prompt, []).append(dice)
    voxel_ml = float(np.prod(spacing)) / 1000
    measured.negatives += [(case.name, prompt, float(masks[prompt].sum()) * voxel_ml) for prompt in negatives]


def masks_by_meaning(
    segmenter: Segmenter, image: npt.NDArray[np.float32], prompts: Iterable[str], spacing: tuple[float, float, float]
) -> dict[str, Mask]:
    """Returns the masks bool (S, A, R) of many prompts by text; prompts with the same embedding share one mask.

    image: float32 (S, A, R) in HU. spacing: mm per voxel (S, A, R).
    """
    texts = list(dict.fromkeys(prompts))
    keys = [row.numpy().tobytes() for row in segmenter.embed([text.lower() for text in texts])]
    first = {key: text for text, key in reversed(list(zip(texts, keys, strict=True)))}
    masks = dict(zip(first, segmenter(image, list(first.values()), spacing=spacing), strict=True))
    return {text: masks[key] for text, key in zip(texts, keys, strict=True)}


def _phantoms(measured: Measured, segmenter: Segmenter, structures: Sequence[str], count: int) -> None:
    """Adds the Dice on phantoms of seeds 0 to `count` - 1."""
    for seed in range(count):
        phantom = head_and_neck(seed)
        asked = [structure for structure in structures if structure in phantom.labels]
        masks = segmenter(phantom.image, asked, spacing=phantom.spacing)
        for structure, mask in zip(asked, masks, strict=True):
            dice = score(mask, phantom.labels[structure], phantom.spacing).dice
            measured.phantoms.setdefault(structure, []).append(dice)

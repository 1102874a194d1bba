"""Separates the volumes of a series: phases, echoes, b-values, acquisitions.

Frames are separated only where they cannot be one volume: where two lie at one place, or where the slices of two
regular volumes alternate. Volumes that nothing distinguishes but their order at each place are called repetitions. A
level is the list of all frames at one place.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import pairwise
from typing import Final

import numpy as np

from dicom_node.errors import SeriesError
from dicom_node.images.frames import FACT_NAMES, Frame
from dicom_node.images.grid import Grid, arrange, levels_of, one_orientation
from dicom_node.images.pixels import decode

# Facts that change within one volume: with the heartbeat, from slice to slice, or between packages of slices that lie
# between each other. Where frames form one regular grid without being parted by them, they stay together.
_CHANGING: Final = frozenset(
    {"TriggerTime", "AcquisitionNumber", "FrameReferenceTime", "StackID", "DiffusionDirection"}
)


def stacks(frames: Sequence[Frame]) -> list[tuple[str, list[Frame]]]:
    """Returns (name, frames) of each stack, if the frames lie in several orientations, else all together.

    A stack is what the equipment declares to belong together (PS3.3 C.7.6.16.2.2). Frames without one stay together.
    """
    groups = _by("StackID", frames)
    if "" in groups or len(groups) == 1 or one_orientation(frames):
        return [("", list(frames))]
    return [(f"StackID={name}", groups[name]) for name in groups]


def without_doubles(frames: Sequence[Frame], notes: list[str]) -> list[Frame]:
    """Returns the frames without those that repeat another one at the same place, and notes each that is left out.

    Repeated is a frame with the same SOP Instance UID, or with the same facts and time, if the pixels are equal too:
    only such candidates are decoded.

    Raises:
        SeriesError: when two files carry one SOP Instance UID but different pixels.
    """
    kept: list[Frame] = []
    for level in levels_of(frames):
        here: list[Frame] = []
        known: dict[object, Frame] = {}  # a level of a long time series has hundreds of frames to compare with
        for frame in level:
            names = _names(frame)
            twin = next((known[name] for name in names if name in known), None)
            known.update((name, frame) for name in names if name not in known)
            if twin is None:
                here.append(frame)
            elif np.array_equal(*decode([frame, twin])):
                notes.append(f"{frame} is left out: the same image as {twin.path.name}")
            elif frame.file.sop_uid and frame.file.sop_uid == twin.file.sop_uid:
                raise SeriesError(f"{frame} and {twin.path.name} carry one SOP Instance UID but different pixels")
            else:
                here.append(frame)
        kept += here
    return kept


def _names(frame: Frame) -> list[object]:
    """Returns the keys by which two frames at one place may be the same image: facts and time, and the instance."""
    facts = (*sorted(frame.facts.items()), frame.acquired)
    return [facts, (frame.file.sop_uid, frame.number)] if frame.file.sop_uid else [facts]


def separate(frames: Sequence[Frame], name: str = "") -> list[tuple[str, list[Frame]]]:
    """Returns (name, frames) of each volume, separated by the first fact that distinguishes what cannot be one volume.

    name: what distinguishes these frames already. Facts are tried in the order of `FACT_NAMES`, and each part is
    separated again. Names are like "EchoTime=90, repetition=2".

    Raises:
        SeriesError: when nothing distinguishes two images at one place; names both.
    """
    levels = levels_of(frames)
    for fact in FACT_NAMES:
        groups = _by(fact, frames)
        if len(groups) > 1 and _tells_apart(fact, groups, levels):
            return [
                part
                for value, group in groups.items()
                for part in separate(group, f"{name}, {fact}={value}".removeprefix(", "))
            ]
    if all(len(level) == 1 for level in levels):
        return [(name, list(frames))]
    return [
        (f"{name}, repetition={turn}".removeprefix(", "), list(part))
        for turn, part in enumerate(zip(*_in_turn(levels), strict=True), start=1)
    ]


def _by(fact: str, frames: Iterable[Frame]) -> dict[str, list[Frame]]:
    """Groups frames by their value of a fact: numbers in ascending order, then words."""
    groups: dict[str, list[Frame]] = {}
    for frame in frames:
        groups.setdefault(frame.facts.get(fact, ""), []).append(frame)
    return {value: groups[value] for value in sorted(groups, key=lambda text: (_number(text), text))}


def _tells_apart(fact: str, groups: dict[str, list[Frame]], levels: Sequence[Sequence[Frame]]) -> bool:
    """Whether these frames cannot be one volume and this fact explains why."""
    if all(len(level) == 1 for level in levels):
        return _lie_between_each_other(fact, list(groups.values()))
    if all(len({frame.facts.get(fact, "") for frame in level}) == 1 for level in levels):
        return False
    # More values than images at any place: some change from slice to slice, or acquisitions follow each other.
    return len(groups) <= max(map(len, levels)) or all(_is_gapless(group, levels) for group in groups.values())


def _is_gapless(group: Sequence[Frame], levels: Sequence[Sequence[Frame]]) -> bool:
    """Whether a group has a frame at every place from its first to its last, and at more than one."""
    members = set(map(id, group))
    held = [index for index, level in enumerate(levels) if any(id(frame) in members for frame in level)]
    return 1 < len(held) == held[-1] - held[0] + 1


def _lie_between_each_other(fact: str, groups: Sequence[Sequence[Frame]]) -> bool:
    """Whether groups are regular grids of one spacing that overlap, and so are several volumes.

    Facts in `_CHANGING` may alternate within one volume: with them the groups are several only if together they are no
    grid. With any other fact they are several even then: two echoes stay apart where their slices alternate.
    """
    normal = np.cross(*groups[0][0].orientation)
    ends = sorted(
        (min(depths), max(depths)) for depths in ([float(frame.position @ normal) for frame in g] for g in groups)
    )
    if all(before[1] < after[0] for before, after in pairwise(ends)):
        return False
    grids = [_grid(group) for group in groups]
    spacings = [grid.step_mm for grid in grids if grid]
    if not all(grids) or max(spacings) > 1.1 * min(spacings):
        return False
    return fact not in _CHANGING or _grid([frame for group in groups for frame in group]) is None


def _grid(frames: Sequence[Frame]) -> Grid | None:
    """Returns the grid of the frames, or None when they form none."""
    try:
        return arrange(frames)
    except SeriesError:
        return None


def _in_turn(levels: Sequence[Sequence[Frame]]) -> list[list[Frame]]:
    """Returns the images at each place in the order they were taken: by a changing fact, time, or number."""
    counts = set(map(len, levels))
    orders: list[Callable[[Frame], tuple[float, str]]] = [
        *(partial(_by_fact, fact) for fact in FACT_NAMES),
        lambda frame: (0.0, frame.acquired + frame.made),
        lambda frame: (_number(frame.instance_number), ""),
    ]
    for order in orders:
        if len(counts) == 1 and all(len(set(map(order, level))) == len(level) for level in levels):
            return [sorted(level, key=order) for level in levels]
    doubled = next(level for level in levels if len(level) > 1)
    raise SeriesError(
        f"two images at one place and nothing in their headers tells them apart: {doubled[0]}, {doubled[1]}"
    )


def _by_fact(fact: str, frame: Frame) -> tuple[float, str]:
    """Returns a sort key: the number that a fact is. Words have no order, so all of them count as equal."""
    return _number(frame.facts.get(fact, "")), ""


def _number(text: str) -> float:
    """Returns the number that a text holds; infinite for words."""
    try:
        number = float(text)
    except ValueError:
        return math.inf
    return number if math.isfinite(number) else math.inf

"""Segments a prepared image: coarsely at once (zoom out), then in windows around what was found (zoom in).

It does as upstream does, voxel for voxel: a user's box is used again in the second look only when one window holds the
whole region, and boxes and points lie off by half the padding where the region is smaller than the window.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from voxtell.errors import PromptError
from voxtell.segvol.network import SegVol
from voxtell.segvol.prompt_encoder import IGNORED, INSIDE, WindowPrompt
from voxtell.two_way import Grid

POINTS = 5  # points per window

Points = tuple[Tensor, Tensor]  # (n, 3) voxels of a window, and their labels (n)
Draw = Callable[[int, Tensor], Points]
"""Chooses points for a window, by its number and the voxels (n, 3) of the user's points in it."""


@dataclass(frozen=True)
class ZoomResult:
    """Holds what was found of one prompt. Grids are those of the prepared image (D, H, W).

    region: lowest and highest index that the second look read, one triple after the other; None when it did not take
    place. boxes: what the windows were given as box (6), in their order.
    """

    logits: Tensor
    coarse: Tensor
    mask: Tensor
    region: tuple[int, ...] | None = None
    windows: int = 0
    boxes: tuple[Tensor, ...] = ()


def segment(network: SegVol, image: Tensor, zoomed: Tensor, prompt: WindowPrompt, draw: Draw) -> ZoomResult:
    """Returns what a prompt means in an image (D, H, W), given as a whole in the shape of a window (`zoomed`).

    The box and the points of the prompt count voxels of `zoomed`.

    Raises:
        PromptError: when the prompt has both a box and points, which the second look cannot use together.
    """
    if prompt.box is not None and prompt.points is not None:
        raise PromptError("the prompt has a box and points; this model takes one of the two")
    logits = _resized(network.logits(network.encode(zoomed), prompt), image.shape)
    coarse = torch.sigmoid(logits) > 0.5
    if not coarse.any():
        return ZoomResult(logits, coarse, coarse)
    region = _region(coarse, network.sizes.window)
    cut = tuple(slice(low, high + 1) for low, high in region)
    look = _Look(network, image[cut], coarse[cut], _marks(prompt, network.sizes.window, image.shape, cut), draw)
    logits[cut] = look.logits(prompt)
    corners = (*(low for low, _ in region), *(high for _, high in region))
    return ZoomResult(logits, coarse, torch.sigmoid(logits) > 0.5, corners, len(look.corners), tuple(look.boxes))


def drawn(generator: torch.Generator) -> Draw:
    """Returns a choice of points as upstream makes it, from a generator: one, then up to four of all."""

    def draw(_number: int, voxels: Tensor) -> Points:
        count = len(voxels)
        if not count:
            return torch.full((1, 3), IGNORED), torch.full((1,), IGNORED)
        first = torch.randint(count, (1,), generator=generator)
        more = torch.randperm(count, generator=generator)[: POINTS - 1]
        chosen = voxels[torch.cat((first, more)).to(voxels.device)]
        missing = POINTS - len(chosen)
        filled = torch.cat((chosen, chosen.new_full((missing, 3), IGNORED)))
        return filled, torch.tensor([INSIDE] * len(chosen) + [IGNORED] * missing)

    return draw


class _Look:
    """Looks at a region window by window."""

    def __init__(self, network: SegVol, image: Tensor, coarse: Tensor, marks: Tensor | None, draw: Draw) -> None:
        self.network = network
        self.window = network.sizes.window
        self.shape = image.shape
        missing = [max(0, size - have) for size, have in zip(self.window, image.shape, strict=True)]
        self.before = [count // 2 for count in missing]
        pads = [(count // 2, count - count // 2) for count in missing]
        self.pads = [pad for pair in reversed(pads) for pad in pair]  # the last axis first, as torch wants them
        self.image = functional.pad(image, self.pads)
        self.coarse = functional.pad(coarse, self.pads)
        self.marks = marks  # not padded: upstream does not either
        self.draw = draw
        self.corners = list(_corners(self.image.shape, self.window))
        self.boxes: list[Tensor] = []

    def logits(self, prompt: WindowPrompt) -> Tensor:
        """Returns the logits of the region (D, H, W): the mean of the windows at every voxel."""
        total, count = torch.zeros_like(self.image), torch.zeros_like(self.image)
        for number, corner in enumerate(self.corners):
            cut = tuple(slice(low, low + size) for low, size in zip(corner, self.window, strict=True))
            asked = self._prompt(prompt, number, cut)
            total[cut] += self.network.logits(self.network.encode(self.image[cut]), asked)
            count[cut] += 1
        within = tuple(slice(low, low + size) for low, size in zip(self.before, self.shape, strict=True))
        return (total / count)[within]

    def _prompt(self, prompt: WindowPrompt, number: int, cut: tuple[slice, ...]) -> WindowPrompt:
        """Returns the prompt for one window."""
        if self.marks is None:
            return prompt
        own = prompt.box is not None and len(self.corners) == 1
        box = _bounds(self.marks if own else self.coarse[cut])
        self.boxes.append(box)
        if prompt.points is None:
            return replace(prompt, box=box)
        points, labels = self.draw(number, self.marks[cut].nonzero())
        return replace(prompt, box=box, points=points.to(box.device), labels=labels.to(box.device))


def _resized(volume: Tensor, shape: torch.Size) -> Tensor:
    """Returns a volume (D, H, W) in another shape, each voxel from the nearest."""
    return functional.interpolate(volume[None, None], size=tuple(shape), mode="nearest")[0, 0]


def _region(mask: Tensor, window: Grid) -> list[tuple[int, int]]:
    """Returns the lowest and highest index per axis to look at again: the mask's bounds, grown to a window."""
    bounds = _bounds(mask).tolist()
    region = []
    for low, high, size, length in zip(bounds[:3], bounds[3:], window, mask.shape, strict=True):
        growth = max(0, size - (high - low + 1)) // 2
        # Upstream's highest index may equal the length; the slice is cut there.
        region.append((max(0, low - growth), min(length, high + growth)))
    return region


def _marks(prompt: WindowPrompt, window: Grid, shape: torch.Size, cut: tuple[slice, ...]) -> Tensor | None:
    """Returns the voxels (D, H, W) of a region that the user's box or positive points mark; None without any."""
    source = prompt.box if prompt.box is not None else prompt.points
    if source is None:
        return None
    marks = torch.zeros(window, device=source.device)
    if prompt.box is not None:
        low, high = prompt.box.reshape(2, 3).long().tolist()
        marks[tuple(slice(a, b + 1) for a, b in zip(low, high, strict=True))] = 1
    elif prompt.points is not None and prompt.labels is not None:
        marks[tuple(prompt.points[prompt.labels == INSIDE].long().T)] = 1
    return _resized(marks, shape)[cut] > 0


def _bounds(mask: Tensor) -> Tensor:
    """Returns the lowest and the highest index (6) of a mask (D, H, W), both inside; all -1 where it is empty."""
    voxels = mask.nonzero()
    if not len(voxels):
        return torch.full((6,), IGNORED, device=mask.device)
    return torch.cat((voxels.amin(dim=0), voxels.amax(dim=0)))


def _corners(shape: torch.Size, window: Grid) -> Iterator[tuple[int, ...]]:
    """Yields the lowest corner of each window: half a window apart, the last moved back into the image."""
    axes = []
    for length, size in zip(shape, window, strict=True):
        step = size if length == size else size // 2
        axes.append([min(n * step, length - size) for n in range(math.ceil((length - size) / step) + 1)])
    return itertools.product(*axes)

"""Looks at validation patients during training: the same few patches every time, so that figures can be compared."""

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from voxtell.training.sampling import PatchSampler, Sample

if TYPE_CHECKING:
    from voxtell.training.loop import Trainer


def fixed_patches(sampler: PatchSampler, count: int = 20) -> list[Sample]:
    """Returns the patches that every check looks at."""
    return [next(sampler) for _ in range(count)]


@torch.inference_mode()
def patch_dice(trainer: "Trainer", patches: Sequence[Sample]) -> dict[str, float]:
    """Returns the Dice of the averaged weights per structure, pooled over the patches, and their mean under "dice"."""
    network = trainer.averaged_network()
    overlap: dict[str, float] = defaultdict(float)
    size: dict[str, float] = defaultdict(float)
    for patch in patches:
        with torch.autocast(trainer.device.type, dtype=torch.bfloat16, enabled=trainer.autocast):
            found = network(patch.image.to(trainer.device), patch.text.to(trainer.device))[0][0].cpu() > 0
        for structure, mask, target in zip(patch.structures, found, patch.target[0] > 0.5, strict=True):
            if structure:
                overlap[structure] += 2 * float((mask & target).sum())
                size[structure] += float(mask.sum() + target.sum())
    dice = {structure: round(overlap[structure] / size[structure], 4) for structure in sorted(size) if size[structure]}
    return {**dice, "dice": round(sum(dice.values()) / max(1, len(dice)), 4)}

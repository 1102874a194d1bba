"""Computes Dice plus cross-entropy at every scale of the decoder, with unlabelled structures left out."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

DICE_SMOOTHING = 1.0
"""Voxels added to numerator and denominator: keeps Dice defined for an empty mask."""
ENTROPY_WEIGHT = 0.3
ENTROPY_FLOOR = 1e-3
"""Share of the map's voxels that is added to a structure's size before the cross-entropy is divided by it. For an empty
target, a false mask of that size costs as much as a whole missed structure."""


def dice_and_cross_entropy(logits: Tensor, target: Tensor, known: Tensor) -> Tensor:
    """Returns the loss of soft masks as a scalar.

    A structure fills a thousandth of a patch. Averaged over the patch, its cross-entropy is so small that an early
    network answers "empty" to everything, where Dice has no gradient either. So the summed cross-entropy is divided
    by the structure's size instead: every structure weighs the same, and a missed one always pulls.

    Dice is the form that is least where the mask equals a target of shares (Wang et al., Dice Semimetric Losses, MICCAI
    2023); for whole voxels it is the usual soft Dice. Soft Dice itself would fill every voxel that is a third inside.

    Args:
        logits: (B, P, S, A, R), any real number.
        target: (B, P, S, A, R), share of each voxel that belongs to the structure, 0 to 1.
        known: (B, P) bool; False where the structure is not contoured in that patient. Such a mask adds neither
            loss nor gradient.

    Returns:
        The mean over known masks of weighted cross-entropy plus (for masks that are not empty) one minus Dice.
    """
    logits, target = logits[known].float().flatten(1), target[known].float().flatten(1)
    if not len(logits):
        return logits.sum()
    size = target.sum(1)
    entropy = functional.binary_cross_entropy_with_logits(logits, target, reduction="none").sum(1)
    entropy = entropy / (size + ENTROPY_FLOOR * target.shape[1])
    chance = logits.sigmoid()
    both = chance.sum(1) + size
    dice = (both - (chance - target).abs().sum(1) + DICE_SMOOTHING) / (both + DICE_SMOOTHING)
    return (ENTROPY_WEIGHT * entropy + (1 - dice) * (size > 0)).mean()


def deep_supervision(logits: Sequence[Tensor], target: Tensor, known: Tensor) -> Tensor:
    """Returns the weighted mean of `dice_and_cross_entropy` over the scales, finest first; each next counts half.

    `target` (B, P, S, A, R) at full resolution; coarser targets are the share of a voxel that is inside.
    """
    weights = [0.5**scale for scale in range(len(logits))]
    total = torch.zeros((), device=target.device)
    for weight, scale in zip(weights, logits, strict=True):
        s, a, r = scale.shape[2:]
        total = total + weight * dice_and_cross_entropy(scale, functional.adaptive_avg_pool3d(target, (s, a, r)), known)
    return total / sum(weights)

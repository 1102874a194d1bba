"""Segments a volume by several texts: the most probable structure at each voxel, if any is more probable than not."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from voxtell.errors import PromptError
from voxtell.text3dsam.network import Text3DSAM
from voxtell.two_way import Grid

HIGHEST_LABEL = 255


def resized(volume: npt.NDArray[np.number], shape: Grid) -> Tensor:
    """Returns a volume (D, H, W) as float32 in another shape, linearly between its voxels. Spacing takes no part."""
    values = torch.from_numpy(np.asarray(volume, np.float32))[None, None]
    return functional.interpolate(values, size=shape, mode="trilinear", align_corners=False)[0, 0]


def segment(network: Text3DSAM, volume: npt.NDArray[np.number], prompts: Mapping[int, Tensor]) -> npt.NDArray[np.uint8]:
    """Returns uint8 (D, H, W): at each voxel the label of the most probable structure, 0 where none exceeds one half.

    Of structures that are equally probable the earlier prompt has the voxel.

    Args:
        network: the network, in evaluation mode.
        volume: (D, H, W), values 0 to 255.
        prompts: label 1 to 255 -> text vector (C), in the order in which ties are decided.

    Raises:
        PromptError: when a label is not 1 to 255.
    """
    for label in prompts:
        if not 1 <= label <= HIGHEST_LABEL:
            raise PromptError(f"the label {label} cannot be written; use one from 1 to {HIGHEST_LABEL}")
    features = network.encode(resized(volume, network.sizes.image))
    labels = torch.zeros(volume.shape, dtype=torch.uint8)
    best = torch.full(volume.shape, 0.5)
    for label, text in prompts.items():
        low = network.low(features, text)[None, None]
        logits = functional.interpolate(low, size=volume.shape, mode="trilinear", align_corners=False)[0, 0]
        probability = torch.sigmoid(logits)
        better = probability > best
        labels[better] = label
        best[better] = probability[better]
    return labels.numpy()

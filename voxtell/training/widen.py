"""Puts a trained model's weights into a network with more channels, so that its training need not begin anew.

Old channels keep their weights. New ones read the old at random and are read with weight zero: the wider network starts
with the narrower one's masks and learns from there (after Chen et al. 2016, "Net2Net").
"""

import re
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from voxtell.model.network import VoxTell
from voxtell.model.plans import Plans
from voxtell.training.dataset import DatasetError

# Weights of the mask decoder that read two things along one axis: up-sampled features and the encoder's skip, or
# features and guidance maps.
FUSES = re.compile(r"^decoder\.stages\.\d+\.convs\.0\.conv\.weight$")
LIFTS = re.compile(r"^decoder\.transpconvs\.(\d+)\.weight$")
HEADS = re.compile(r"^decoder\.seg_layers\.(\d+)\.weight$")
# The projections from prompts to the mask decoder. Their outputs for a new channel are how that channel is read.
GUIDANCE = re.compile(r"^project_to_decoder_channels\.(\d+)\.2\.(weight|bias)$")


def widen(network: VoxTell, plans: Plans, seed: int = 0) -> dict[str, Tensor]:
    """Returns the state dict of a network of `plans` that computes what `network` does.

    seed: of the random weights of new channels.

    Raises:
        DatasetError: when the plans differ in more than the encoder's features, or features become fewer.
    """
    old = network.plans
    features = plans.encoder.features
    if replace(plans, card=old.card, encoder=replace(plans.encoder, features=old.encoder.features)) != old:
        raise DatasetError("the plans differ in more than the encoder's features; only those can become more")
    if any(was > will for was, will in zip(old.encoder.features, features, strict=True)):
        raise DatasetError(f"the encoder's features were {old.encoder.features}; they cannot shrink to {features}")
    torch.manual_seed(seed)
    wide, narrow = VoxTell(plans).state_dict(), network.state_dict()
    # A residual block that does not change the width has no projection around it.
    if lost := sorted(narrow.keys() - wide.keys()):
        raise DatasetError(f"features {features} leave no place for {lost[0]}; no two stages may become equally wide")
    for name, was in narrow.items():
        _place(name, was, wide[name], old, plans)
    return {name: wide[name] for name in narrow}


def _place(name: str, was: Tensor, value: Tensor, old: Plans, new: Plans) -> None:
    """Writes old weights into the wider tensor of the same name, and zero where new channels are read."""
    places = [_kept(*sizes) for sizes in zip(_parts(name, was, old), _parts(name, value, new), strict=True)]
    if GUIDANCE.match(name):
        value.zero_()
    elif was.dim() > 1:
        reads = 0 if LIFTS.match(name) else 1
        fresh = np.setdiff1d(np.arange(value.shape[reads]), places[reads])
        value.index_fill_(reads, torch.from_numpy(fresh), 0)
    value[np.ix_(*places)] = was.to(value.dtype)


def _kept(before: list[int], after: list[int]) -> npt.NDArray[np.int_]:
    """Returns where the entries of an axis come to lie: each of its parts keeps its beginning."""
    starts = np.cumsum([0, *after[:-1]])
    return np.concatenate([start + np.arange(size) for start, size in zip(starts, before, strict=True)])


def _parts(name: str, value: Tensor, plans: Plans) -> list[list[int]]:
    """Returns the sizes of the parts along each axis of a weight: features, then skip or guidance maps."""
    sizes = [[size] for size in value.shape]
    maps, unguided = plans.prompt.guidance_channels, plans.decoder_stages - plans.prompt.fusion_stages
    if found := GUIDANCE.match(name):
        width = plans.encoder.features[int(found[1])]
        sizes[0] = [width] * (value.shape[0] // width)
    elif FUSES.match(name):
        sizes[1] = [value.shape[1] // 2] * 2
    elif found := LIFTS.match(name):
        if int(found[1]) > unguided:
            sizes[0] = [value.shape[0] - maps, maps]
    elif (found := HEADS.match(name)) and int(found[1]) >= unguided and plans.prompt.fusion_stages > 1:
        sizes[1] = [value.shape[1] - maps, maps]
    return sizes

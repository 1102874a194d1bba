"""Weights and inputs that both environments draw alike: numpy's generator, one stream per name."""

import re
import zlib
from collections.abc import Mapping

import numpy as np
import torch

ALIAS = re.compile(r"^decoder\.encoder\.|\.all_modules\.")


def seeded_weights(state: Mapping[str, torch.Tensor], seed: int) -> dict[str, torch.Tensor]:
    """A value for every tensor of a state dict but its aliases and the position encoding.

    Spread as a trained network's are: outputs of each layer keep the size of its inputs, normalizations are near one.
    """
    weights = {}
    for name, tensor in state.items():
        if ALIAS.search(name) or name == "pos_embed":
            continue
        generator = np.random.default_rng([seed, zlib.crc32(name.encode())])
        values = torch.from_numpy(generator.standard_normal(tuple(tensor.shape), dtype=np.float32))
        if tensor.dim() > 1:
            values /= np.sqrt(tensor[0].numel())
        elif name.endswith("weight"):
            values = 1 + 0.1 * values
        else:
            values *= 0.1
        weights[name] = values
    return weights


def seeded_embeddings(prompts: int, dim: int, seed: int) -> torch.Tensor:
    """Embeddings (prompts, dim) of no text in particular."""
    return torch.from_numpy(np.random.default_rng([seed, 1]).standard_normal((prompts, dim), dtype=np.float32))

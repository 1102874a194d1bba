"""The prompt side: text queries look at the image's memory through cross-attention."""

from math import ceil
from typing import cast

import torch
from torch import Tensor, nn

from voxtell.plans import PromptPlans, Triple


class PromptDecoderLayer(nn.Module):
    """q + attention to the memory, then q + feed-forward, each on the normalized q.

    `self_attn` and `norm1` are part of every published checkpoint and take no part in the computation: prompts never
    see each other, so any split of the prompts into batches gives the same result.
    """

    def __init__(self, plans: PromptPlans) -> None:
        super().__init__()
        width = plans.query_dim
        self.self_attn = nn.MultiheadAttention(width, plans.heads)
        self.multihead_attn = nn.MultiheadAttention(width, plans.heads)
        self.linear1 = nn.Linear(width, plans.ffn_dim)
        self.linear2 = nn.Linear(plans.ffn_dim, width)
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)
        self.norm3 = nn.LayerNorm(width)
        for unused in (self.self_attn, self.norm1):
            unused.requires_grad_(False)

    def forward(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Queries (P, B, Q), keys and values (N, B, Q) -> queries (P, B, Q)."""
        attended, _ = self.multihead_attn(self.norm2(queries), keys, values, need_weights=False)
        queries = queries + attended
        expanded = torch.relu(self.linear1(self.norm3(queries)))
        return queries + cast(Tensor, self.linear2(expanded))


class PromptDecoder(nn.Module):
    """A stack of layers with a final normalization."""

    def __init__(self, plans: PromptPlans) -> None:
        super().__init__()
        self.layers = nn.ModuleList(PromptDecoderLayer(plans) for _ in range(plans.layers))
        self.norm = nn.LayerNorm(plans.query_dim)

    def forward(self, queries: Tensor, memory: Tensor, positions: Tensor) -> Tensor:
        """Queries (P, B, Q), memory (N, B, Q), positions (N, 1, Q) added to the keys only -> queries (P, B, Q)."""
        keys = memory + positions
        for layer in self.layers:
            queries = layer(queries, keys, memory)
        normalized: Tensor = self.norm(queries)
        return normalized


def sine_positions(grid: Triple, width: int) -> Tensor:
    """Sinusoidal position encoding (N, 1, width) of the N voxels of a grid, the last axis running fastest.

    Each axis has a third of the width (rounded up to an even number; the end is cut off), sine and cosine alternating,
    with wavelengths in geometric progression from 2 pi to 10000 * 2 pi voxels (Vaswani et al. 2017, section 3.5).
    """
    per_axis = 2 * ceil(width / 6)
    frequencies = 10000.0 ** (-torch.arange(0, per_axis, 2, dtype=torch.float32) / per_axis)
    parts = []
    for axis, size in enumerate(grid):
        angles = torch.arange(size, dtype=torch.float32)[:, None] * frequencies
        waves = torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(1)
        shape = [1, 1, 1, per_axis]
        shape[axis] = size
        parts.append(waves.view(shape).expand(*grid, per_axis))
    return torch.cat(parts, dim=-1)[..., :width].reshape(-1, 1, width).contiguous()

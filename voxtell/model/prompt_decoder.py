"""Lets the text queries look at the image's features through cross-attention.

Shapes follow `nn.MultiheadAttention`, sequence first: queries (P, B, Q), memory (N, B, Q), for P prompts, B images,
N tokens (the voxels of one encoder stage) and width Q.
"""

from math import ceil
from typing import cast

import torch
from torch import Tensor, nn

from voxtell.model.plans import PromptPlans, Triple

PUBLISHED_ORDER = (1, 2, 0)  # axes of the array (S, A, R) in the order in which published weights number the tokens


class PromptDecoderLayer(nn.Module):
    """Adds attention to the memory, then a feed-forward network, to the queries; each reads the normalized queries.

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
        """Returns updated queries (P, B, Q), from queries of that shape and keys and values (N, B, Q)."""
        attended, _ = self.multihead_attn(self.norm2(queries), keys, values, need_weights=False)
        queries = queries + attended
        expanded = torch.relu(self.linear1(self.norm3(queries)))
        return queries + cast(Tensor, self.linear2(expanded))


class PromptDecoder(nn.Module):
    """Stacks the layers and normalizes what the last one returns."""

    def __init__(self, plans: PromptPlans) -> None:
        super().__init__()
        self.layers = nn.ModuleList(PromptDecoderLayer(plans) for _ in range(plans.layers))
        self.norm = nn.LayerNorm(plans.query_dim)

    def forward(self, queries: Tensor, memory: Tensor, positions: Tensor) -> Tensor:
        """Returns queries (P, B, Q) that have looked at the image.

        queries: (P, B, Q), the projected texts. memory: (N, B, Q), the projected features. positions: (N, 1, Q), added
        to the keys only, not to the values.
        """
        keys = memory + positions
        for layer in self.layers:
            queries = layer(queries, keys, memory)
        normalized: Tensor = self.norm(queries)
        return normalized


def sine_positions(grid: Triple, width: int) -> Tensor:
    """Returns the sinusoidal position encoding (N, 1, width) of the N voxels of a grid (S, A, R), R running fastest.

    The encodings of the positions along A, R and S follow one another. Each takes a third of the width, rounded up to
    an even number, and what exceeds `width` is cut off. Sine and cosine alternate; the wavelengths form a geometric
    progression from 2 pi to 10000 * 2 pi voxels (Vaswani et al. 2017, section 3.5).
    """
    per_axis = 2 * ceil(width / 6)
    frequencies = 10000.0 ** (-torch.arange(0, per_axis, 2, dtype=torch.float32) / per_axis)
    parts = []
    for axis in PUBLISHED_ORDER:
        angles = torch.arange(grid[axis], dtype=torch.float32)[:, None] * frequencies
        shape = [1, 1, 1, per_axis]
        shape[axis] = grid[axis]
        waves = torch.stack((angles.sin(), angles.cos()), dim=-1).view(shape)
        parts.append(waves.expand(*grid, per_axis))
    return torch.cat(parts, dim=-1)[..., :width].reshape(-1, 1, width).contiguous()


def from_published_order(positions: Tensor, grid: Triple) -> Tensor:
    """Returns a published position table (N, 1, width) with its tokens reordered from (A, R, S) to (S, A, R).

    Attention does not depend on the order of its memory, as long as each voxel keeps its own encoding.
    """
    published = [grid[axis] for axis in PUBLISHED_ORDER]
    back = [PUBLISHED_ORDER.index(axis) for axis in range(3)]
    return positions.view(*published, -1).permute(*back, 3).reshape(positions.shape)

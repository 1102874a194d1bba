"""Turns a window into one vector per patch: a vision transformer in three dimensions."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from voxtell.segvol.sizes import SegVolSizes
from voxtell.two_way import Grid


class _Patches(nn.Module):
    """Cuts a window into patches, each a row of its voxels."""

    def __init__(self, patch: Grid) -> None:
        super().__init__()
        self.patch = patch

    def forward(self, window: Tensor) -> Tensor:
        """Returns (B, tokens, voxels per patch) of windows (B, 1, D, H, W)."""
        (d, h, w), (batch, _, depth, height, width) = self.patch, window.shape
        cut = window.reshape(batch, depth // d, d, height // h, h, width // w, w)
        return cut.permute(0, 1, 3, 5, 2, 4, 6).reshape(batch, -1, d * h * w)


class _PatchEmbedding(nn.Module):
    """Embeds each patch and adds what was learnt about its place."""

    def __init__(self, sizes: SegVolSizes) -> None:
        super().__init__()
        d, h, w = sizes.patch
        tokens = sizes.grid[0] * sizes.grid[1] * sizes.grid[2]
        self.position_embeddings = nn.Parameter(torch.zeros(1, tokens, sizes.width))
        self.patch_embeddings = nn.Sequential(_Patches(sizes.patch), nn.Linear(d * h * w, sizes.width))

    def forward(self, window: Tensor) -> Tensor:
        """Returns (B, tokens, C) of windows (B, 1, D, H, W)."""
        output: Tensor = self.patch_embeddings(window) + self.position_embeddings
        return output


class _PatchAttention(nn.Module):
    """Lets every patch read every other."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out_proj = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Returns (B, N, C) of tokens (B, N, C)."""
        q, k, v = self.qkv(tokens).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        read = functional.scaled_dot_product_attention(q, k, v)
        output: Tensor = self.out_proj(read.transpose(1, 2).flatten(2))
        return output


class _PatchMlp(nn.Module):
    """Transforms each token by itself: linear, GELU, linear."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.linear1 = nn.Linear(width, hidden)
        self.linear2 = nn.Linear(hidden, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Returns (B, N, C) of tokens (B, N, C)."""
        output: Tensor = self.linear2(functional.gelu(self.linear1(tokens)))
        return output


class _PatchBlock(nn.Module):
    """One layer of the transformer; normalizes before each part."""

    def __init__(self, sizes: SegVolSizes) -> None:
        super().__init__()
        self.mlp = _PatchMlp(sizes.width, sizes.image_hidden)
        self.norm1 = nn.LayerNorm(sizes.width)
        self.attn = _PatchAttention(sizes.width, sizes.image_heads)
        self.norm2 = nn.LayerNorm(sizes.width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Returns (B, N, C) of tokens (B, N, C)."""
        tokens = tokens + self.attn(self.norm1(tokens))
        output: Tensor = tokens + self.mlp(self.norm2(tokens))
        return output


class PatchEncoder(nn.Module):
    """Encodes a window; the prompts take no part in it."""

    def __init__(self, sizes: SegVolSizes) -> None:
        super().__init__()
        self.grid = sizes.grid
        self.patch_embedding = _PatchEmbedding(sizes)
        self.blocks = nn.ModuleList(_PatchBlock(sizes) for _ in range(sizes.image_layers))
        self.norm = nn.LayerNorm(sizes.width)

    def forward(self, window: Tensor) -> Tensor:
        """Returns (B, C, tokens D, H, W) of windows float32 (B, 1, D, H, W), values 0 to 1."""
        tokens = self.patch_embedding(window)
        for block in self.blocks:
            tokens = block(tokens)
        output: Tensor = self.norm(tokens).transpose(1, 2).unflatten(-1, self.grid)
        return output

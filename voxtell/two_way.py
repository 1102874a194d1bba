"""Layers that SegVol and Text3DSAM share: tokens and an image that attend to each other, and Fourier positions.

Grids are (D, H, W), index 0 slowest. B is the batch, N a number of tokens, C a width. Attributes are named as the
published checkpoints name their tensors.
"""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor, nn
from torch.nn import functional

Grid = tuple[int, int, int]


class Attention(nn.Module):
    """Lets queries (B, N, C) read values (B, M, C) by their keys; computes inside `inner` numbers, in `heads` parts."""

    def __init__(self, width: int, heads: int, inner: int | None = None) -> None:
        super().__init__()
        inner = width if inner is None else inner
        self.heads = heads
        self.q_proj = nn.Linear(width, inner)
        self.k_proj = nn.Linear(width, inner)
        self.v_proj = nn.Linear(width, inner)
        self.out_proj = nn.Linear(inner, width)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, *, causal: bool = False) -> Tensor:
        """Returns (B, N, C). causal: whether token n reads tokens 0 to n only."""
        q, k, v = (
            projected.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for projected in (self.q_proj(query), self.k_proj(key), self.v_proj(value))
        )
        read = functional.scaled_dot_product_attention(q, k, v, is_causal=causal)
        output: Tensor = self.out_proj(read.transpose(1, 2).flatten(2))
        return output


class _TokenMlp(nn.Module):
    """Transforms each token by itself: linear, ReLU, linear."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.lin1 = nn.Linear(width, hidden)
        self.lin2 = nn.Linear(hidden, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Returns (B, N, C) of tokens (B, N, C)."""
        output: Tensor = self.lin2(functional.relu(self.lin1(tokens)))
        return output


class _TwoWayLayer(nn.Module):
    """Lets the tokens read themselves and the image, then the image the tokens."""

    def __init__(self, width: int, heads: int, hidden: int, *, first: bool) -> None:
        super().__init__()
        self.first = first
        self.self_attn = Attention(width, heads)
        self.norm1 = nn.LayerNorm(width)
        self.cross_attn_token_to_image = Attention(width, heads, width // 2)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = _TokenMlp(width, hidden)
        self.norm3 = nn.LayerNorm(width)
        self.norm4 = nn.LayerNorm(width)
        self.cross_attn_image_to_token = Attention(width, heads, width // 2)

    def forward(self, tokens: Tensor, image: Tensor, token_places: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
        """Returns tokens (B, N, C) and image (B, voxels, C). `token_places` and `places` are added where they read."""
        if self.first:  # the tokens are their own places here, and nothing of them is kept beside what they read
            tokens = self.self_attn(tokens, tokens, tokens)
        else:
            placed = tokens + token_places
            tokens = tokens + self.self_attn(placed, placed, tokens)
        tokens = self.norm1(tokens)
        seen = image + places
        tokens = self.norm2(tokens + self.cross_attn_token_to_image(tokens + token_places, seen, image))
        tokens = self.norm3(tokens + self.mlp(tokens))
        image = self.norm4(image + self.cross_attn_image_to_token(seen, tokens + token_places, tokens))
        return tokens, image


class TwoWayTransformer(nn.Module):
    """Exchanges what the tokens of a prompt and the voxels of an image know."""

    def __init__(self, depth: int, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(_TwoWayLayer(width, heads, hidden, first=number == 0) for number in range(depth))
        self.final_attn_token_to_image = Attention(width, heads, width // 2)
        self.norm_final_attn = nn.LayerNorm(width)

    def forward(self, image: Tensor, places: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Returns tokens (B, N, C) and image (B, voxels, C), of an image (B, C, D, H, W) and places of its shape."""
        seen, spots = image.flatten(2).transpose(1, 2), places.flatten(2).transpose(1, 2)
        token_places = tokens
        for layer in self.layers:
            tokens, seen = layer(tokens, seen, token_places, spots)
        read = self.final_attn_token_to_image(tokens + token_places, seen + spots, seen)
        return self.norm_final_attn(tokens + read), seen


class FourierPositions(nn.Module):
    """Turns places into C numbers: sines and cosines of random directions."""

    positional_encoding_gaussian_matrix: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("positional_encoding_gaussian_matrix", torch.zeros(3, width // 2))

    def forward(self, places: Tensor) -> Tensor:
        """Returns (..., C) of places (..., 3), each coordinate 0 to 1 from edge to edge."""
        angles = 2 * math.pi * ((2 * places - 1) @ self.positional_encoding_gaussian_matrix)
        return torch.cat((angles.sin(), angles.cos()), dim=-1)

    def of_grid(self, grid: Grid) -> Tensor:
        """Returns (C, D, H, W): the positions of the voxels' centres.

        The weights were trained with coordinates in the order (H, D, W), as networks of flat images stack them.
        """
        device = self.positional_encoding_gaussian_matrix.device
        centres = [(torch.arange(count, device=device) + 0.5) / count for count in grid]
        d, h, w = torch.meshgrid(*centres, indexing="ij")
        positions: Tensor = self(torch.stack((h, d, w), dim=-1))
        return positions.permute(3, 0, 1, 2)


class Mlp(nn.Module):
    """Applies linear layers with a ReLU between them."""

    def __init__(self, *widths: int) -> None:
        super().__init__()
        pairs = itertools.pairwise(widths)
        self.layers = nn.ModuleList(nn.Linear(before, after) for before, after in pairs)

    def forward(self, values: Tensor) -> Tensor:
        """Returns (..., last width) of values (..., first width)."""
        for layer in self.layers[:-1]:
            values = functional.relu(layer(values))
        output: Tensor = self.layers[-1](values)
        return output

"""Encodes a volume at five scales with convolutions along one axis at a time.

Attributes are named as the published checkpoint names its tensors. B is the batch, C a width.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from voxtell.text3dsam.sizes import Text3DSAMSizes
from voxtell.two_way import Grid

STEM_KERNEL, STEM_STRIDE = 7, 4


class Decomposed(nn.Module):
    """Convolves along each axis by itself and adds the three, each normalized before unless not `normed`."""

    def __init__(
        self, before: int, after: int, kernel: int, *, stride: int = 1, groups: int = 1, normed: bool = True
    ) -> None:
        super().__init__()
        half = kernel // 2
        sizes: tuple[Grid, ...] = ((kernel, 1, 1), (1, kernel, 1), (1, 1, kernel))
        paddings: tuple[Grid, ...] = ((half, 0, 0), (0, half, 0), (0, 0, half))
        self.c1, self.c2, self.c3 = (
            nn.Sequential(
                nn.Conv3d(before, after, size, stride, padding, groups=groups),
                *([nn.BatchNorm3d(after)] if normed else []),
            )
            for size, padding in zip(sizes, paddings, strict=True)
        )

    def forward(self, volume: Tensor) -> Tensor:
        """Returns (B, after, D, H, W), coarser by the stride, of (B, before, D, H, W)."""
        output: Tensor = self.c1(volume) + self.c2(volume) + self.c3(volume)
        return output


class _VoxelMlp(nn.Module):
    """Transforms each voxel by itself: linear, GELU, linear."""

    def __init__(self, width: int) -> None:
        super().__init__()
        # The checkpoint numbers its layers with a dropout between, which does nothing here.
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Identity(), nn.Linear(4 * width, width))

    def forward(self, values: Tensor) -> Tensor:
        """Returns (..., C) of values (..., C)."""
        output: Tensor = self.mlp(values)
        return output


class _Coarser(nn.Module):
    """Halves a volume and changes its width, when the block is the first of its stage."""

    def __init__(self, before: int, after: int, *, first: bool) -> None:
        super().__init__()
        self.first = first
        if first:
            self.proj = nn.Conv3d(before, after, 1, bias=False)

    def coarser(self, volume: Tensor) -> Tensor:
        """Returns the volume (B, C, D, H, W) that the block works on."""
        if not self.first:
            return volume
        output: Tensor = self.proj(functional.max_pool3d(volume, 3, stride=2, padding=1))
        return output


class _ConvolutionBlock(_Coarser):
    """Adds what each voxel sees along the three axes."""

    def __init__(self, before: int, after: int, kernel: int, *, first: bool) -> None:
        super().__init__(before, after, first=first)
        self.scale = nn.Parameter(torch.ones(after))
        self.dwconv = Decomposed(after, after, kernel, groups=after)
        self.mlp = _VoxelMlp(after)

    def forward(self, volume: Tensor) -> Tensor:
        """Returns (B, C, D, H, W) of a volume (B, before, D, H, W)."""
        volume = self.coarser(volume)
        change = self.scale * self.mlp(self.dwconv(volume).movedim(1, -1))
        output: Tensor = volume + change.movedim(-1, 1)
        return output


class _VoxelAttention(nn.Module):
    """Lets every voxel read every other."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.proj = nn.Linear(width, width, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Returns (B, N, C) of tokens (B, N, C)."""
        q, k, v = self.qkv(tokens).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        # The weights were trained with scores multiplied by the root of their width where others divide.
        read = functional.scaled_dot_product_attention(q, k, v, scale=math.sqrt(q.shape[-1]))
        output: Tensor = self.proj(read.transpose(1, 2).flatten(2))
        return output


class _Places(nn.Module):
    """Tells a voxel its place by what lies around it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = Decomposed(width, width, 3, groups=width, normed=False)

    def forward(self, volume: Tensor) -> Tensor:
        """Returns (B, C, D, H, W) of a volume (B, C, D, H, W)."""
        output: Tensor = volume + self.proj(volume)
        return output


class _SpatialAttention(nn.Module):
    """Lets voxels read each other, then transforms each."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.cpe = nn.ModuleList([_Places(width), _Places(width)])
        self.attn = _VoxelAttention(width, heads)
        self.layer_norm1 = nn.LayerNorm(width)
        self.mlp1 = _VoxelMlp(width)
        self.layer_norm2 = nn.LayerNorm(width)

    def forward(self, volume: Tensor) -> Tensor:
        """Returns (B, C, D, H, W) of a volume (B, C, D, H, W)."""
        shape = volume.shape[2:]
        tokens = self.cpe[0](volume).flatten(2).transpose(1, 2)
        tokens = tokens + self.attn(self.layer_norm1(tokens))
        tokens = self.cpe[1](tokens.transpose(1, 2).unflatten(-1, shape)).flatten(2).transpose(1, 2)
        tokens = tokens + self.mlp1(self.layer_norm2(tokens))
        output: Tensor = tokens.transpose(1, 2).unflatten(-1, shape)
        return output


class _TransformerBlock(_Coarser):
    """One block of the coarsest stage."""

    def __init__(self, before: int, after: int, heads: int, *, first: bool) -> None:
        super().__init__(before, after, first=first)
        self.spatial_attention = _SpatialAttention(after, heads)

    def forward(self, volume: Tensor) -> Tensor:
        """Returns (B, C, D, H, W) of a volume (B, before, D, H, W)."""
        output: Tensor = self.spatial_attention(self.coarser(volume))
        return output


class VolumeEncoder(nn.Module):
    """Encodes a volume; the prompts take no part in it."""

    def __init__(self, sizes: Text3DSAMSizes) -> None:
        super().__init__()
        widths, blocks, kernels = sizes.widths, sizes.blocks, sizes.kernels
        stem = [Decomposed(1, widths[0], STEM_KERNEL, stride=STEM_STRIDE)]
        stem += [Decomposed(widths[0], widths[0], 3) for _ in range(3)]
        stages: dict[str, nn.Module] = {"s0": nn.Sequential(nn.Sequential(*stem))}
        for stage in (1, 2, 3):
            stages[f"s{stage}"] = nn.Sequential(
                *(
                    _ConvolutionBlock(widths[stage - 1], widths[stage], kernels[stage - 1], first=number == 0)
                    for number in range(blocks[stage])
                )
            )
        stages["s4"] = nn.Sequential(
            *(_TransformerBlock(widths[3], widths[4], sizes.heads, first=number == 0) for number in range(blocks[4]))
        )
        self.encoder = nn.ModuleDict(stages)

    def forward(self, volume: Tensor) -> list[Tensor]:
        """Returns the stages (B, C, D, H, W), finest first, of volumes float32 (B, 1, D, H, W), values 0 to 255."""
        features = []
        for stage in self.encoder.values():
            volume = stage(volume)
            features.append(volume)
        return features

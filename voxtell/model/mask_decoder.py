"""Decodes from coarse to fine: the encoder's features and one prompt's guidance become that prompt's logits.

Everything up to the first guided features is the same for all prompts of an image, and so is, in every later stage, the
part that reads the encoder's skip. Both are computed once (`share`). What remains for each prompt is smaller than it
looks, because between two activations everything is linear:

- a transposed convolution followed by a convolution is one transposed convolution with a larger kernel (`_compose`);
- the guidance maps are a matrix times the features, so they fold into that kernel (`_guided`).

Both are exact up to the order of summation. Shapes: C channels, C_in channels of the stage below, G guidance maps,
*k the size of a kernel (3 axes); grids are (s, a, r): superior, anterior, right.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, cast

import numpy as np
import torch
from dynamic_network_architectures.building_blocks.simple_conv_blocks import StackedConvBlocks
from torch import Tensor, nn
from torch.nn import functional

from voxtell.model.convolution import convolve_over
from voxtell.model.encoder import LEAKY_SLOPE, hide_aliases
from voxtell.model.normalization import normalize
from voxtell.model.plans import Plans

# How many heads may declare a prompt absent: those at a half and a quarter of the resolution. A small structure never
# fills most of a voxel on coarser grids, so their heads would declare every small structure absent.
TELLING_HEADS = 2


@dataclass(frozen=True)
class StageKernels:
    """Holds one stage's up-sampling and convolution as linear maps.

    up: (C_in + G, C, *k), the transposed convolution that stands for both; it reads features, then guidance maps.
    skip: (C, C, *k), the half of the convolution that reads the encoder's skip; its bias (C,) or None.
    offset: (C, 1, *k), the convolution of the up-sampling's bias, which the zero padding changes near the border.
    """

    up: Tensor
    skip: Tensor
    bias: Tensor | None
    offset: Tensor


@dataclass(frozen=True)
class Shared:
    """Holds what the prompts of one image have in common.

    features: (1, C, s, a, r) of the coarsest guided stage.
    constants: for every later stage i, what is added to its features before the normalization, (1, C_i, s_i, a_i, r_i).
    """

    features: Tensor
    constants: dict[int, Tensor]


class MaskDecoder(nn.Module):
    """Runs stages from the coarsest to the finest; stage i has the resolution of encoder stage `n_stages - 2 - i`."""

    def __init__(self, plans: Plans) -> None:
        super().__init__()
        encoder, prompt = plans.encoder, plans.prompt
        depth = plans.decoder_stages
        self.first_guided = depth - prompt.fusion_stages
        self.guidance_channels = prompt.guidance_channels
        self.norm_eps = encoder.norm_eps
        self.channels = encoder.features[-2::-1]
        maps = [prompt.guidance_channels if self.first_guided <= i < depth - 1 else 0 for i in range(depth)]
        widths = [encoder.features[-1]] + [c + m for c, m in zip(self.channels, maps, strict=True)]
        self.strides = encoder.strides[:0:-1]
        self.transpconvs = nn.ModuleList(
            nn.ConvTranspose3d(widths[i], c, self.strides[i], self.strides[i], bias=encoder.conv_bias)
            for i, c in enumerate(self.channels)
        )
        self.stages = nn.ModuleList(
            StackedConvBlocks(
                1, nn.Conv3d, 2 * c, c, encoder.kernel_sizes[-2 - i], 1, encoder.conv_bias,
                nn.InstanceNorm3d, {"eps": encoder.norm_eps, "affine": True}, nonlin=nn.LeakyReLU,
            )
            for i, c in enumerate(self.channels)
        )  # fmt: skip
        # Deep-supervision heads. The last one exists in every published checkpoint and is never used.
        last = self.channels[-1] + (prompt.guidance_channels if prompt.fusion_stages > 1 else 0)
        self.seg_layers = nn.ModuleList(nn.Conv3d(w, 1, 1) for w in [*widths[1:-1], last])
        for i, head in enumerate(self.seg_layers):
            head.requires_grad_(self.first_guided <= i < depth - 1)
        hide_aliases(self)

    def kernels(self) -> list[StageKernels]:
        """Returns every stage's linear maps. They depend on the weights alone: compute them once for inference."""
        return [self._compose(i) for i in range(len(self.stages))]

    def share(self, skips: list[Tensor], kernels: list[StageKernels]) -> Shared:
        """Returns what all prompts of one image have in common.

        skips: the encoder's features (1, C_i, s_i, a_i, r_i), finest first. At inference they may be overwritten.
        """
        features = skips[-1]
        for i in range(self.first_guided + 1):
            features = self._activate(i, self._lift(i, features, kernels[i].up), self._constant(i, skips, kernels[i]))
        constants = {i: self._constant(i, skips, kernels[i]) for i in range(self.first_guided + 1, len(self.stages))}
        if constants:
            first = min(constants)
            constants[first] = constants[first] + self._lift(first, features, kernels[first].up[: features.shape[1]])
        return Shared(features, constants)

    def forward(
        self,
        shared: Shared,
        guidance: list[Tensor],
        kernels: list[StageKernels],
        leave_below: float | None = None,
    ) -> list[Tensor]:
        """Returns one prompt's logits per scale, finest first: (1, 1, s, a, r). In evaluation mode only the finest.

        Args:
            shared: from `share`.
            guidance: the prompt's guidance per scale, finest first: (G * C_i,) each, and (C_0,) for the finest.
            kernels: from `kernels`.
            leave_below: a logit. When all logits of a telling head are below it, the largest of them is returned for
                the whole window, (1, 1, 1, 1, 1), and the finer stages are not run.
        """
        features, heads = shared.features, []
        for i, constant in shared.constants.items():
            channels = features.shape[1]
            weights = guidance[len(self.stages) - i].view(self.guidance_channels, channels)
            if self.training:
                heads.append(self._head(i - 1, features, weights))
            elif leave_below is not None and i >= len(self.stages) - TELLING_HEADS:
                largest = self._head(i - 1, features, weights).amax()
                if largest < leave_below:
                    return [largest.view(1, 1, 1, 1, 1)]
            if features is shared.features:  # the up-sampling of the features themselves is in the constant already
                maps = functional.conv3d(features, weights[:, :, None, None, None])
                lifted = self._lift(i, maps, kernels[i].up[channels:])
            else:
                lifted = self._lift(i, features, _guided(kernels[i].up, weights))
            features = self._activate(i, lifted, constant, guidance[0] if i == len(self.stages) - 1 else None)
        if not shared.constants:
            features = torch.einsum("bcsar,c->bsar", features, guidance[0])
        return [features[:, None], *reversed(heads)]

    def _head(self, i: int, features: Tensor, weights: Tensor) -> Tensor:
        """Returns the deep-supervision logits of stage i: its 1x1x1 head on features and guidance maps."""
        head = cast(nn.Conv3d, self.seg_layers[i])
        return functional.conv3d(features, _guided(head.weight.transpose(0, 1), weights).transpose(0, 1), head.bias)

    def _compose(self, i: int) -> StageKernels:
        """Composes stage i's up-sampling T and convolution K.

        y[v] = sum_d K[d] sum_c x[c] T[v + d - pad - stride * c]
        """
        up, conv = cast(nn.ConvTranspose3d, self.transpconvs[i]), self._block(i).conv
        of_up, of_skip = conv.weight.chunk(2, dim=1)
        bias = up.bias if up.bias is not None else of_up.new_zeros(of_up.shape[1])
        return StageKernels(
            up=_after(up.weight, of_up),
            skip=of_skip,
            bias=conv.bias,
            offset=torch.einsum("ocxyz,c->oxyz", of_up, bias)[:, None],
        )

    def _block(self, i: int) -> Any:
        """Returns stage i's only convolution block, with its parts `conv` and `norm`."""
        return cast(Any, self.stages[i]).convs[0]

    def _lift(self, i: int, features: Tensor, kernel: Tensor) -> Tensor:
        """Up-samples and convolves features (1, C_in, s, a, r) with a composed kernel, to the grid of stage i."""
        padding = [(k - s) // 2 for k, s in zip(kernel.shape[2:], self.strides[i], strict=True)]
        return functional.conv_transpose3d(features, kernel, stride=self.strides[i], padding=padding)

    def _constant(self, i: int, skips: list[Tensor], kernels: StageKernels) -> Tensor:
        """Returns what stage i adds for every prompt alike: the convolved skip and the bias of the up-sampling."""
        if torch.is_grad_enabled():
            constant = functional.conv3d(skips[-2 - i], kernels.skip, kernels.bias, padding="same")
            return constant + _over_ones(kernels.offset, constant.shape[2:])
        inner = kernels.offset.sum(dim=(1, 2, 3, 4))
        bias = inner if kernels.bias is None else kernels.bias + inner
        constant = convolve_over(skips[-2 - i], kernels.skip, bias)
        for border, offset in _at_the_border(kernels.offset, constant.shape[2:]):
            constant[border] += offset - inner[:, None, None, None]
        return constant

    def _activate(self, i: int, x: Tensor, constant: Tensor, onto: Tensor | None = None) -> Tensor:
        """Returns the norm and ReLU of x + constant at stage i; with `onto` (C,), its product over the channels."""
        norm = self._block(i).norm
        return normalize(x, norm.weight, norm.bias, self.norm_eps, LEAKY_SLOPE, plus=constant, onto=onto)


def _after(first: Tensor, then: Tensor) -> Tensor:
    """Returns the kernel (A, C, *n) of a transposed convolution by `first` followed by a convolution by `then`.

    first: (A, B, *m); then: (C, B, *k); n = m + k - 1. One matrix product and a shifted sum: torch's own convolution
    takes thirty times as long for the gradient of so many channels over so few voxels.
    """
    steps, taps = first.shape[2:], then.shape[2:]
    # A tap of a convolution looks the other way than one of its transpose.
    products = torch.einsum("abm,cbk->mack", first.flatten(2), then.flip(2, 3, 4).flatten(2))
    products = products.view(*products.shape[:3], *taps)
    shifts = [[n for axis in (2, 1, 0) for n in (at[axis], steps[axis] - 1 - at[axis])] for at in np.ndindex(*steps)]
    kernel = torch.stack([functional.pad(p, shift) for p, shift in zip(products, shifts, strict=True)]).sum(0)
    # With a kernel of the other layout torch lays out all features anew: on large windows half as much memory again.
    return kernel.contiguous(memory_format=torch.channels_last_3d)


def _over_ones(kernel: Tensor, shape: Sequence[int]) -> Tensor:
    """Convolves a one-channel kernel (C, 1, *k) with zero-padded ones of `shape`; returns (1, C, *shape).

    A tap counts where it meets a one, which is decided along each axis alone. For training: it has one gradient, while
    each of the borders that inference adds in place would copy the gradient of the whole map.
    """
    meets = []
    for size, taps in zip(shape, kernel.shape[2:], strict=True):
        at = torch.arange(size, device=kernel.device) + torch.arange(taps, device=kernel.device)[:, None] - taps // 2
        meets.append(((at >= 0) & (at < size)).to(kernel))
    return torch.einsum("cixyz,xs,ya,zr->isarc", kernel, *meets).permute(0, 4, 1, 2, 3)


def _at_the_border(kernel: Tensor, shape: Sequence[int]) -> Iterator[tuple[tuple[Any, ...], Tensor]]:
    """Yields the result of `_over_ones` only near the border, as pairs of an index and the values there.

    The index is into (1, C, *shape); the values (1, C, ...) broadcast to it. Away from the border every voxel has the
    sum of the kernel, so that a grid of the kernel's size shows every value that occurs.
    """
    sizes = [min(n, k) for n, k in zip(shape, kernel.shape[2:], strict=True)]
    values = functional.conv3d(kernel.new_ones(1, 1, *sizes), kernel, padding=[k // 2 for k in kernel.shape[2:]])
    parts = [_low_inner_high(n, k) for n, k in zip(shape, kernel.shape[2:], strict=True)]
    for places in product(*parts):
        if not all(inner for _, _, inner in places):
            all_channels = (slice(None), slice(None))
            yield (
                all_channels + tuple(at for at, _, _ in places),
                values[all_channels + tuple(of for _, of, _ in places)],
            )


def _low_inner_high(size: int, k: int) -> list[tuple[slice, slice, bool]]:
    """Splits an axis into parts: (place on it, place of its values on an axis of k, whether all taps meet ones)."""
    half = k // 2
    if size < k:
        return [(slice(0, size), slice(0, size), False)]
    return [
        (slice(0, half), slice(0, half), False),
        (slice(half, size - half), slice(half, half + 1), True),
        (slice(size - half, size), slice(half + 1, k), False),
    ]


def _guided(kernel: Tensor, weights: Tensor) -> Tensor:
    """Folds guidance `weights` (G, C) into a kernel (C + G, ...) on features and maps; returns (C, ...)."""
    channels = weights.shape[1]
    return kernel[:channels] + torch.einsum("gc,g...->c...", weights, kernel[channels:])

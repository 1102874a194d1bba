"""Encodes the image: nnU-Net's residual encoder, one feature map per stage.

The modules and their names are the library's, so that published weights fit; at inference on a CPU the same arithmetic
runs in place, with fewer passes over memory. C_i is the number of channels of stage i.
"""

from collections.abc import Sequence
from typing import Any, cast

import torch
from dynamic_network_architectures.building_blocks.residual_encoders import ResidualEncoder
from dynamic_network_architectures.building_blocks.simple_conv_blocks import ConvDropoutNormReLU
from torch import Tensor, nn

from voxtell.model.convolution import average_pool, convolve_over
from voxtell.model.normalization import InstanceNorm, normalize
from voxtell.model.plans import EncoderPlans

LEAKY_SLOPE = 0.01  # torch's default, with which the published weights were trained


class Encoder(ResidualEncoder):  # type: ignore[misc]
    """The library's residual encoder; at inference on a CPU its blocks run with less memory and fewer passes."""

    def forward(self, x: Tensor) -> list[Tensor]:
        """Maps an image to the features of every stage, finest first.

        x: float (B, 1, S, A, R), normalized. Returns a list of (B, C_i, s_i, a_i, r_i), channels-last at inference.
        """
        if torch.is_grad_enabled():
            return cast(list[Tensor], super().forward(x))
        # A tensor of one channel counts as both layouts, so the stem's result must be brought to channels-last here.
        if x.device.type != "cpu":
            x = self.stem(x).contiguous(memory_format=torch.channels_last_3d)
            return [x := stage(x) for stage in self.stages]
        for block in self.stem.convs:  # channels-last by hand, for the same reason
            x = _activated(block, block.conv(x).contiguous(memory_format=torch.channels_last_3d))
        skips = []
        for stage in self.stages:
            for block in stage.blocks:
                x = _residual(block, x)
            skips.append(x)
        return skips


def _residual(block: Any, x: Tensor) -> Tensor:
    """Runs one residual block: two convolutions and the skip around them. The second overwrites its input."""
    out = _activated(block.conv1, block.conv1.conv(x))
    around = x
    if isinstance(block.skip, nn.Sequential):
        for part in block.skip:
            around = (
                average_pool(around, cast(Sequence[int], part.kernel_size))
                if isinstance(part, nn.AvgPool3d)
                else part(around)
            )
    second = block.conv2.conv
    return _activated(block.conv2, convolve_over(out, second.weight, second.bias), around)


def _activated(block: Any, x: Tensor, residual: Tensor | None = None) -> Tensor:
    """Returns the norm of a block's convolution, plus the residual if any, through the leaky ReLU; may overwrite x."""
    return normalize(x, block.norm.weight, block.norm.bias, block.norm.eps, LEAKY_SLOPE, residual=residual)


def build_encoder(plans: EncoderPlans) -> nn.Module:
    """Returns the encoder of the plans, with new weights: image (B, 1, S, A, R) -> list of features, finest first."""
    encoder = Encoder(
        input_channels=1,
        n_stages=len(plans.features),
        features_per_stage=plans.features,
        conv_op=nn.Conv3d,
        kernel_sizes=plans.kernel_sizes,
        strides=plans.strides,
        n_blocks_per_stage=plans.blocks,
        conv_bias=plans.conv_bias,
        norm_op=InstanceNorm,
        norm_op_kwargs={"eps": plans.norm_eps, "affine": True},
        nonlin=nn.LeakyReLU,
        nonlin_kwargs={"inplace": True, "negative_slope": LEAKY_SLOPE},
        return_skips=True,
    )
    return hide_aliases(cast(nn.Module, encoder))


def hide_aliases(module: nn.Module) -> nn.Module:
    """Removes the second registration of every convolution block's parts (`all_modules`) from the state dict.

    The block still runs through it, but each tensor has one name, so that files hold it once and loading can be strict.
    Changes the module in place and returns it.
    """
    for block in module.modules():
        if isinstance(block, ConvDropoutNormReLU):
            parts = block.all_modules
            del block.all_modules
            object.__setattr__(block, "all_modules", parts)
    return module

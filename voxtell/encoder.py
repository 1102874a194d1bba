"""The image side: nnU-Net's residual encoder, one feature map per stage."""

from typing import cast

from dynamic_network_architectures.building_blocks.residual_encoders import ResidualEncoder
from dynamic_network_architectures.building_blocks.simple_conv_blocks import ConvDropoutNormReLU
from torch import nn

from voxtell.normalization import InstanceNorm
from voxtell.plans import EncoderPlans

LEAKY_SLOPE = 0.01  # torch's default, with which the published weights were trained


def build_encoder(plans: EncoderPlans) -> nn.Module:
    """A module: image (B, 1, S, A, R) -> list of features (B, C_s, S_s, A_s, R_s), one per stage, finest first."""
    encoder = ResidualEncoder(
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
    """Take the second registration of every convolution block's parts (`all_modules`) out of the state dict.

    The block still runs through it, but each tensor has one name, so that files hold it once and loading can be strict.
    """
    for block in module.modules():
        if isinstance(block, ConvDropoutNormReLU):
            parts = block.all_modules
            del block.all_modules
            object.__setattr__(block, "all_modules", parts)
    return module

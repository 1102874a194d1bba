"""Instance normalization that keeps the channels-last layout.

torch's own brings a channels-last tensor into the other layout first, which for large windows takes longer than the
convolution before it. At inference the tensor is read once for its moments and written once, in cache-sized pieces.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

PIECE = 2**19  # numbers treated at once: two megabytes, which stay in cache


class InstanceNorm(nn.InstanceNorm3d):
    """`nn.InstanceNorm3d` without running statistics; at inference it may overwrite its input."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, s, a, r) -> the same shape, each channel of each image with its own mean and variance taken out."""
        return normalize(x, self.weight, self.bias, self.eps)


def normalize(x: Tensor, weight: Tensor, bias: Tensor, eps: float, slope: float | None = None) -> Tensor:
    """Instance normalization (B, C, s, a, r) with a leaky ReLU of the given slope after it, or none.

    Overwrites x when no gradient is asked for.
    """
    last = x.is_contiguous(memory_format=torch.channels_last_3d)
    if torch.is_grad_enabled() or len(x) > 1 or not last:
        x = functional.instance_norm(x, weight=weight, bias=bias, eps=eps)
    elif x.device.type == "cpu" and x.dtype == torch.float32:
        return _normalize_in_place(x, weight, bias, eps, slope)
    else:  # of one image, batch and instance are the same
        x = functional.batch_norm(x, None, None, weight, bias, training=True, eps=eps)
    return x if slope is None else functional.leaky_relu_(x, slope)


def _normalize_in_place(x: Tensor, weight: Tensor, bias: Tensor, eps: float, slope: float | None) -> Tensor:
    channels = x.shape[1]
    voxels = x.permute(0, 2, 3, 4, 1).view(-1, channels)
    pieces = torch.split(voxels, max(1, PIECE // channels))
    near = pieces[0].mean(0)  # moments are taken around a value near the mean, so that no digits cancel
    first = torch.zeros(channels, dtype=torch.float64)
    second = torch.zeros(channels, dtype=torch.float64)
    for piece in pieces:
        off = piece - near
        first += off.sum(0)
        second += off.square_().sum(0)
    mean = first / len(voxels)
    deviation = (second / len(voxels) - mean.square() + eps).sqrt()
    scale = weight / deviation.float()
    shift = bias - (mean.float() + near) * scale
    for piece in pieces:
        torch.addcmul(shift, piece, scale, out=piece)
        if slope is not None:
            functional.leaky_relu_(piece, slope)
    return x

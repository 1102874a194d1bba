"""Instance normalization that keeps the channels-last layout.

torch's own first brings a channels-last tensor into the other layout, which for large windows takes longer than the
convolution before it. At inference on a CPU the tensor is read once for its moments and written once, in pieces that
stay in cache. What is added before or after, the activation, and a last product with a vector are done in the same
pass. Tensors are (B, C, s, a, r).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

PIECE = 2**17  # numbers treated at once: half a megabyte, so that two tensors' pieces and a scratch stay in cache


class InstanceNorm(nn.InstanceNorm3d):
    """`nn.InstanceNorm3d` without running statistics; at inference it may overwrite its input."""

    def forward(self, x: Tensor) -> Tensor:
        """Returns (B, C, s, a, r) with mean 0 and variance 1 per channel and image, times the weight, plus the bias."""
        return normalize(x, self.weight, self.bias, self.eps)


def normalize(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    eps: float,
    slope: float | None = None,
    *,
    plus: Tensor | None = None,
    residual: Tensor | None = None,
    onto: Tensor | None = None,
) -> Tensor:
    """Returns the instance normalization of x, followed by a leaky ReLU of the given slope unless that is None.

    Args:
        x: (B, C, s, a, r). It is overwritten when gradients are off.
        weight, bias: (C,) each.
        plus: added to x before the normalization; of x's shape.
        residual: added after the normalization and before the ReLU; of x's shape.
        onto: a vector (C,). With it only the product over the channels is returned, (B, s, a, r).
    """
    last = x.is_contiguous(memory_format=torch.channels_last_3d)
    training = torch.is_grad_enabled()
    if not training and last and len(x) == 1 and x.device.type == "cpu" and x.dtype == torch.float32:
        return _normalize_in_place(x, weight, bias, eps, slope, plus, residual, onto)
    if plus is not None:
        x = x + plus if training else x.add_(plus)
    # Of one image, batch and instance are the same. torch's instance_norm gives wrong gradients (seen in 2.13) where
    # the gradient that reaches it is channels-last and its input is not.
    images = [
        functional.batch_norm(image, None, None, weight, bias, training=True, eps=eps) for image in torch.split(x, 1)
    ]
    x = images[0] if len(images) == 1 else torch.cat(images)
    if residual is not None:
        x = x + residual if training else x.add_(residual)
    if slope is not None:
        x = functional.leaky_relu(x, slope, inplace=not training)
    return x if onto is None else x.permute(0, 2, 3, 4, 1) @ onto.to(x.dtype)


def _normalize_in_place(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    eps: float,
    slope: float | None,
    plus: Tensor | None,
    residual: Tensor | None,
    onto: Tensor | None,
) -> Tensor:
    """Does the work of `normalize` for one float32 image on a CPU, in place; the moments are summed in float64."""
    channels = x.shape[1]
    pieces = _split(x)
    added, back = (_split(plus) if plus is not None else None), (_split(residual) if residual is not None else None)
    scratch = torch.empty_like(pieces[0])
    # Moments about a value near the mean: the mean square minus the squared mean would cancel most of its digits.
    near = (pieces[0] if added is None else pieces[0] + added[0]).mean(0)
    first = torch.zeros(channels, dtype=torch.float64)
    second = torch.zeros(channels, dtype=torch.float64)
    for n, piece in enumerate(pieces):
        if added is not None:
            piece.add_(added[n])
        off = torch.sub(piece, near, out=scratch[: len(piece)])
        first += off.sum(0)
        second += off.square_().sum(0)
    voxels = x.numel() // channels
    mean = first / voxels
    deviation = (second / voxels - mean.square() + eps).sqrt()
    scale = weight / deviation.float()
    shift = bias - (mean.float() + near) * scale
    products = x.new_empty(voxels if onto is not None else 0)
    done = 0
    for n, piece in enumerate(pieces):
        torch.addcmul(shift, piece, scale, out=piece)
        if back is not None:
            piece.add_(back[n])
        if slope is not None:
            functional.leaky_relu_(piece, slope)
        if onto is not None:
            torch.mv(piece, onto, out=products[done : done + len(piece)])
            done += len(piece)
    return x if onto is None else products.view(1, *x.shape[2:])


def _split(x: Tensor) -> tuple[Tensor, ...]:
    """Returns one channels-last image as pieces (voxels, C) of its memory; another layout is copied first."""
    channels = x.shape[1]
    x = x.contiguous(memory_format=torch.channels_last_3d)
    return torch.split(x.permute(0, 2, 3, 4, 1).view(-1, channels), max(1, PIECE // channels))

"""Convolves and pools large tensors without a second tensor of their size: for the finest stage on a CPU.

With gradients, on a GPU, or for tensors under `LARGE` numbers these are torch's own functions. Tensors are
(1, C, s, a, r), channels-last; a row is one index of s.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

LARGE = 2**26  # numbers in a tensor (256 MB) from which on it is treated a few rows at a time
ROWS = 8  # at least half a kernel


def convolve_over(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Returns the convolution (1, C, s, a, r) of x of the same shape, zero-padded.

    At inference the result of a large tensor overwrites x. It goes `ROWS` rows at a time; a finished piece is written
    back only when the next piece, which still reads the old rows, is done.

    weight: (C, C, *k) with odd k; bias: (C,) or None.
    """
    s, a, r = (size // 2 for size in weight.shape[2:])
    if not in_rows(x):
        return functional.conv3d(x, weight, bias, padding=(s, a, r))
    depth, waiting = x.shape[2], x[:, :, :0]
    for start in range(0, depth, ROWS):
        end = min(start + ROWS, depth)
        low, high = max(0, start - s), min(depth, end + s)
        piece = x[:, :, low:high]
        if high - low < end - start + 2 * s:
            piece = functional.pad(piece, (0, 0, 0, 0, s - (start - low), s - (high - end)))
        result = functional.conv3d(piece, weight, bias, padding=(0, a, r))
        x[:, :, start - waiting.shape[2] : start] = waiting  # the piece after this one reads none of these rows
        waiting = result
    x[:, :, depth - waiting.shape[2] :] = waiting
    return x


def average_pool(x: Tensor, stride: Sequence[int]) -> Tensor:
    """Returns the mean over blocks of `stride` voxels, (B, C, s / stride, ...).

    torch's own copies a channels-last input as a whole; for a large tensor this copies only a few rows at a time.
    """
    if not in_rows(x):
        return functional.avg_pool3d(x, tuple(stride))
    rows = ROWS * stride[0]
    parts = [
        functional.avg_pool3d(x[:, :, start : start + rows], tuple(stride)) for start in range(0, x.shape[2], rows)
    ]
    return torch.cat(parts, dim=2).contiguous(memory_format=torch.channels_last_3d)


def in_rows(x: Tensor) -> bool:
    """Whether a tensor is treated a few rows at a time: no gradients, on the CPU, and large."""
    return not torch.is_grad_enabled() and x.device.type == "cpu" and x.numel() >= LARGE

"""Instance normalization in place equals torch's."""

import pytest
import torch
from torch.nn import functional

from voxtell.normalization import PIECE, InstanceNorm, normalize


@pytest.mark.parametrize("shape", [(1, 5, 3, 4, 6), (1, 96, 16, 20, 18), (2, 5, 3, 4, 6)])
@pytest.mark.parametrize("layout", [torch.channels_last_3d, torch.contiguous_format])
@pytest.mark.parametrize("slope", [None, 0.01])
def test_it_equals_torch_in_double_precision(
    shape: tuple[int, ...], layout: torch.memory_format, slope: float | None
) -> None:
    x = (torch.randn(shape) * 3 + 50).contiguous(memory_format=layout)
    weight, bias = torch.randn(shape[1]), torch.randn(shape[1])
    expected = functional.instance_norm(x.double(), weight=weight.double(), bias=bias.double())
    if slope is not None:
        expected = functional.leaky_relu(expected, slope)
    with torch.no_grad():
        ours = normalize(x.clone(), weight, bias, 1e-5, slope)
    torch.testing.assert_close(ours.double(), expected, rtol=0, atol=2e-5)


def test_the_layout_is_kept_and_large_tensors_take_several_pieces() -> None:
    x = torch.randn(1, 96, 16, 20, 18).contiguous(memory_format=torch.channels_last_3d)
    assert x.numel() > PIECE
    with torch.no_grad():
        assert InstanceNorm(96, affine=True)(x).is_contiguous(memory_format=torch.channels_last_3d)


def test_training_leaves_the_input_alone() -> None:
    x = torch.randn(1, 3, 4, 4, 4, requires_grad=True)
    before = x.detach().clone()
    InstanceNorm(3, affine=True)(x).square().sum().backward()
    torch.testing.assert_close(x.detach(), before, rtol=0, atol=0)
    assert x.grad is not None

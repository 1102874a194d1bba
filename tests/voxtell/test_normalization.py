"""Instance normalization in place equals torch's."""

import pytest
import torch
from torch.nn import functional

from voxtell.model import normalization
from voxtell.model.normalization import PIECE, InstanceNorm, normalize


@pytest.mark.long
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


@pytest.mark.long
def test_training_leaves_the_input_alone() -> None:
    x = torch.randn(1, 3, 4, 4, 4, requires_grad=True)
    before = x.detach().clone()
    InstanceNorm(3, affine=True)(x).square().sum().backward()
    torch.testing.assert_close(x.detach(), before, rtol=0, atol=0)
    assert x.grad is not None


@pytest.mark.long
@pytest.mark.parametrize("layout", [torch.channels_last_3d, torch.contiguous_format])
@pytest.mark.parametrize("piece", [8, PIECE])
def test_what_is_added_before_and_after_and_a_last_product_go_along(
    layout: torch.memory_format, piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mostly one value, as in the padding of a small scan, where float32 moments would lose their digits."""
    monkeypatch.setattr(normalization, "PIECE", piece)
    x = torch.full((1, 4, 24, 24, 24), 1000.0)
    x[..., 6:9, 6:9, 6:9] += torch.randn(1, 4, 3, 3, 3)
    plus, residual = torch.randn(2, 1, 4, 24, 24, 24)
    weight, bias, onto = torch.randn(3, 4)
    plus *= 0.01
    normal = functional.instance_norm(x.double() + plus, weight=weight.double(), bias=bias.double())
    expected = functional.leaky_relu(normal + residual, 0.1)
    with torch.no_grad():
        given = [x.clone().contiguous(memory_format=torch.channels_last_3d), weight, bias, 1e-5, 0.1]
        more = {"plus": plus.contiguous(memory_format=layout), "residual": residual.contiguous(memory_format=layout)}
        product = normalize(*[given[0].clone(), *given[1:]], **more, onto=onto)
        features = normalize(*given, **more)
    torch.testing.assert_close(features.double(), expected, rtol=0, atol=0.02)
    torch.testing.assert_close(product, torch.einsum("bcsar,c->bsar", features, onto), rtol=0, atol=1e-4)


@pytest.mark.parametrize("layout_in", [torch.channels_last_3d, torch.contiguous_format])
@pytest.mark.parametrize("layout_back", [torch.channels_last_3d, torch.contiguous_format])
def test_gradients_do_not_depend_on_the_layout(
    layout_in: torch.memory_format, layout_back: torch.memory_format
) -> None:
    """torch's own instance_norm gives others where a channels-last gradient meets an input of the other layout."""
    x, back = torch.randn(2, 1, 4, 6, 7, 8, dtype=torch.float64)
    weight, bias = torch.randn(2, 4, dtype=torch.float64)
    definition = x.clone().requires_grad_()
    variance, mean = torch.var_mean(definition, (2, 3, 4), correction=0, keepdim=True)
    scaled = (definition - mean) / (variance + 1e-5).sqrt() * weight.view(1, -1, 1, 1, 1) + bias.view(1, -1, 1, 1, 1)
    scaled.backward(back)
    ours = x.contiguous(memory_format=layout_in).requires_grad_()
    normalize(ours, weight, bias, 1e-5).backward(back.contiguous(memory_format=layout_back))
    torch.testing.assert_close(ours.grad, definition.grad, rtol=1e-9, atol=1e-9)

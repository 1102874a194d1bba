"""Convolutions a few rows at a time: the same numbers, in the place of their input."""

import pytest
import torch
from torch.nn import functional

from voxtell.model import convolution
from voxtell.model.convolution import average_pool, convolve_over
from voxtell.model.network import VoxTell


@pytest.mark.parametrize("kernel", [(1, 3, 3), (3, 3, 3), (5, 1, 3)])
@pytest.mark.parametrize("depth", [3, 8, 9, 16, 21])
def test_rows_give_what_the_whole_gives(kernel: tuple[int, ...], depth: int, monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(1, 4, depth, 6, 5).contiguous(memory_format=torch.channels_last_3d)
    weight, bias = torch.randn(4, 4, *kernel), torch.randn(4)
    expected = functional.conv3d(x, weight, bias, padding=tuple(k // 2 for k in kernel))
    monkeypatch.setattr(convolution, "LARGE", 1)
    with torch.inference_mode():
        given = x.clone(memory_format=torch.preserve_format)
        found = convolve_over(given, weight, bias)
    assert found is given
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("stride", [(2, 2, 2), (1, 2, 2)])
def test_pooling_by_rows_gives_what_the_whole_gives(stride: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(1, 4, 34, 6, 8).contiguous(memory_format=torch.channels_last_3d)
    expected = functional.avg_pool3d(x, stride)
    monkeypatch.setattr(convolution, "LARGE", 1)
    with torch.inference_mode():
        torch.testing.assert_close(average_pool(x, stride), expected, rtol=0, atol=0)


def test_a_network_gives_the_same_logits_when_its_tensors_count_as_large(
    tiny_network: VoxTell, monkeypatch: pytest.MonkeyPatch
) -> None:
    image, text = torch.randn(1, 1, 16, 16, 24), torch.randn(1, 3, 10)
    network = tiny_network.double().eval()
    with torch.enable_grad():  # the library's own forward
        (expected,) = network(image.double(), text.double())
    monkeypatch.setattr(convolution, "LARGE", 1)
    with torch.inference_mode():
        (found,) = network.float()(image, text)
    torch.testing.assert_close(found.double(), expected.detach(), rtol=0, atol=1e-4)


def test_with_gradients_the_input_stays() -> None:
    x = torch.randn(1, 4, 3, 3, 3, requires_grad=True)
    before = x.detach().clone()
    convolve_over(x, torch.randn(4, 4, 3, 3, 3), None).sum().backward()
    torch.testing.assert_close(x.detach(), before, rtol=0, atol=0)

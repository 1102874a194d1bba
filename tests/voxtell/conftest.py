"""Models small enough to run in milliseconds."""

import zlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from voxtell.network import VoxTell
from voxtell.plans import EncoderPlans, Plans, PromptPlans
from voxtell.segmenter import Segmenter


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def tiny_plans() -> Plans:
    """Four stages, one of them anisotropic; patch 16 x 16 x 24."""
    return Plans(
        patch_size=(16, 16, 24),
        encoder=EncoderPlans(
            features=(4, 6, 8, 12),
            strides=((1, 1, 1), (1, 2, 2), (2, 2, 2), (2, 2, 2)),
            kernel_sizes=((1, 3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3)),
            blocks=(1, 1, 2, 1),
        ),
        prompt=PromptPlans(
            text_dim=10, query_dim=24, ffn_dim=20, heads=4, layers=2, guidance_channels=5, fusion_stages=3
        ),
    )


@pytest.fixture
def tiny_network(tiny_plans: Plans) -> VoxTell:
    """Random weights, biases and normalizations included."""
    network = VoxTell(tiny_plans)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return network


class Spelling:
    """A text encoder for tests: an embedding is drawn from the letters of the prompt; counts what it is asked."""

    name = "spelling"

    def __init__(self, dim: int = 10) -> None:
        self.dim = dim
        self.asked: list[str] = []

    def embed(self, prompts: Sequence[str]) -> Tensor:
        self.asked.extend(prompts)
        seeds = [zlib.crc32(prompt.encode()) for prompt in prompts]
        return torch.stack([torch.randn(self.dim, generator=torch.Generator().manual_seed(seed)) for seed in seeds])


@pytest.fixture
def text() -> Spelling:
    return Spelling()


@pytest.fixture
def segmenter(tiny_network: VoxTell, text: Spelling) -> Segmenter:
    return Segmenter(tiny_network, text, "sha256:test")


@pytest.fixture
def image() -> npt.NDArray[np.float32]:
    """A body of noise with a border of zeros; larger than the tiny patch in two axes, smaller in one."""
    volume = np.zeros((30, 14, 40), np.float32)
    volume[3:28, 1:13, 2:37] = np.random.default_rng(0).normal(100, 20, (25, 12, 35)).astype(np.float32)
    return volume

"""Models small enough to run in milliseconds."""

import pytest
import torch

from voxtell.network import VoxTell
from voxtell.plans import EncoderPlans, Plans, PromptPlans


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

"""Models small enough to run in milliseconds."""

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from tests.support.models import Spelling
from voxtell.model.network import VoxTell
from voxtell.model.plans import EncoderPlans, Plans, PromptPlans
from voxtell.model.weights_file import PUBLISHED_WEIGHTS
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


def aliases(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The state dict as published: the encoder again inside the decoder, convolution blocks' parts again."""
    again = {f"decoder.{key}": value for key, value in state.items() if key.startswith("encoder.")}
    again.update({"decoder.stages.0.convs.0.all_modules.0.weight": state["decoder.stages.0.convs.0.conv.weight"]})
    return state | again


@pytest.fixture
def published(tiny_network: VoxTell, tmp_path: Path) -> Path:
    """A model directory as nnU-Net's trainer leaves it, its log of numpy numbers included."""
    (tmp_path / "fold_0").mkdir()
    (tmp_path / "plans.json").write_text(json.dumps(tiny_network.plans.document()))
    state = tiny_network.state_dict()
    s, a, r = tiny_network.plans.memory_grid
    table = state["pos_embed"].view(s, a, r, -1).permute(1, 2, 0, 3).reshape(state["pos_embed"].shape)
    content = {
        "network_weights": aliases(state | {"pos_embed": table}),
        "_best_ema": np.float64(0.5),
        "logging": {"dice": [np.float32(0.1)], "curve": np.arange(3.0)},
        "current_epoch": 7,
    }
    torch.save(content, tmp_path / PUBLISHED_WEIGHTS)
    return tmp_path

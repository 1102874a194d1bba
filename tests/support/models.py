"""Models with random weights, in the layout of the bundled one: real engine, real loading, nothing learned."""

import json
import zlib
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from voxtell.card import Card
from voxtell.model.network import VoxTell
from voxtell.model.plans import EncoderPlans, InputPlans, Plans, PromptPlans
from voxtell.text.lexical import NgramEncoder

COARSE = InputPlans(
    normalization="ct",
    mean=0.0,
    std=500.0,
    foreground_above=-500.0,
    spacing=(10.0, 8.0, 8.0),
    spacing_min=(9.9, 7.9, 7.9),
    spacing_max=(10.1, 8.1, 8.1),
)


def write_random_model(folder: Path, seed: int = 0) -> Path:
    """A small network that computes in about a second on a clinical CT, because it resamples to 8 x 8 x 10 mm."""
    plans = Plans(
        patch_size=(24, 48, 48),
        encoder=EncoderPlans(
            features=(4, 6, 8, 12),
            strides=((1, 1, 1),) + ((2, 2, 2),) * 3,
            kernel_sizes=((3, 3, 3),) * 4,
            blocks=(1, 1, 1, 1),
        ),
        prompt=PromptPlans(
            text_dim=NgramEncoder().dim,
            query_dim=24,
            ffn_dim=24,
            heads=4,
            layers=1,
            guidance_channels=4,
            fusion_stages=3,
        ),
        input=COARSE,
        card=Card(name="random", version=str(seed), notice="Random weights for tests.", text_encoder="ngrams"),
    )
    torch.manual_seed(seed)
    folder.mkdir(parents=True)
    (folder / "plans.json").write_text(json.dumps(plans.document()))
    save_file(VoxTell(plans).state_dict(), folder / "model.safetensors")
    return folder


class Spelling:
    """A text encoder for tests: an embedding is drawn from the letters of the prompt; counts what it is asked."""

    name = "spelling"

    def __init__(self, dim: int = 10) -> None:
        self.dim = dim
        self.asked: list[str] = []

    def sources(self, prompts: Sequence[str]) -> tuple[str, ...]:
        return ("text=spelling",)

    def embed(self, prompts: Sequence[str]) -> Tensor:
        self.asked.extend(prompts)
        seeds = [zlib.crc32(prompt.encode()) for prompt in prompts]
        return torch.stack([torch.randn(self.dim, generator=torch.Generator().manual_seed(seed)) for seed in seeds])

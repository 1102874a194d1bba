"""Assembles a run: plans and first weights, text encoder, samplers for training and for checking."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from voxtell.engine import Spacing
from voxtell.inference.preprocess import downsample, triple
from voxtell.model.checkpoint import load_network
from voxtell.model.plans import Plans
from voxtell.phantom import Array, head_and_neck
from voxtell.text.encoders import Bank, QwenEncoder, TextEncoder
from voxtell.text.lexical import NgramEncoder
from voxtell.training import cards
from voxtell.training.architecture import bundled_plans
from voxtell.training.augment import NONE, Augmentation
from voxtell.training.cache import WHOLE, Labels, add_case, read_cache, write_index
from voxtell.training.dataset import Dataset
from voxtell.training.sampling import PatchSampler, SamplingPlan
from voxtell.training.vocabulary import Vocabulary, builtin

FINER = (1, 2, 2)
"""How many times finer than its voxels a phantom is drawn in plane; phantoms take these in turn."""
FIRST_SEED = 1000
"""First seed of the training phantoms; the demo, the tests and the report use small seeds."""


@dataclass(frozen=True)
class Start:
    """Holds the dimensions of the network, and the weights to start from (None: new ones)."""

    plans: Plans
    weights: dict[str, Tensor] | None


def starting_point(model: Path | None, data: Dataset, fusion_stages: int | None = None) -> Start:
    """Returns the model to fine-tune, or the bundled architecture with new weights when none is given.

    The card says what the model will have learnt. fusion_stages: decoder stages that see the prompt, for an ablation;
    it counts for new weights only.

    Raises:
        ModelError: when the model cannot be loaded.
    """
    if model is not None:
        network = load_network(model)
        card = cards.fine_tuned(network.plans.card, data, vocabulary_of(data))
        return Start(replace(network.plans, card=card), dict(network.state_dict()))
    plans = bundled_plans()
    plans = replace(plans, card=cards.trained(plans.card, data, vocabulary_of(data)))
    if fusion_stages is not None:
        plans = replace(plans, prompt=replace(plans.prompt, fusion_stages=fusion_stages))
    return Start(plans, None)


class Remembered:
    """Computes every prompt once: a language model is too slow to ask at each step."""

    def __init__(self, encoder: TextEncoder) -> None:
        self.dim, self.name = encoder.dim, encoder.name
        self._encoder = encoder
        self._known: dict[str, Tensor] = {}

    def sources(self, prompts: Sequence[str]) -> tuple[str, ...]:
        """Returns those of the encoder."""
        return self._encoder.sources(prompts)

    def embed(self, prompts: Sequence[str]) -> Tensor:
        """Returns embeddings float32 (P, dim) of the prompts in lower case."""
        texts = [prompt.lower() for prompt in prompts]
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        if new:
            self._known.update(zip(new, self._encoder.embed(new), strict=True))
        return torch.stack([self._known[text] for text in texts])


def text_encoder(plans: Plans, bank: Path | None = None, device: str = "cpu") -> TextEncoder:
    """Returns the encoder that the plans name; a bank is asked before the language model."""
    if plans.card.text_encoder == "ngrams":
        return NgramEncoder(plans.prompt.text_dim)
    qwen = QwenEncoder(device=device, dim=plans.prompt.text_dim)
    return Remembered(Bank(bank, qwen) if bank is not None else qwen)


@dataclass(frozen=True)
class Samplers:
    """Holds `train` for the steps, and `check` for unchanged patches of validation patients, None without any."""

    train: PatchSampler
    check: PatchSampler | None


def vocabulary_of(data: Dataset) -> Vocabulary:
    """Returns the words of the data set, and the built-in ones where it has none of its own."""
    return builtin().restricted_to(data.structures, data.negatives)


def samplers(
    data: Dataset,
    folder: Path,
    plans: Plans,
    encoder: TextEncoder,
    prompts: int,
    seed: int = 1,
    phantom_share: float = SamplingPlan.phantom_share,
) -> Samplers:
    """Returns samplers over the cache `folder`, in the words of the data set and of the built-in vocabulary.

    prompts: per patch. phantom_share: of the patches, where the cache has phantoms. Checks ask for contoured structures
    only, without augmentation.

    Raises:
        DatasetError: when `folder` holds no cache, or no case has a contour of any structure.
    """
    vocabulary = vocabulary_of(data)
    phantoms = read_cache(folder / "phantoms") if (folder / "phantoms" / "cases.json").is_file() else []
    plan = SamplingPlan(
        plans.patch_size, prompts, phantom_share=phantom_share, typed=plans.card.text_encoder == "ngrams"
    )
    train = PatchSampler(
        read_cache(folder, "train"), vocabulary, encoder, plan, Augmentation(), plans.input, seed, phantoms
    )
    validation = read_cache(folder, "validation")
    if not validation:
        return Samplers(train, None)
    asked = replace(plan, negative_share=0.0, union_share=0.0, around_structures=1.0)
    return Samplers(train, PatchSampler(validation, vocabulary, encoder, asked, NONE, plans.input, seed))


def add_phantoms(folder: Path, count: int, progress: Callable[[str], None] = lambda _: None) -> None:
    """Writes `count` phantoms of different anatomy and voxel size into a cache of their own.

    Two of three are drawn finer and then resampled as `preprocess` does with a fine scan, and the share of each voxel
    that
    is inside is kept: from masks of shares a surface comes back between the voxels when they are interpolated, from
    masks of whole voxels it does not.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    cases = []
    for seed in range(FIRST_SEED, FIRST_SEED + count):
        in_plane, slices = float(rng.uniform(3.4, 4.7)), float(rng.uniform(2, 3))
        image, labels, spacing = _drawn(seed, (slices, in_plane, in_plane), FINER[seed % len(FINER)])
        cases.append(add_case(folder, f"phantom_{seed}", "train", image, labels, spacing))
        progress(f"phantom {seed}")
    write_index(folder, cases)


def _drawn(seed: int, spacing: Spacing, finer: int) -> tuple[Array, Mapping[str, Labels], Spacing]:
    """Returns image, labels and exact spacing (S, A, R) of a phantom drawn `finer` times as fine in plane."""
    phantom = head_and_neck(seed, (spacing[0], spacing[1] / finer, spacing[2] / finer))
    if finer == 1:
        return phantom.image, phantom.labels, phantom.spacing
    shape = triple(np.asarray(phantom.image.shape) // (1, finer, finer))
    s, a, r = (mm * old / new for mm, old, new in zip(phantom.spacing, phantom.image.shape, shape, strict=True))
    shares = {name: downsample(mask.astype(np.float32), shape) for name, mask in phantom.labels.items()}
    labels = {name: (share * WHOLE).round().astype(np.uint8) for name, share in shares.items()}
    return downsample(phantom.image, shape), labels, (s, a, r)

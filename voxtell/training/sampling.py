"""Draws patches for training: which patch of which patient is next, and what is asked about it.

All randomness comes from two generators whose state is saved with the run, so that a continued run draws what it would
have drawn. Axes are (S, A, R): superior, anterior, right. P prompts, E numbers per embedding.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from voxtell.model.plans import InputPlans
from voxtell.text.encoders import TextEncoder
from voxtell.training.augment import (
    Augmentation,
    Vector,
    change_intensity,
    cut_field_of_view,
    random_bend,
    random_matrix,
    sample_view,
)
from voxtell.training.cache import CachedCase
from voxtell.training.dataset import DatasetError
from voxtell.training.vocabulary import Vocabulary, vary


@dataclass(frozen=True)
class Sample:
    """Holds one patch and what is asked about it: what a training step needs."""

    image: Tensor
    """float32 (1, 1, S, A, R), normalized as the model's plans say."""
    text: Tensor
    """float32 (1, P, E)."""
    target: Tensor
    """float32 (1, P, S, A, R), 0 or 1."""
    known: Tensor
    """bool (1, P)."""
    prompts: tuple[str, ...]
    structures: tuple[str | None, ...]
    """Structure behind each prompt; None for a negative prompt."""


@dataclass(frozen=True)
class SamplingPlan:
    """Says what is asked, and how often."""

    patch: tuple[int, int, int]
    prompts: int = 4
    """Prompts per patch. They share the encoder's work; each adds a mask decoder's."""
    negative_share: float = 0.18
    """Chance that a prompt is a negative one, whose target is empty."""
    union_share: float = 0.06
    """Chance that a prompt asks for several structures at once."""
    around_structures: float = 0.85
    """Share of the patches placed around a structure, the rarer contoured ones more often; the rest lie anywhere."""
    phantom_share: float = 0.5
    """Share of the patches taken from phantoms, where there are any."""
    typed: bool = True
    """Whether prompts vary as people type them; off for a language model, which is asked for each prompt once."""


@dataclass(frozen=True)
class _Pool:
    """Holds cases, and which of them hold a structure."""

    cases: tuple[CachedCase, ...]
    holders: dict[str, list[CachedCase]]

    @property
    def chances(self) -> Vector:
        """How often a patch is placed around each structure: in inverse proportion to the cases that hold it."""
        rarity = np.array([1 / len(cases) for cases in self.holders.values()])
        chances: Vector = rarity / rarity.sum()
        return chances

    @staticmethod
    def of(cases: Sequence[CachedCase], vocabulary: Vocabulary) -> "_Pool":
        """Returns the pool of these cases; structures that no case holds are left out."""
        holders = {
            structure: [case for case in cases if structure in case.boxes] for structure in vocabulary.structures
        }
        return _Pool(tuple(cases), {structure: cases for structure, cases in holders.items() if cases})


class PatchSampler:
    """Draws patches for ever: `next(sampler)`.

    Raises:
        DatasetError: when no case has a contour of any structure of the vocabulary.
    """

    def __init__(
        self,
        cases: Sequence[CachedCase],
        vocabulary: Vocabulary,
        encoder: TextEncoder,
        plan: SamplingPlan,
        augmentation: Augmentation,
        preparation: InputPlans,
        seed: int = 0,
        phantoms: Sequence[CachedCase] = (),
    ) -> None:
        self.vocabulary, self.encoder, self.plan, self.augmentation = vocabulary, encoder, plan, augmentation
        self.preparation = preparation
        self.pools = [_Pool.of(pool, vocabulary) for pool in (cases, phantoms)]
        if not self.pools[0].holders:
            raise DatasetError(
                "no case has a contour of any structure of the vocabulary, so nothing can be learnt; "
                "check the contours of the data set"
            )
        self.rng = np.random.default_rng(seed)
        self.words = random.Random(seed)  # noqa: S311 - phrasing, not cryptography

    def __next__(self) -> Sample:
        """Returns the next patch with its prompts and targets."""
        case, centre = self._place()
        matrix = random_matrix(self.augmentation, case.spacing, self.rng)
        asked = self._ask(case)
        channels = sorted({case.structures.index(part) for _, parts in asked for part in parts})
        whole = np.array_equal(matrix, np.eye(3))
        bend = None if whole else random_bend(self.augmentation, self.plan.patch, self.rng)
        view, masks = sample_view(case.image, case.labels[channels], centre, matrix, self.plan.patch, bend)
        view, masks = cut_field_of_view(view, masks, self.augmentation, self.rng)
        view = change_intensity(view, self.augmentation, self.rng)
        mask_of = {case.structures[channel]: mask for channel, mask in zip(channels, masks, strict=True)}
        nothing = torch.zeros_like(view)
        target = torch.stack([sum((mask_of[part] for part in parts), nothing).clamp(max=1) for _, parts in asked])
        prompts = tuple(prompt for prompt, _ in asked)
        return Sample(
            image=_normalize(view, case, self.preparation)[None, None],
            text=self.encoder.embed(prompts)[None],
            target=target[None],
            known=torch.ones(1, len(asked), dtype=torch.bool),
            prompts=prompts,
            structures=tuple(parts[0] if len(parts) == 1 else None for _, parts in asked),
        )

    def state(self) -> dict[str, Any]:
        """Returns the states of both generators, as JSON can hold them."""
        version, numbers, gauss = self.words.getstate()
        return {"rng": self.rng.bit_generator.state, "words": [version, list(numbers), gauss]}

    def restore(self, state: dict[str, Any]) -> None:
        """Continues where `state` was taken."""
        self.rng.bit_generator.state = state["rng"]
        version, numbers, gauss = state["words"]
        self.words.setstate((version, tuple(numbers), gauss))

    def _place(self) -> tuple[CachedCase, Vector]:
        """Returns a case and the centre of the patch in its voxels (S, A, R)."""
        patients, phantoms = self.pools
        pool = phantoms if phantoms.holders and self.rng.random() < self.plan.phantom_share else patients
        if self.rng.random() >= self.plan.around_structures:
            case = pool.cases[self.rng.integers(len(pool.cases))]
            return case, self.rng.uniform(0.1, 0.9, 3) * case.image.shape
        structure = self.rng.choice(list(pool.holders), p=pool.chances)
        case = pool.holders[structure][self.rng.integers(len(pool.holders[structure]))]
        first, last = case.boxes[structure]
        # A quarter of the patch off centre is what half-overlapping windows need; farther out a patch shows mostly air.
        return case, self.rng.uniform(first, last + 1) + self.rng.uniform(-1, 1, 3) * np.asarray(self.plan.patch) / 4

    def _ask(self, case: CachedCase) -> list[tuple[str, tuple[str, ...]]]:
        """Returns prompts, each with the structures whose union it means: one, several, or () for a negative prompt.

        Only structures that are contoured in this case are asked for: of others nothing is known.
        """
        contoured = [s for s in case.structures if s in self.vocabulary.structures]
        unions = [u for u in self.vocabulary.unions.values() if set(u.parts) <= set(contoured)]
        self.words.shuffle(contoured)
        asked: list[tuple[str, tuple[str, ...]]] = []
        while len(asked) < self.plan.prompts:
            kind = self.words.random()
            if unions and kind < self.plan.union_share:
                union = self.words.choice(unions)
                asked.append((self._typed(union.prompts), union.parts))
            elif self.vocabulary.negatives and (kind > 1 - self.plan.negative_share or not contoured):
                asked.append((self._typed(self.vocabulary.negatives), ()))
            elif contoured:
                structure = contoured.pop()
                prompts = self.vocabulary.structures[structure]
                # The canonical name comes first in the list and is asked for most often.
                asked.append((prompts[0] if self.words.random() < 0.3 else self._typed(prompts), (structure,)))
            elif not self.vocabulary.negatives:
                break
        return asked

    def _typed(self, prompts: Sequence[str]) -> str:
        """Returns one of the prompts, varied as people type it unless the plan says otherwise."""
        prompt = self.words.choice(prompts)
        return vary(prompt, self.words) if self.plan.typed else prompt


def _normalize(view: Tensor, case: CachedCase, preparation: InputPlans) -> Tensor:
    """Returns the view normalized as inference does it, with the whole volume's statistics where these count."""
    if preparation.normalization == "ct":
        return (view.clamp(preparation.lower, preparation.upper) - preparation.mean) / preparation.std
    return (view - case.mean) / max(case.deviation, 1e-8)

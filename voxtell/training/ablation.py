"""Measures what two parts of the published design are worth on our data: prompts at every scale, and deep supervision.

VoxTell fuses the prompt into five decoder stages and puts a loss on each scale. Each variant leaves one of them out
and is trained alike: same data, seed, patches and number of steps, from new weights. Variants live in folders of their
own, so that a killed ablation continues where it was.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from voxtell.segmenter import load
from voxtell.training.dataset import Dataset
from voxtell.training.export import export
from voxtell.training.loop import Schedule, Trainer
from voxtell.training.measure import measure
from voxtell.training.setup import samplers, starting_point, text_encoder


@dataclass(frozen=True)
class Variant:
    """Names a network and a loss that differ from the bundled model's in one thing."""

    folder: str
    fusion_stages: int | None = None
    """Decoder stages that see the prompt; None for as many as the bundled model has."""
    deep_supervision: bool = True


VARIANTS = (
    Variant("as-published"),
    Variant("one-fusion-stage", fusion_stages=1),
    Variant("no-deep-supervision", deep_supervision=False),
)


@dataclass(frozen=True)
class VariantScore:
    """Holds one variant's Dice per structure, the mean over validation patients."""

    variant: Variant
    steps: int
    patients: int
    dice: dict[str, float]


def ablate(
    data: Dataset,
    cache: Path,
    folder: Path,
    *,
    steps: int,
    prompts: int,
    patients: int,
    say: Callable[[str], object] = lambda _: None,
) -> list[VariantScore]:
    """Trains every variant and measures it on validation patients; returns one score per variant.

    Args:
        data: volumes and contours; its first `patients` validation cases are measured.
        cache: the cache made from them.
        folder: gets a run per variant, and the scores in ablation.json, which is rewritten after each variant.
        steps: length of each training.
        prompts: prompts per step.
        say: is told the progress.

    Raises:
        DatasetError: when the cache or the data cannot be used.
    """
    measured_on = tuple(case for case in data.cases if case.split == "validation")[:patients]
    outcomes = []
    for variant in VARIANTS:
        run = folder / variant.folder
        start = starting_point(None, data, variant.fusion_stages)
        drawn = samplers(data, cache, start.plans, text_encoder(start.plans), prompts)
        schedule = Schedule(steps=steps, deep_supervision=variant.deep_supervision)
        trainer = Trainer(run, start.plans, drawn.train, schedule)
        trainer.run(report=lambda entry, name=variant.folder: _tell(say, name, entry))  # type: ignore[misc]
        export(run, run / "model")
        measured = measure(load(run / "model"), replace(data, cases=measured_on), {}, (), robust=0, phantoms=0, say=say)
        dice = {name: float(np.mean([score.dice for score in scores])) for name, scores in measured.scores.items()}
        outcomes.append(VariantScore(variant, steps, len(measured.seconds), dice))
        (folder / "ablation.json").write_text(json.dumps([asdict(outcome) for outcome in outcomes], indent=1) + "\n")
    return outcomes


def _tell(say: Callable[[str], object], name: str, entry: dict[str, Any]) -> None:
    """Reports one log entry of a variant."""
    say(f"{name}: step {entry['step']}, loss {entry['loss']:.3f}")


def read_outcomes(file: Path) -> list[VariantScore]:
    """Returns the scores that `ablate` wrote to ablation.json."""
    return [VariantScore(**{**one, "variant": Variant(**one["variant"])}) for one in json.loads(file.read_text())]

"""Writes the averaged weights of a run, or those of several models, as a model directory for `voxtell.load`."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from voxtell.card import Card
from voxtell.model.checkpoint import load_network
from voxtell.model.plans import Plans
from voxtell.training.dataset import DatasetError
from voxtell.training.widen import widen


def export(run: Path, out: Path, card: Card | None = None) -> Path:
    """Writes `plans.json` and `model.safetensors` from the run's last saved state; returns the weights file.

    It can be called at any moment of the training. Weights are the averaged ones in half precision. Both files are
    replaced by renames, the weights last.

    card: what the model says about itself; None takes the card of the run's plans.

    Raises:
        DatasetError: when the run has no saved state.
    """
    if not (run / "state.pt").is_file():
        raise DatasetError(f"{run} holds no state.pt; train first, or name the folder of the run")
    plans = Plans.read(run / "plans.json")
    if card is not None:
        plans = replace(plans, card=card)
    return _write(plans, torch.load(run / "state.pt", map_location="cpu", weights_only=True)["averaged"], out)


def average(models: Sequence[Path], out: Path, card: Card | None = None) -> Path:
    """Writes the mean of several models' weights; `plans.json` is that of the first. Returns the weights file.

    It makes sense for models that were fine-tuned from the same weights: they lie in one valley of the loss, whose
    middle is often lower than its sides (Wortsman et al. 2022, "Model soups").

    Raises:
        DatasetError: when the models have different plans.
        ModelError: when a model cannot be loaded.
    """
    plans = [Plans.read(model / "plans.json") for model in models]
    for model, other in zip(models, plans, strict=True):
        if replace(other, card=plans[0].card) != plans[0]:
            raise DatasetError(f"{model} and {models[0]} have different plans; average models of one architecture")
    weights = [load_network(model).state_dict() for model in models]
    mean = {name: torch.stack([one[name] for one in weights]).mean(0) for name in weights[0]}
    return _write(plans[0] if card is None else replace(plans[0], card=card), mean, out)


def widened(model: Path, plans: Plans, out: Path) -> Path:
    """Writes a model's weights as a model of the wider `plans` with the same masks, a start for its training.

    Raises:
        DatasetError: when the plans differ in more than the width, or are narrower.
    """
    network = load_network(model)
    return _write(replace(plans, card=network.plans.card), widen(network, plans), out)


def _write(plans: Plans, weights: Mapping[str, Tensor], out: Path) -> Path:
    """Writes plans and weights, the latter in half precision; returns the weights file."""
    out.mkdir(parents=True, exist_ok=True)
    _replace(out / "plans.json", lambda path: path.write_text(json.dumps(plans.document(), indent=1) + "\n"))
    halves = {name: value.half().contiguous() for name, value in weights.items()}
    _replace(out / "model.safetensors", lambda path: save_file(halves, path))
    return out / "model.safetensors"


def _replace(path: Path, write: Callable[[Path], object]) -> None:
    """Writes a file under another name and renames it, so that a reader sees the old one or the new one."""
    temporary = path.with_name(path.name + ".new")
    write(temporary)
    temporary.replace(path)

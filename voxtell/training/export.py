"""From a run's averaged weights, or those of several models, to a model directory that `voxtell.load` takes."""

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
    """Write `plans.json` and `model.safetensors` (averaged weights, half precision) of the run's last saved state to
    `out`.

    It can be called at any moment of the training. Both files are replaced by renames, the weights last. `card`: what
    the model says of itself, if not what the run's plans say.
    """
    if not (run / "state.pt").is_file():
        raise DatasetError(f"{run} holds no state.pt; train first, or name the folder of the run")
    plans = Plans.read(run / "plans.json")
    if card is not None:
        plans = replace(plans, card=card)
    return _write(plans, torch.load(run / "state.pt", map_location="cpu", weights_only=True)["averaged"], out)


def average(models: Sequence[Path], out: Path, card: Card | None = None) -> Path:
    """Write the mean of the weights of several models to `out`; `plans.json` is that of the first.

    It makes sense for models that were fine-tuned from the same weights: they lie in one valley, whose middle is often
    lower than its sides (Wortsman et al. 2022, "Model soups"). Raises DatasetError when they are not alike.
    """
    plans = [Plans.read(model / "plans.json") for model in models]
    for model, other in zip(models, plans, strict=True):
        if replace(other, card=plans[0].card) != plans[0]:
            raise DatasetError(f"{model} and {models[0]} have different plans; average models of one architecture")
    weights = [load_network(model).state_dict() for model in models]
    mean = {name: torch.stack([one[name] for one in weights]).mean(0) for name in weights[0]}
    return _write(plans[0] if card is None else replace(plans[0], card=card), mean, out)


def widened(model: Path, plans: Plans, out: Path) -> Path:
    """Write a model's weights as a model of the wider `plans` with the same masks, a start for its training."""
    network = load_network(model)
    return _write(replace(plans, card=network.plans.card), widen(network, plans), out)


def _write(plans: Plans, weights: Mapping[str, Tensor], out: Path) -> Path:
    out.mkdir(parents=True, exist_ok=True)
    _replace(out / "plans.json", lambda path: path.write_text(json.dumps(plans.document(), indent=1) + "\n"))
    halves = {name: value.half().contiguous() for name, value in weights.items()}
    _replace(out / "model.safetensors", lambda path: save_file(halves, path))
    return out / "model.safetensors"


def _replace(path: Path, write: Callable[[Path], object]) -> None:
    temporary = path.with_name(path.name + ".new")
    write(temporary)
    temporary.replace(path)

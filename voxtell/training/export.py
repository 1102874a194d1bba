"""From a run's averaged weights to a model directory that `voxtell.load` takes."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file

from voxtell.plans import Card, Plans
from voxtell.training.dataset import DatasetError

LIMIT_BYTES = 12_000_000
"""The bundled model travels with the package; larger ones are for a model directory of their own."""


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
    averaged = torch.load(run / "state.pt", map_location="cpu", weights_only=True)["averaged"]
    out.mkdir(parents=True, exist_ok=True)
    _replace(out / "plans.json", lambda path: path.write_text(json.dumps(plans.document(), indent=1) + "\n"))
    halves = {name: value.half().contiguous() for name, value in averaged.items()}
    _replace(out / "model.safetensors", lambda path: save_file(halves, path))
    return out / "model.safetensors"


def _replace(path: Path, write: Callable[[Path], object]) -> None:
    temporary = path.with_name(path.name + ".new")
    write(temporary)
    temporary.replace(path)

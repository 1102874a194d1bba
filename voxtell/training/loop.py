"""Trains: AdamW, averaged weights, a schedule that reaches zero when the time is up, and a state that survives a kill.

    <run>/plans.json     the network's dimensions
    <run>/state.pt       weights, averaged weights, optimizer, generators, step and seconds; replaced by one rename
    <run>/log.jsonl      one line per LOG_EVERY steps: step, seconds, loss, learning_rate, and checks on validation
                         patches
    <run>/losses.png     the plot of that log

The published recipe is SGD with polynomial decay over a thousand epochs. With a few thousand steps of one patch each,
AdamW with warm-up and a half cosine got much further, and averaging the weights takes out the noise of such small
batches.
"""

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from voxtell.model.network import VoxTell
from voxtell.model.plans import Plans
from voxtell.training.dataset import DatasetError
from voxtell.training.losses import deep_supervision
from voxtell.training.sampling import PatchSampler, Sample

LOG_EVERY = 20
GRADIENT_LIMIT = 5.0
"""Norm above which a gradient is shortened, since a single patch can be an outlier."""


@dataclass(frozen=True)
class Schedule:
    """Says how long to train and how fast: for `steps` steps or `minutes` of training, whichever is given.

    Raises:
        DatasetError: when neither is given, or both.
    """

    steps: int | None = None
    minutes: float | None = None
    learning_rate: float = 1e-3
    warmup_steps: int = 50
    weight_decay: float = 1e-2
    average: float = 0.998
    """Share of the old averaged weights kept at each step; less in the first steps."""
    deep_supervision: bool = True
    """A loss at every decoder scale, or only at the finest."""

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.minutes is None):
            raise DatasetError("give the length of the training as steps or as minutes, one of them")

    def progress(self, step: int, seconds: float) -> float:
        """Returns the share of the training that is over, 0 to 1; `seconds` are those spent in steps."""
        done = step / self.steps if self.steps is not None else seconds / 60 / (self.minutes or 1)
        return min(1.0, done)

    def rate(self, step: int, seconds: float) -> float:
        """Returns the learning rate: linear warm-up, then half a cosine down to zero."""
        warm = min(1.0, (step + 1) / (self.warmup_steps + 1))
        return self.learning_rate * warm * 0.5 * (1 + math.cos(math.pi * self.progress(step, seconds)))


@torch.no_grad()
def begin_empty(network: VoxTell) -> None:
    """Sets initial weights with which every mask starts nearly empty and every prompt starts as itself.

    With torch's own, all masks start half full; the first hundred steps then go into one large guidance that empties
    every mask whatever the prompt, and hundreds more into getting out of it again. So the guidance begins at a
    logit of about -4 (activations average 0.4 after normalization), and the queries begin with more of the prompt
    than of the image. Changes the network in place.
    """
    finest = cast(nn.Linear, cast(nn.Sequential, network.project_to_decoder_channels[0])[-1])
    finest.bias.fill_(-10.0 / finest.out_features)
    for head in network.decoder.seg_layers:
        cast(nn.Conv3d, head).bias.fill_(-4.0)  # type: ignore[union-attr]
    cast(nn.Linear, network.project_text_embed[-1]).weight.mul_(4)
    for layer in network.transformer_decoder.layers:
        cast(nn.MultiheadAttention, layer.multihead_attn).out_proj.weight.mul_(0.3)


@dataclass(frozen=True)
class StepFigures:
    """Holds what one step shows: its loss, and the mean Dice of the structures in its patch (None when it has none)."""

    loss: float
    dice: float | None


class Trainer:
    """Runs one training in its folder. Making a Trainer on a folder that holds a state continues that run."""

    def __init__(
        self,
        folder: Path,
        plans: Plans,
        sampler: PatchSampler,
        schedule: Schedule,
        *,
        device: str = "cpu",
        seed: int = 0,
        start_from: dict[str, Tensor] | None = None,
        autocast: bool = True,
    ) -> None:
        """Builds the network on its device, from new weights, given ones, or the state in the folder.

        start_from: weights to fine-tune, by key. autocast: compute in bfloat16, where the hardware is faster with it.
        seed: of new weights; a continued run restores its generators.
        """
        torch.manual_seed(seed)
        self.folder, self.plans, self.sampler, self.schedule = folder, plans, sampler, schedule
        self.device, self.autocast = torch.device(device), autocast
        # oneDNN's and cuDNN's convolutions are two to three times as fast in this layout.
        self.network = VoxTell(plans).to(self.device)
        self.network.drop_unused()
        self.network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        if start_from is not None:
            self.network.load_state_dict(start_from)
        else:
            begin_empty(self.network)
        self.averaged = {name: value.detach().clone() for name, value in self.network.state_dict().items()}
        trained = [p for p in self.network.parameters() if p.requires_grad]
        # A short memory of the squared gradients (0.98): the large ones of the first steps must not slow down the next
        # thousand.
        self.optimizer = torch.optim.AdamW(
            trained, lr=schedule.learning_rate, betas=(0.9, 0.98), weight_decay=schedule.weight_decay, fused=True
        )
        self.step, self.seconds = 0, 0.0
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / "state.pt").exists():
            self._restore(torch.load(folder / "state.pt", map_location=self.device, weights_only=True))
        else:
            (folder / "plans.json").write_text(json.dumps(plans.document(), indent=1))

    def run(
        self,
        *,
        save_every_s: float = 120.0,
        check: Callable[["Trainer"], dict[str, Any]] | None = None,
        check_every_s: float = 600.0,
        report: Callable[[dict[str, Any]], None] = lambda _: None,
    ) -> None:
        """Trains until the schedule is over, saving on the way.

        Args:
            save_every_s: seconds between saved states.
            check: measures the trainer; its figures go into the log line. It runs at most every `check_every_s`
                seconds.
            report: is told each log line.
        """
        saved = checked = time.monotonic()
        figures: list[StepFigures] = []
        while self.schedule.progress(self.step, self.seconds) < 1:
            started = time.monotonic()
            figures.append(self.train_step(next(self.sampler)))
            self.seconds += time.monotonic() - started
            if self.step % LOG_EVERY == 0:
                entry = self._entry(figures)
                if check and time.monotonic() - checked > check_every_s:
                    entry |= check(self)
                    checked = time.monotonic()
                self._log(entry)
                report(entry)
                figures = []
            if time.monotonic() - saved > save_every_s:
                self.save()
                saved = time.monotonic()
        self.save()

    def train_step(self, sample: Sample) -> "StepFigures":
        """Takes one gradient step on one patch and returns its figures."""
        self.network.train()
        for group in self.optimizer.param_groups:
            group["lr"] = self.schedule.rate(self.step, self.seconds)
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.autocast):
            logits = self.network(sample.image.to(self.device), sample.text.to(self.device))
        scales = logits if self.schedule.deep_supervision else logits[:1]
        loss = deep_supervision(scales, sample.target.to(self.device), sample.known.to(self.device))
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), GRADIENT_LIMIT)
        self.optimizer.step()
        self.step += 1
        self._average()
        return StepFigures(float(loss.detach()), _hard_dice(logits[0].detach().cpu(), sample.target))

    @torch.no_grad()
    def _average(self) -> None:
        """Moves the averaged weights towards the current ones; faster in the first steps."""
        keep = min(self.schedule.average, (1 + self.step) / (10 + self.step))
        for name, value in self.network.state_dict().items():
            self.averaged[name].lerp_(value, 1 - keep)

    def averaged_network(self) -> VoxTell:
        """Returns a network with the averaged weights, in evaluation mode. Memory: a second copy of the weights."""
        network = VoxTell(self.plans).to(self.device)
        network.drop_unused()
        network.load_state_dict(self.averaged)
        return network.eval()

    def save(self) -> None:
        """Writes the state so that a kill at any moment leaves the old or the new one."""
        state = {
            "network": self.network.state_dict(),
            "averaged": self.averaged,
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
            "torch": torch.get_rng_state(),
            "sampler": json.dumps(self.sampler.state()),
        }
        temporary = self.folder / "state.pt.new"
        torch.save(state, temporary)
        temporary.replace(self.folder / "state.pt")

    def _restore(self, state: dict[str, Any]) -> None:
        """Continues from a saved state: weights, optimizer, generators and counters."""
        self.network.load_state_dict(state["network"])
        self.averaged = state["averaged"]
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.seconds = state["step"], state["seconds"]
        torch.set_rng_state(state["torch"].cpu())
        self.sampler.restore(json.loads(state["sampler"]))
        self._forget_lost_steps()

    def _forget_lost_steps(self) -> None:
        """Removes the steps after the saved state from the log: they are done again."""
        log = self.folder / "log.jsonl"
        lines = log.read_text().splitlines(keepends=True) if log.exists() else []
        log.write_text("".join(line for line in lines if json.loads(line)["step"] <= self.step))

    def _entry(self, figures: list["StepFigures"]) -> dict[str, Any]:
        """Returns a line of the log: means over the steps since the last line."""
        dice = [figure.dice for figure in figures if figure.dice is not None]
        return {
            "step": self.step,
            "seconds": round(self.seconds, 1),
            "loss": round(sum(figure.loss for figure in figures) / max(1, len(figures)), 5),
            "patch_dice": round(sum(dice) / max(1, len(dice)), 4),
            "learning_rate": round(self.schedule.rate(self.step, self.seconds), 8),
        }

    def _log(self, entry: dict[str, Any]) -> None:
        with (self.folder / "log.jsonl").open("a") as log:
            log.write(json.dumps(entry) + "\n")


def _hard_dice(logits: Tensor, target: Tensor) -> float | None:
    """Returns the mean Dice at threshold 0 over the structures in a patch: logits and target (1, P, s, a, r)."""
    found, wanted = logits[0].flatten(1) > 0, target[0].flatten(1) > 0.5
    there = wanted.any(1)
    dice = 2 * (found & wanted).sum(1) / (found.sum(1) + wanted.sum(1)).clamp(min=1)
    return float(dice[there].mean()) if there.any() else None

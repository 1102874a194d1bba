"""Figures of a run and of a report."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl

mpl.use("agg")
from matplotlib import pyplot as plt


def losses(log: Path, out: Path) -> None:
    """Loss and Dice over steps from `log.jsonl`."""
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    steps = [entry["step"] for entry in entries]
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 3.6), layout="constrained")
    left.plot(steps, [entry["loss"] for entry in entries], lw=0.8)
    left.set(xlabel="step", ylabel="loss", yscale="log")
    right.plot(steps, [entry["patch_dice"] for entry in entries], lw=0.8, label="training patches")
    checks = [entry for entry in entries if "dice" in entry]
    if checks:
        right.plot(
            [e["step"] for e in checks], [e["dice"] for e in checks], "o-", label="validation patches, averaged weights"
        )
    right.set(xlabel="step", ylabel="Dice", ylim=(0, 1))
    right.legend()
    figure.savefig(out, dpi=90)
    plt.close(figure)


def dice_boxes(dice: Mapping[str, Sequence[float]], out: Path) -> None:
    """One box of Dice over patients per structure."""
    figure, axes = plt.subplots(figsize=(8, 3.6), layout="constrained")
    axes.boxplot(list(dice.values()), tick_labels=list(dice), showmeans=True)
    axes.set(ylabel="Dice", ylim=(0, 1))
    axes.grid(axis="y", alpha=0.3)
    figure.savefig(out, dpi=90)
    plt.close(figure)

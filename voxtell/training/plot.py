"""Draws the figures of a run and of a report as PNG files."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np

mpl.use("agg")
from matplotlib import pyplot as plt

from voxtell.training.measure import Disagreement


def losses(log: Path, out: Path) -> None:
    """Draws loss and Dice over steps from a run's `log.jsonl`."""
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
    """Draws one box of Dice over patients per structure."""
    figure, axes = plt.subplots(figsize=(8, 3.6), layout="constrained")
    axes.boxplot(list(dice.values()), tick_labels=list(dice), showmeans=True)
    axes.set(ylabel="Dice", ylim=(0, 1))
    axes.grid(axis="y", alpha=0.3)
    figure.savefig(out, dpi=90)
    plt.close(figure)


def disagreements(worst: Mapping[str, Disagreement], out: Path, reach_mm: float = 65.0) -> None:
    """Draws for each structure one slice with contour (green) and mask (red), the patient's right on the left.

    reach_mm: half the side of the square that is shown around the structure.
    """
    figure, grid = plt.subplots(2, -(-len(worst) // 2), figsize=(13, 7), layout="constrained", squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, (structure, shown) in zip(grid.flat, worst.items(), strict=False):
        height, width = shown.image.shape
        extent = (-0.5 * shown.spacing[1], (width - 0.5) * shown.spacing[1])
        axes.imshow(
            shown.image,
            cmap="gray",
            vmin=-160,
            vmax=240,
            origin="lower",
            extent=(*extent, -0.5 * shown.spacing[0], (height - 0.5) * shown.spacing[0]),
        )
        places = [np.arange(n) * step for n, step in zip((width, height), shown.spacing[::-1], strict=True)]
        for mask, colour in ((shown.contour, "lime"), (shown.found, "red")):
            if mask.any():
                axes.contour(*places, mask, [0.5], colors=colour, linewidths=1.2)
        middle = np.argwhere(shown.contour | shown.found).mean(0) * shown.spacing
        axes.set(
            xlim=(middle[1] + reach_mm, middle[1] - reach_mm),
            ylim=(middle[0] - reach_mm, middle[0] + reach_mm),
            title=f"{structure}, {shown.case}\nDice {shown.dice:.2f}",
        )
    figure.savefig(out, dpi=80)
    plt.close(figure)

"""Draws the figures of a run and of a report as PNG files."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np

mpl.use("agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke

from voxtell.training.measure import Disagreement

GROUND, INK, LETTER = "#10141a", "#f0f3f7", "#78cdeb"
CONTOUR, MASK = "#3ddc84", "#e05cff"  # far apart also for people who are colour-blind
DARK = [withStroke(linewidth=3, foreground="black")]  # around letters, which may lie on bone


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
    """Draws for each structure one slice with the planner's contour and the mask, the patient's right on the left.

    The last panel is the legend. reach_mm: half the side of the square that is shown around the structure.
    """
    with plt.rc_context({"figure.facecolor": GROUND, "text.color": INK, "font.size": 13}):
        columns = -(-(len(worst) + 1) // 2)
        layout = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.12)
        figure, grid = plt.subplots(2, columns, figsize=(15, 8.4), layout=layout, squeeze=False)
        for axes in grid.flat:
            axes.set_axis_off()
        for axes, (structure, shown) in zip(grid.flat, worst.items(), strict=False):
            _disagreement(axes, structure, shown, reach_mm)
        lines = [Line2D([], [], color=colour, linewidth=3) for colour in (CONTOUR, MASK)]
        legend = grid.flat[-1].legend(
            lines, ["the planner's contour", "the model's mask"], loc="center", frameon=False, fontsize=15
        )
        legend.set_title("the slice where the two differ most\nin the patient with the lowest Dice", {"size": 13})
        plt.setp(legend.get_texts(), color=INK)
        figure.savefig(out, dpi=80)
        plt.close(figure)


def _disagreement(axes: Axes, structure: str, shown: Disagreement, reach_mm: float) -> None:
    """Draws one slice with both outlines, letters at its sides and a scale."""
    height, width = shown.image.shape
    deep, wide = shown.spacing
    extent = (-0.5 * wide, (width - 0.5) * wide, -0.5 * deep, (height - 0.5) * deep)
    axes.imshow(shown.image, cmap="gray", vmin=-160, vmax=240, origin="lower", extent=extent, interpolation="bicubic")
    places = [np.arange(n) * step for n, step in zip((width, height), (wide, deep), strict=True)]
    for mask, colour in ((shown.contour, CONTOUR), (shown.found, MASK)):
        if mask.any():
            axes.contour(*places, mask, [0.5], colors="black", linewidths=4, alpha=0.5)
            axes.contour(*places, mask, [0.5], colors=colour, linewidths=2.2)
    middle = np.argwhere(shown.contour | shown.found).mean(0) * shown.spacing
    axes.set(
        xlim=(middle[1] + reach_mm, middle[1] - reach_mm),
        ylim=(middle[0] - reach_mm, middle[0] + reach_mm),
        facecolor="black",
    )
    axes.patch.set_visible(True)
    axes.set_title(structure, loc="left", color=INK, fontweight="bold")
    axes.set_title(f"Dice {shown.dice:.2f}", loc="right", color=INK)
    axes.text(0.98, 0.04, shown.case, transform=axes.transAxes, ha="right", va="center", fontsize=11, path_effects=DARK)
    for text, x, side in (("R", 0.02, "left"), ("L", 0.98, "right")):
        axes.text(
            x, 0.5, text, transform=axes.transAxes, ha=side, va="center", color=LETTER, weight="bold", path_effects=DARK
        )
    left, low = middle[1] + 0.92 * reach_mm, middle[0] - 0.92 * reach_mm
    axes.plot([left, left - 20], [low, low], color=INK, linewidth=2, path_effects=DARK)
    axes.text(left - 23, low, "2 cm", va="center", fontsize=11, path_effects=DARK)

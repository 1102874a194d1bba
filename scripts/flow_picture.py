#!/usr/bin/env python3
"""Draws docs/flow.svg, the picture of the README: a study's way from the PACS through the node and back.

python scripts/flow_picture.py [OUT.svg|OUT.png]

The drawing has a background of its own, so that it reads the same on light and on dark pages.
"""

import sys
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

PICTURE = Path(__file__).parents[1] / "docs" / "flow.svg"
PAPER, INK, QUIET = "#f6f8fa", "#1f2933", "#52606d"
ROOM = {"peer": "#d9e2ec", "node": "#e3f0ff", "engine": "#fff0d6", "state": "#e6f4ea"}

WIDTH, HEIGHT = 2.45, 1.25
COLUMNS, ROWS = (2.55, 5.55, 8.55), (2.75, 0.95)  # left and lower edges of the boxes, upper row first
BOXES = (
    # column, row, kind, title, lines
    (0, 0, "node", "Receive", "each image is on disk\nand in the ledger\nbefore Success"),
    (1, 0, "node", "Choose", "study complete?\nprotocol + report give\nvolume and prompts"),
    (2, 0, "engine", "Segment", "VoxTell reads\n“right parotid gland”\n→ one mask per prompt"),
    (2, 1, "node", "Write", "SEG, RTSTRUCT, SR,\npreview; each decoded\nand checked again"),
    (1, 1, "node", "Release", "at once, or when a\nperson has looked\n(a protocol says which)"),
    (0, 1, "node", "Deliver", "C-STORE or STOW-RS,\nexactly once, with\nstorage commitment"),
)
ARROWS = (((0, 0), (1, 0)), ((1, 0), (2, 0)), ((2, 0), (2, 1)), ((2, 1), (1, 1)), ((1, 1), (0, 1)))


def box(axes: Axes, corner: tuple[float, float], size: tuple[float, float], colour: str) -> None:
    """A rounded box with its lower left corner at `corner`, in inches."""
    shape = FancyBboxPatch(
        corner, *size, boxstyle="round,pad=0,rounding_size=0.12", facecolor=colour, edgecolor=QUIET, linewidth=1
    )
    axes.add_patch(shape)


def arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    """An arrow from `start` to `end`, in inches."""
    axes.add_patch(FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=16, color=INK, linewidth=1.6))


def edge(column: int, row: int, towards: tuple[int, int]) -> tuple[float, float]:
    """The middle of the side of a box that looks towards another one."""
    x, y = COLUMNS[column] + WIDTH / 2, ROWS[row] + HEIGHT / 2
    step, down = towards[0] - column, towards[1] - row
    return x + step * WIDTH / 2, y - down * HEIGHT / 2


def draw(out: Path) -> None:
    """Draws the picture into `out`, as SVG or PNG by its name."""
    figure = Figure(figsize=(11.3, 4.7), facecolor=PAPER)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, 11.3), ylim=(-0.3, 4.4))
    axes.axis("off")

    box(axes, (0.3, ROWS[1]), (1.35, ROWS[0] + HEIGHT - ROWS[1]), ROOM["peer"])
    axes.text(0.975, 2.5, "PACS,\nmodality,\nplanning\nsystem", ha="center", va="center", color=INK, size=13)
    for column, row, kind, title, lines in BOXES:
        corner = (COLUMNS[column], ROWS[row])
        box(axes, corner, (WIDTH, HEIGHT), ROOM[kind])
        middle = corner[0] + WIDTH / 2
        axes.text(middle, corner[1] + HEIGHT - 0.24, title, ha="center", va="center", color=INK, size=13, weight="bold")
        axes.text(middle, corner[1] + 0.47, lines, ha="center", va="center", color=INK, size=10.5, linespacing=1.25)
    for start, end in ARROWS:
        arrow(axes, edge(*start, end), edge(*end, start))
    upper, lower = ROWS[0] + HEIGHT / 2, ROWS[1] + HEIGHT / 2
    arrow(axes, (1.65, upper), (COLUMNS[0], upper))
    arrow(axes, (COLUMNS[0], lower), (1.65, lower))
    axes.text(2.1, upper + 0.17, "C-STORE", ha="center", color=INK, size=9.5)
    axes.text(2.1, lower + 0.17, "C-STORE", ha="center", color=INK, size=9.5)
    box(axes, (0.3, 0.0), (10.7, 0.5), ROOM["state"])
    state = (
        "store: images and results on disk     ledger: what happened and why (SQLite, PostgreSQL)     queue: job ids"
    )
    axes.text(5.65, 0.25, state, ha="center", va="center", color=INK, size=11)
    with matplotlib.rc_context({"svg.hashsalt": "flow"}):  # the same drawing is the same file
        figure.savefig(out, facecolor=PAPER, metadata={"Date": None} if out.suffix == ".svg" else None, dpi=100)


if __name__ == "__main__":
    draw(Path(sys.argv[1]) if len(sys.argv) > 1 else PICTURE)

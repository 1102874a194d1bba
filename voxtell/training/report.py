"""Writes the model card: measured figures as Markdown tables and plots.

Each private function below returns one section, "" where there is nothing to tell; `card.md` is appended as it is.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from voxtell.segmenter import Segmenter, load
from voxtell.training import plot
from voxtell.training.ablation import VariantScore, read_outcomes
from voxtell.training.dataset import Dataset
from voxtell.training.measure import Measured, measure
from voxtell.training.vocabulary import HeldOut, held_out

EMPTY_ML = 0.1
"""Millilitres; a negative prompt is answered well when its mask is smaller."""
NOTES = Path(__file__).with_name("card.md")


def write_report(
    data: Dataset,
    out: Path,
    *,
    model: Path | None = None,
    log: Path | None = None,
    ablation: Path | None = None,
    robust: int = 8,
    phantoms: int = 10,
    say: Callable[[str], object] = lambda _: None,
) -> None:
    """Measures a model on the validation cases and writes Markdown to `out`, with figures in a folder beside it.

    Args:
        data: volumes and contours.
        out: the Markdown file. Plots go to `figures/` beside it.
        model: model directory; None for the bundled model.
        log: log.jsonl of the run, for the plot of its losses.
        ablation: ablation.json of `ablate`; without it the section says that none was made.
        robust: patients for unseen phrasings and negative prompts.
        phantoms: phantoms to measure.
        say: is told the progress.
    """
    segmenter = load(model)
    unseen, negatives = held_out()
    measured = measure(segmenter, data, unseen, negatives, robust=robust, phantoms=phantoms, say=say)
    figures = out.parent / "figures"
    figures.mkdir(parents=True, exist_ok=True)
    plot.dice_boxes({name: [s.dice for s in scores] for name, scores in measured.scores.items()}, figures / "dice.png")
    plot.disagreements(measured.worst, figures / "worst.png")
    if log is not None:
        plot.losses(log, figures / "losses.png")
    parts = [
        _head(segmenter, data),
        _contours(measured),
        _worst(),
        _sides(measured),
        _phrasings(measured, unseen, segmenter),
        _negatives(measured, negatives, segmenter),
        _phantoms(measured),
        _cost(measured, segmenter),
        _training(log),
        _ablation(ablation),
        NOTES.read_text(encoding="utf-8"),
    ]
    out.write_text("\n\n".join(part.strip() for part in parts if part) + "\n", encoding="utf-8")


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Returns a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def _head(segmenter: Segmenter, data: Dataset) -> str:
    """Returns title, notice, and what the model and the data are."""
    info = segmenter.info
    training, validation = (sum(case.split == split for case in data.cases) for split in ("train", "validation"))
    return f"""# {info.name} {info.version}

{info.notice}

`make model-report` measures the bundled model and writes this page.

- Weights: `{info.digest}`
- Licence: {info.licence}
- Data: {data.name} ({data.source}, {data.licence}).
  {training} patients for training, {validation} for the figures below.
  A structure that a planner did not contour is unlabelled: nothing was learnt from it, and it is not measured.
- Structures: {", ".join(data.structures)}."""


def _contours(measured: Measured) -> str:
    """Returns agreement with planners per structure: Dice, 95th percentile of the surface distance, volume error."""
    rows = []
    for name, scores in measured.scores.items():
        dice = np.array([s.dice for s in scores])
        distance = np.array([s.hd95_mm for s in scores])
        finite = distance[np.isfinite(distance)]
        error = np.array([s.volume_error for s in scores])
        rows.append(
            (
                name,
                len(scores),
                f"{dice.mean():.3f}",
                " / ".join(f"{q:.3f}" for q in np.percentile(dice, [25, 50, 75])),
                f"{np.mean([s.dice_where_contoured for s in scores]):.3f}",
                f"{np.median(finite):.1f} ({finite.mean():.1f})" if len(finite) else "-",
                len(distance) - len(finite),
                f"{100 * error.mean():+.0f} % ({100 * np.abs(error).mean():.0f} %)",
            )
        )
    mean = np.mean([float(row[2]) for row in rows])
    header = (
        "structure",
        "patients",
        "Dice mean",
        "quartiles",
        "on its slices",
        "HD95 mm median (mean)",
        "empty",
        "volume error (absolute)",
    )
    return f"""## Validation patients

Mean Dice over the structures: **{mean:.3f}**. One voxel is about 4 mm: HD95 of 4 mm is one voxel. "On its slices"
counts the slices alone that the planner contoured: where a structure begins and ends is then given.

{table(header, rows)}

The line in each box is the median, the triangle the mean, circles are single patients.

![Dice per structure](figures/dice.png)"""


def _worst() -> str:
    """Returns the text around the figure of the worst patients."""
    return """## Where mask and contour differ most

For each structure the patient with the lowest Dice, in the slice where the two differ most; the patient's right is on
the left.

![Worst patients](figures/worst.png)"""


def _sides(measured: Measured) -> str:
    """Returns how often left and right parotid were swapped."""
    names = f" ({', '.join(measured.swapped)})" if measured.swapped else ""
    return f"""## Left and right

A parotid is swapped when its mask meets the other side's contour more than its own:
**{len(measured.swapped)} of {measured.sided_cases}** patients with both contours{names}."""


def _phrasings(measured: Measured, unseen: dict[str, HeldOut], segmenter: Segmenter) -> str:
    """Returns the Dice of unseen words per structure."""
    rows = []
    for name, dice in measured.phrasings.items():
        own = float(np.mean(dice[name]))
        groups = (unseen[name].phrasings, unseen[name].typos, unseen[name].descriptions)
        means = [[float(np.mean(dice[prompt])) for prompt in prompts] for prompts in groups]
        worst = min(means[0] + means[1])
        doubted = segmenter.unlearnt(groups[2])
        known = [float(np.mean(dice[prompt])) for prompt in groups[2] if prompt not in doubted]
        means.append(known)
        rows.append((name, f"{own:.3f}", *map(_mean_and_count, means), f"{worst - own:+.3f}"))
    header = (
        "structure",
        "its name",
        "unseen phrasings",
        "unseen typos",
        "unseen descriptions",
        "those it calls known",
        "worst phrasing or typo",
    )
    patients = max((len(next(iter(dice.values()))) for dice in measured.phrasings.values()), default=0)
    return f"""## Words it has not seen

Mean Dice over at most {patients} validation patients, number of prompts in parentheses; the last column is the worst
single phrasing or typo against the structure's name. The prompts are in `voxtell/training/heldout.toml`; none was
used in training. A description that lies closer to something else, or to nothing that the model was taught, is called
unknown in every result and is to be reviewed. Synonyms among the phrasings may stand in the text encoder's word list
(`voxtell/text/lexicon.toml`), which maps them to the same vector as the name: then the masks are equal by construction.

{table(header, rows)}"""


def _mean_and_count(dice: Sequence[float]) -> str:
    """Returns "mean (count)" for a cell."""
    return f"{np.mean(dice):.3f} ({len(dice)})" if dice else "- (0)"


def _negatives(measured: Measured, negatives: Sequence[str], segmenter: Segmenter) -> str:
    """Returns how many negative prompts were answered with an empty mask."""
    good = sum(ml < EMPTY_ML for _, _, ml in measured.negatives)
    share = 100 * good / max(1, len(measured.negatives))
    worst = sorted((entry for entry in measured.negatives if entry[2] >= EMPTY_ML), key=lambda entry: -entry[2])
    listed = "; ".join(f'"{prompt}" {ml:.2f} ml in {case}' for case, prompt, ml in worst[:3])
    return f"""## What is not there

{len(negatives)} unseen prompts for organs outside head and neck ("{negatives[0]}", "{negatives[4]}", ...):
{good} of {len(measured.negatives)} masks ({share:.1f} %) are under {EMPTY_ML} ml;
{len(segmenter.unlearnt(negatives))} of the prompts are called unknown.

{f"Largest: {listed}." if listed else ""}"""


def _phantoms(measured: Measured) -> str:
    """Returns the Dice on phantoms."""
    if not measured.phantoms:
        return ""
    rows = [(name, f"{np.mean(dice):.3f}", f"{min(dice):.3f}") for name, dice in measured.phantoms.items()]
    return f"""## Built-in phantom

Dice on {len(next(iter(measured.phantoms.values())))} phantoms that the training has not seen, resampled from
2.5 x 2 x 2 mm and back.

{table(("structure", "mean", "lowest"), rows)}"""


def _cost(measured: Measured, segmenter: Segmenter) -> str:
    """Returns time and memory."""
    threads = torch.get_num_threads()
    return f"""## Cost

{measured.median_seconds:.1f} s per patient (median; {len(measured.scores)} structures, float32, threads: {threads}).
Peak memory of the whole measuring process: {measured.peak_memory_mb:.0f} MB.
The network sees windows of {segmenter.plans.patch_size} voxels (S, A, R)."""


def _training(log: Path | None) -> str:
    """Returns length and losses of the training."""
    if log is None:
        return ""
    last = json.loads(log.read_text().splitlines()[-1])
    return f"""## Training

{last["step"]} steps of one patch in {last["seconds"] / 60:.0f} minutes.

![Losses](figures/losses.png)"""


def _ablation(file: Path | None) -> str:
    """Returns the comparison of variants."""
    if file is None:
        return """## Ablations

`python -m voxtell.training ablate` compares the network as published with one fusion stage and with no deep
supervision. It has not been run for this model, so no figures are given."""
    outcomes = read_outcomes(file)
    structures = list(outcomes[0].dice)
    rows = [
        (
            outcome.variant.folder.replace("-", " "),
            *(f"{outcome.dice[name]:.3f}" for name in structures),
            _mean(outcome),
        )
        for outcome in outcomes
    ]
    return f"""## Ablations

Each variant is trained from new weights on the same patches for {outcomes[0].steps} steps, a fraction of the bundled
model's training, and measured on {outcomes[0].patients} validation patients: mean Dice, and what the part is worth
early on, not at the end.

{table(("variant", *structures, "mean"), rows)}"""


def _mean(outcome: VariantScore) -> str:
    """Returns the mean Dice over the structures for a cell."""
    return f"{np.mean(list(outcome.dice.values())):.3f}"

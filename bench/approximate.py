"""What shortcuts and half precision cost and save: Dice against planners' contours, operations, CPU seconds.

    python -m bench.approximate DATA.json [--patients 8] [--write docs/explanation/engine.md]

DATA is a data set file of voxtell.training; in its validation patients the bundled model is asked for all its
structures, first exactly, then with each variant, in turn patient by patient. Operations are those of convolutions and
matrix products, counted in a run of their own. `--write` puts the table between the two marks of a Markdown file.
"""

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import zoom
from torch.utils.flop_counter import FlopCounterMode

import voxtell
from voxtell.engine import BUNDLED_MODEL, Precision
from voxtell.inference.shortcuts import EXACT, Shortcuts
from voxtell.model.checkpoint import load_network
from voxtell.nifti import read_image
from voxtell.segmenter import Segmenter
from voxtell.text.lexical import NgramEncoder
from voxtell.training.dataset import Case, Dataset, read_dataset
from voxtell.training.measure import read_contours
from voxtell.training.scores import Mask

MARKS = ("<!-- written by bench/approximate.py -->", "<!-- end of what bench/approximate.py wrote -->")
SAFE = 0.005  # mean Dice that a shortcut may lose
AIR = -400.0  # HU; the model crops to what is above it
UNUSUAL = (6.0, 2.0, 2.0)  # mm; outside the spacings that the model takes as they are

BOTH = Shortcuts(early_exit=2.0, skip_below=AIR)
VARIANTS: dict[str, tuple[Shortcuts, Precision]] = {
    "exact": (EXACT, "float32"),
    **{f"early exit, margin {margin:g}": (Shortcuts(early_exit=margin), "float32") for margin in (0.0, 2.0, 4.0)},
    f"windows without a voxel above {AIR:g} HU skipped": (Shortcuts(skip_below=AIR), "float32"),
    **{f"coarse first, margin {margin:g}": (Shortcuts(coarse_first=margin), "float32") for margin in (0.0, 4.0)},
    "early exit 2 and skipped air": (BOTH, "float32"),
    "bfloat16": (EXACT, "bfloat16"),
    "float16": (EXACT, "float16"),
    "early exit 2, skipped air, bfloat16": (BOTH, "bfloat16"),
}


@dataclass
class Result:
    """Of one variant over all patients."""

    dice: dict[str, list[float]] = field(default_factory=dict)
    """Structure to Dice against the planner's contour, per patient."""
    agreement: list[float] = field(default_factory=list)
    """Dice against the exact mask, per patient and structure."""
    tflop: float = 0.0
    seconds: float = 0.0

    @property
    def mean(self) -> float:
        return float(np.mean([value for values in self.dice.values() for value in values]))


def dice(one: Mask, other: Mask) -> float:
    """Dice of two masks; 1 when both are empty."""
    sizes = int(one.sum()) + int(other.sum())
    return 2 * int((one & other).sum()) / sizes if sizes else 1.0


def ask(
    segmenter: Segmenter,
    result: Result,
    image: np.ndarray,
    structures: tuple[str, ...],
    spacing: tuple[float, ...],
    counted: bool = True,
) -> np.ndarray:
    """The masks of one patient; what they took is added to the result. torch cannot count under autocast.

    Counting slows the work down, so what is timed is not counted.
    """
    segmenter.embed(structures)
    started = time.process_time()
    masks = segmenter(image, structures, spacing=spacing)
    result.seconds += time.process_time() - started
    if counted:
        with FlopCounterMode(display=False) as counter:
            segmenter(image, structures, spacing=spacing)
        result.tflop += counter.get_total_flops() / 1e12
    else:
        result.tflop = np.nan
    return masks


def judge(result: Result, masks: dict[str, Mask], contours: dict[str, Mask], exact: dict[str, Mask]) -> None:
    for structure, contour in contours.items():
        result.dice.setdefault(structure, []).append(dice(masks[structure], contour))
        result.agreement.append(dice(masks[structure], exact[structure]))


def measure(data: Dataset, cases: list[Case]) -> dict[str, Result]:
    """Every variant on every patient."""
    structures = tuple(data.structures)
    segmenters = {
        name: voxtell.load(shortcuts=shortcuts, precision=precision)
        for name, (shortcuts, precision) in VARIANTS.items()
    }
    results = {name: Result() for name in VARIANTS}
    for case in cases:
        ct = read_image(case.image)
        image, spacing = ct.array, ct.spacing
        contours, exact = read_contours(case), {}
        for name, segmenter in segmenters.items():
            counted = VARIANTS[name][1] == "float32"
            found = ask(segmenter, results[name], image, structures, spacing, counted)
            masks = dict(zip(structures, found, strict=True))
            exact = exact or masks
            judge(results[name], masks, contours, exact)
        print(f"{case.name}: {results['exact'].seconds:.0f} CPU seconds so far for exact masks", flush=True)
    return results


def measure_spacing(data: Dataset, cases: list[Case]) -> dict[str, Result]:
    """The same patients on a grid of unusual spacing, taken as it is and resampled as `resample` does."""
    structures = tuple(data.structures)
    network = load_network(BUNDLED_MODEL)
    as_it_is = replace(network.plans.input, spacing=None, spacing_min=None, spacing_max=None)
    network.plans = replace(network.plans, input=as_it_is)
    text = NgramEncoder(network.plans.prompt.text_dim)
    segmenters = {"resampled": voxtell.load(), "taken as it is": Segmenter(network, text, "sha256:")}
    results = {name: Result() for name in segmenters}
    for case in cases:
        ct = read_image(case.image)
        image, spacing = ct.array, ct.spacing
        factors = [mm / wanted for mm, wanted in zip(spacing, UNUSUAL, strict=True)]
        image = zoom(image, factors, order=1, mode="nearest", grid_mode=True)
        contours = {
            name: zoom(contour.astype(np.uint8), factors, order=0, mode="nearest", grid_mode=True) > 0
            for name, contour in read_contours(case).items()
        }
        exact: dict[str, Mask] = {}
        for name, segmenter in segmenters.items():
            masks = dict(zip(structures, ask(segmenter, results[name], image, structures, UNUSUAL), strict=True))
            exact = exact or masks
            judge(results[name], masks, contours, exact)
    return results


def rows(results: dict[str, Result], reference: str) -> Iterator[str]:
    """Lines of a Markdown table, each against the reference."""
    exact = results[reference]
    for name, result in results.items():
        worst = min(
            float(np.mean(values)) - float(np.mean(exact.dice[structure])) for structure, values in result.dice.items()
        )
        operations = _share(result.tflop, exact.tflop)
        yield (
            f"| {name} | {result.mean:.4f} | {result.mean - exact.mean:+.4f} | {worst:+.4f} | "
            f"{min(result.agreement):.3f} | {operations} | {result.seconds / exact.seconds:.2f} |"
        )


def _share(part: float, whole: float) -> str:
    return "not counted" if np.isnan(part) else f"{part / whole:.2f}"


def table(data: Dataset, cases: list[Case]) -> str:
    results, spacings = measure(data, cases), measure_spacing(data, cases)
    exact = results["exact"]
    safe = [name for name, result in results.items() if name != "exact" and result.mean > exact.mean - SAFE]
    head = "Dice | change | worst structure | least agreement with exact | operations | CPU time |\n"
    line = "|---|---|---|---|---|---|---|\n"
    model = voxtell.load().info
    size = "x".join(str(round(mm, 1)) for mm in UNUSUAL)
    return (
        f"Bundled model {model.version} ({model.digest[:19]}...), {len(cases)} validation patients of {data.name}, "
        f"{len(data.structures)} prompts, {torch.get_num_threads()} threads; exact masks took "
        f"{exact.tflop / len(cases):.2f} TFLOP and {exact.seconds / len(cases):.1f} CPU seconds a patient.\n\n"
        f"| variant | {head}{line}" + "\n".join(rows(results, "exact")) + "\n\n"
        f"The same patients on a grid of {size} mm:\n\n"
        f"| spacing | {head}{line}" + "\n".join(rows(spacings, "resampled")) + "\n\n"
        f"Mean Dice falls by less than {SAFE} with: {'; '.join(safe) or 'none'}.\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="data set file")
    parser.add_argument("--patients", type=int, default=8, help="validation patients, the first of the file")
    parser.add_argument("--write", type=Path, help="Markdown file with the two marks")
    options = parser.parse_args()
    data = read_dataset(options.data)
    cases = [case for case in data.cases if case.split == "validation"][: options.patients]
    text = table(data, cases)
    print(text)
    if options.write:
        before, _, rest = options.write.read_text(encoding="utf-8").partition(MARKS[0])
        _, _, after = rest.partition(MARKS[1])
        options.write.write_text(f"{before}{MARKS[0]}\n{text}{MARKS[1]}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()

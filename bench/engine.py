"""Ours beside `voxtell` 0.1.2 on one window: time, peak memory, operations, largest difference, voxels that differ.

    python -m bench.engine [--window 96] [--prompts 1 8 30] [--repeat 3]

Time is CPU time of the process, which other programs on the machine disturb least; with one thread (OMP_NUM_THREADS=1)
it is what a quiet machine would take.

Each side runs in a process of its own with the same seeded weights, window and embeddings; upstream runs in the
environment that `make parity` installs. A window smaller than 192 keeps all widths, blocks and the 12^3 memory of the
published network and leaves out down-samplings before the memory: stage 5 always has 12^3 voxels.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from scripts.parity.seeded import seeded_embeddings
from voxtell.inference.preprocess import Field
from voxtell.inference.runner import Runner
from voxtell.model.checkpoint import load_network
from voxtell.model.plans import Plans

ROOT = Path(__file__).parents[1]
UPSTREAM = ROOT / ".venv-upstream"
SEED = 7
# Down-samplings before the memory at 12^3 voxels, for each size of window.
STRIDES = {192: (1, 2, 2, 2, 2, 2), 96: (1, 2, 2, 2, 1, 2), 48: (1, 2, 2, 1, 1, 2)}


def plans_document(window: int) -> dict[str, object]:
    """plans.json of the published network for a window of this size."""
    document = Plans().document()
    configuration = document["configurations"]["3d_fullres"]
    configuration["patch_size"] = [window] * 3
    configuration["architecture"]["arch_kwargs"]["strides"] = [[s] * 3 for s in STRIDES[window]]
    del document["voxtell"]
    return document


def write_weights(model: Path) -> None:
    """Seeded weights; they are those of `make parity`, since no weight depends on the size of the window."""
    written = UPSTREAM / "work" / "model" / "fold_0" / "checkpoint_final.pth"
    if written.exists():
        (model / "fold_0").mkdir()
        os.link(written, model / "fold_0" / written.name)
    else:
        upstream("weights", model)


def upstream(command: str, *arguments: Path | str) -> None:
    """Run scripts/parity/upstream.py in upstream's environment."""
    script = ROOT / "scripts" / "parity" / "upstream.py"
    subprocess.run([UPSTREAM / "bin" / "python", script, command, *arguments], check=True)


def seeded_model(folder: Path, window: int) -> Path:
    """A model directory of the published widths for windows of this size, with seeded weights; made once."""
    if not (UPSTREAM / ".ready").exists():
        sys.exit("bench: upstream is not installed; run `make parity` once")
    model = folder / f"model-{window}"
    if not (model / "fold_0" / "checkpoint_final.pth").exists():
        model.mkdir(parents=True, exist_ok=True)
        (model / "plans.json").write_text(json.dumps(plans_document(window)))
        write_weights(model)
    return model


def ours(command: str, model: Path, source: Path, target: Path, precision: str) -> None:
    """The counterpart of scripts/parity/upstream.py for `window` and `flops`."""
    given = np.load(source)
    window, text = torch.from_numpy(given["window"]), torch.from_numpy(given["embeddings"])
    network = load_network(model)
    if command == "flops":
        network.to("meta")
        with torch.inference_mode(), FlopCounterMode(display=False) as once_per_model:
            network.decoder.kernels()
        with torch.inference_mode(), FlopCounterMode(display=False) as counter:
            network(window[None, None].to("meta"), text[None].to("meta"))
        np.savez(target, flops=counter.get_total_flops() - once_per_model.get_total_flops())
        return
    runner = Runner(network, precision)
    start = time.process_time()
    logits = np.empty((len(text), *window.shape), np.float32)
    whole = (slice(0, window.shape[0]), slice(0, window.shape[1]), slice(0, window.shape[2]))
    field = Field(window, inside=whole, crop=whole, resampled=False)
    runner.fill(field, text, logits, convert=lambda x: x, progress=lambda _: None, cancelled=lambda: False)
    seconds = time.process_time() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    np.savez(target, seconds=seconds, peak=peak, logits=logits)


def measure(model: Path, size: int, prompts: int, repeat: int, precision: str) -> str:
    """One line of the table; the quicker of `repeat` alternating runs counts for each side."""
    source = model / "window.npz"
    window = np.random.default_rng([SEED, size]).standard_normal((size,) * 3, dtype=np.float32)
    np.savez(source, window=window, embeddings=seeded_embeddings(prompts, Plans().prompt.text_dim, SEED).numpy())
    found: dict[str, dict[str, np.ndarray]] = {}
    for side in ("upstream", "ours") * repeat:
        target = model / f"{side}.npz"
        for command in ("flops", "window") if side not in found else ("window",):
            if side == "upstream":
                upstream(command, model, source, target)
            else:
                run = [sys.executable, "-m", "bench.engine", "--side", command, model, source, target, precision]
                subprocess.run(run, check=True, cwd=ROOT)
            result = dict(np.load(target))
            before = found.setdefault(side, {"seconds": np.array(np.inf)})
            if command == "flops":
                before["flops"] = result["flops"]
            else:
                seconds = result.pop("cpu_seconds", result["seconds"])
                found[side] = before | result | {"seconds": min(before["seconds"], seconds)}
    a, b = found["ours"], found["upstream"]
    difference = float(np.abs(a["logits"] - b["logits"]).max())
    voxels = int(((a["logits"] > 0) != (b["logits"] > 0)).sum())
    cells = [f"{prompts:7d}"]
    for key, unit in (("seconds", 1.0), ("peak", 2.0**30), ("flops", 1e12)):
        mine, theirs = float(a[key]) / unit, float(b[key]) / unit
        cells.append(f"{theirs:8.2f} {mine:7.2f} {mine / theirs:6.2f}")
    return " | ".join([*cells, f"{difference:10.2g} {voxels:8d} of {a['logits'].size}"])


def main() -> None:
    if sys.argv[1:2] == ["--side"]:
        command, *paths, precision = sys.argv[2:]
        ours(command, *(Path(path) for path in paths), precision=precision)
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--window", type=int, default=96, choices=sorted(STRIDES), help="voxels along each axis")
    parser.add_argument("--prompts", type=int, nargs="+", default=[1, 8, 30])
    parser.add_argument("--repeat", type=int, default=3, help="runs of each side; the quickest counts")
    parser.add_argument("--precision", default="float32", choices=["float32", "bfloat16"], help="of ours")
    parser.add_argument("--work", type=Path, default=UPSTREAM / "bench", help="folder for weights (2 GB)")
    options = parser.parse_args()
    model = seeded_model(options.work, options.window)
    print(f"window {options.window}^3, {options.precision}, {torch.get_num_threads()} threads; upstream, ours, ratio")
    print("prompts |       CPU seconds       |       peak GiB          |          TFLOP          | difference   voxels")
    for prompts in options.prompts:
        print(measure(model, options.window, prompts, options.repeat, options.precision), flush=True)


if __name__ == "__main__":
    main()

"""Ours beside `voxtell` 0.1.2 on a whole volume, each with its own windows, blending and thresholding.

    python -m bench.volume --device cuda [--shape 300 512 512] [--prompts 30] [--settings exact compiled skipped]
    python -m bench.volume --window 48 --shape 60 72 72 --prompts 2     (a CPU: shows that it runs)

Time is from the image in memory to the masks in memory. On a GPU a call on one window comes first, for what happens
once (kernels chosen, code compiled). Peak memory is what torch held on a GPU, or the whole process's on a CPU. The
settings of ours:

    exact      as the node runs by default: half precision on a GPU, float32 on a CPU
    float32    without half precision
    compiled   exact, with the encoder compiled by torch
    skipped    exact, windows without a voxel above -400 are left out: approximate, off by default
    leaving    skipped, and prompts leave early below a margin of 2: approximate, off by default

The image is an ellipsoid of noise in air, or --image. Without --model the weights are seeded: their masks are noise,
so that a prompt hardly ever leaves early; how much `leaving` saves says only a trained model.
"""

import argparse
import resource
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt
import torch

import voxtell
from bench.engine import ROOT, SEED, STRIDES, UPSTREAM, seeded_model, upstream
from scripts.parity.compare import Given
from scripts.parity.seeded import seeded_embeddings
from voxtell.engine import Precision
from voxtell.inference.shortcuts import EXACT, Shortcuts
from voxtell.model.checkpoint import load_network
from voxtell.nifti import read_image

AIR, BODY = -1000.0, -400.0  # Hounsfield units
SETTINGS: dict[str, tuple[Precision, bool, Shortcuts]] = {
    "exact": ("auto", False, EXACT),
    "float32": ("float32", False, EXACT),
    "compiled": ("auto", True, EXACT),
    "skipped": ("auto", False, Shortcuts(skip_below=BODY)),
    "leaving": ("auto", False, Shortcuts(skip_below=BODY, early_exit=2.0)),
}


def body(shape: tuple[int, int, int]) -> npt.NDArray[np.float32]:
    """An image (S, A, R) in Hounsfield units: noise within an ellipse of every slice, air around it."""
    noise = np.random.default_rng(SEED).normal(40, 60, shape).astype(np.float32)
    a, r = (np.linspace(-1, 1, size)[:, None] for size in shape[1:])
    outside = a**2 / 0.64 + r.T**2 / 0.9 > 1
    noise[:, outside] = AIR
    return noise


def ours(setting: str, model: Path, source: Path, target: Path, device: str) -> None:
    """The counterpart of upstream.py's `masks`."""
    given = np.load(source)
    embeddings = torch.from_numpy(given["embeddings"])
    precision, compiled, shortcuts = SETTINGS[setting]
    network = load_network(model).to(device)
    segmenter = voxtell.Segmenter(
        network, Given(embeddings), "", precision=precision, compiled=compiled, shortcuts=shortcuts
    )
    prompts = [str(number) for number in range(len(embeddings))]
    patch = network.plans.patch_size
    middle = tuple(
        slice(max(0, (size - length) // 2), (size + length) // 2)
        for size, length in zip(given["image"].shape, patch, strict=True)
    )
    if device != "cpu":
        segmenter(given["image"][middle], prompts[:1])
        torch.cuda.reset_peak_memory_stats(device)
    start = time.perf_counter()
    masks = segmenter(given["image"], prompts)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    if device != "cpu":
        peak = torch.cuda.max_memory_allocated(device)
    np.savez(target, masks=masks, seconds=seconds, peak=peak)


def main() -> None:
    """Measure and print a table."""
    if sys.argv[1:2] == ["--side"]:
        setting, model, source, target, device = sys.argv[2:]
        ours(setting, Path(model), Path(source), Path(target), device)
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:1, for both sides")
    parser.add_argument("--shape", type=int, nargs=3, default=[300, 512, 512], metavar=("S", "A", "R"))
    parser.add_argument("--image", type=Path, help="a NIfTI file instead of the ellipsoid")
    parser.add_argument("--prompts", type=int, default=30)
    parser.add_argument("--settings", nargs="+", default=["exact"], choices=sorted(SETTINGS))
    parser.add_argument("--model", type=Path, help="a model directory of the published layout; seeded weights without")
    parser.add_argument("--window", type=int, default=192, choices=sorted(STRIDES), help="of the seeded model")
    options = parser.parse_args()
    model = options.model or seeded_model(UPSTREAM / "bench", options.window)
    image = read_image(options.image).array if options.image else body(tuple(options.shape))
    print(f"{'x'.join(map(str, image.shape))}, {options.prompts} prompts, {options.device}")
    print(f"{'':10} {'seconds':>9} {'ratio':>6} {'GiB':>7} {'ratio':>6}  voxels that differ", flush=True)
    with TemporaryDirectory(dir=UPSTREAM) as folder:
        source, target = Path(folder, "in.npz"), Path(folder, "out.npz")
        dim = load_network(model).plans.prompt.text_dim
        np.savez(source, image=image, embeddings=seeded_embeddings(options.prompts, dim, SEED).numpy())
        upstream("masks", model, source, target, options.device)
        theirs = dict(np.load(target))
        for name in ("upstream", *options.settings):
            if name != "upstream":
                run = [sys.executable, "-m", "bench.volume", "--side", name, model, source, target, options.device]
                subprocess.run(run, check=True, cwd=ROOT)
            print(line(name, dict(np.load(target)), theirs), flush=True)


def line(name: str, found: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> str:
    """One row of the table: ours, and ours in parts of theirs."""
    seconds, peak = float(found["seconds"]), float(found["peak"])
    differ = int((found["masks"].astype(bool) != theirs["masks"].astype(bool)).sum())
    return (
        f"{name:10} {seconds:9.1f} {seconds / float(theirs['seconds']):6.2f} {peak / 2**30:7.2f} "
        f"{peak / float(theirs['peak']):6.2f}  {differ} of {theirs['masks'].size}"
    )


if __name__ == "__main__":
    main()

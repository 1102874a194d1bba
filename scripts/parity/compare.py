"""Ours against `voxtell` 0.1.2 on the same seeded full-size weights and the same real CT: `make parity`.

Upstream runs as a subprocess in its own environment (both packages are called voxtell). Compared, with the tolerances
that half-precision blending upstream leaves:

    window      logits of one 192^3 window                  1e-4 of their range
    volume      blended logits of two overlapping windows   half's rounding: 2e-3 of their range
    masks       of the same volume                          equal wherever |logit| > 2e-3
    embedding   of a small random Qwen3                     1e-5
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

import voxtell
from scripts.parity.seeded import seeded_embeddings
from scripts.parity.text_model import PROMPTS, write_text_model
from voxtell.inference.preprocess import prepare
from voxtell.model.plans import Plans
from voxtell.nifti import read_image
from voxtell.text.encoders import QwenEncoder

HERE = Path(__file__).parent
PATCH = Plans().patch_size
SEED = 2026


class Given:
    """A text encoder whose prompts are row numbers of embeddings made beforehand."""

    name = "given"

    def __init__(self, embeddings: torch.Tensor) -> None:
        self.dim = embeddings.shape[1]
        self._embeddings = embeddings

    def embed(self, prompts: Sequence[str]) -> torch.Tensor:
        return self._embeddings[[int(prompt) for prompt in prompts]]


class Upstream:
    """Upstream's environment and the model directory that both sides read."""

    def __init__(self, python: Path, work: Path) -> None:
        self.model = work / "model"
        self._python, self._work = python, work
        self.model.mkdir(parents=True, exist_ok=True)
        (self.model / "plans.json").write_text(json.dumps(published_plans()))

    def run(self, command: str, *paths: Path) -> None:
        environment = os.environ | {"PYTHONWARNINGS": "ignore"}
        subprocess.run([self._python, HERE / "upstream.py", command, *paths], check=True, env=environment)

    def ask(self, command: str, **given: object) -> dict[str, np.ndarray]:
        source, target = self._work / f"{command}_in.npz", self._work / f"{command}_out.npz"
        np.savez(source, **given)
        self.run(command, self.model, source, target)
        return dict(np.load(target))


def published_plans() -> dict[str, object]:
    """plans.json as published: without a section of ours."""
    document = Plans().document()
    del document["voxtell"]
    return document


def two_windows(image: np.ndarray) -> np.ndarray:
    """The image made just long enough along R, by repeating voxels, that two windows overlap in it."""
    times = -(-(PATCH[2] + 40) // image.shape[2])
    return np.ascontiguousarray(image.repeat(times, axis=2)[..., : PATCH[2] + 40])


def row(name: str, difference: float, allowed: float, ours_s: float, theirs_s: float) -> bool:
    verdict = "ok" if difference <= allowed else "DIFFERS"
    print(f"{name:34} {difference:12.3g} {allowed:12.3g} {theirs_s:12.1f} {ours_s:9.1f}  {verdict}", flush=True)
    return difference <= allowed


def compare(upstream: Upstream, image: np.ndarray, prompts: int) -> bool:
    """Print one row per comparison; True when all hold."""
    embeddings = seeded_embeddings(prompts, Plans().prompt.text_dim, SEED)
    network = voxtell.model.checkpoint.load_network(upstream.model)
    segmenter = voxtell.Segmenter(network, Given(embeddings), "sha256:parity")
    names = [str(p) for p in range(prompts)]
    print(f"{'':34} {'difference':>12} {'allowed':>12} {'upstream s':>12} {'ours s':>9}")

    field = prepare(image, network.plans)
    window = np.ascontiguousarray(field.volume.numpy()[: PATCH[0], : PATCH[1], : PATCH[2]])
    theirs = upstream.ask("window", window=window, embeddings=embeddings.numpy())
    start = time.perf_counter()
    with torch.inference_mode():
        ours = network(torch.from_numpy(window)[None, None], embeddings[None])[0][0].numpy()
    seconds = time.perf_counter() - start
    spread = float(np.ptp(theirs["logits"]))
    good = row(
        "window: logits / range",
        np.abs(ours - theirs["logits"]).max() / spread,
        1e-4,
        seconds,
        float(theirs["seconds"]),
    )

    volume = two_windows(image)
    theirs = upstream.ask("volume", image=volume, embeddings=embeddings.numpy())
    start = time.perf_counter()
    logits = segmenter.logits(volume, names)
    seconds = time.perf_counter() - start
    ours = logits[(slice(None), *prepare(volume, network.plans).crop)]
    difference = np.abs(ours - theirs["logits"].reshape(ours.shape)).max() / spread
    good &= row("volume: blended logits / range", difference, 2e-3, seconds, float(theirs["seconds"]))

    theirs = upstream.ask("masks", image=volume, embeddings=embeddings.numpy())
    masks = theirs["masks"].astype(bool).reshape(logits.shape)
    differs = (logits > 0) != masks
    clear = np.abs(logits) > 2e-3
    good &= row("masks: voxels with |logit| > 2e-3", int((differs & clear).sum()), 0, seconds, float(theirs["seconds"]))
    print(f"  ({differs.sum()} of {differs.size} voxels differ at all; {masks.mean():.1%} of voxels are in a mask)")
    return bool(good)


def compare_text(upstream: Upstream, folder: Path) -> bool:
    """The embedding of the same prompts by the same small random text model."""
    write_text_model(folder)
    theirs = upstream.ask("embed", prompts=np.array(PROMPTS), text_model=str(folder))
    start = time.perf_counter()
    ours = QwenEncoder(folder).embed(PROMPTS).numpy()
    seconds = time.perf_counter() - start
    difference = np.abs(ours - theirs["embeddings"].reshape(ours.shape)).max()
    return row("embedding", float(difference), 1e-5, seconds, float(theirs["seconds"]))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("image", type=Path, help="a CT as NIfTI, at most 192 voxels in each axis")
    parser.add_argument("--upstream-python", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True, help="folder for weights and results (4 GB)")
    parser.add_argument("--prompts", type=int, default=2)
    options = parser.parse_args()
    upstream = Upstream(options.upstream_python, options.work)
    if not (upstream.model / "fold_0" / "checkpoint_final.pth").exists():
        upstream.run("weights", upstream.model)
    image = read_image(options.image).array
    good = compare(upstream, image, options.prompts)
    good &= compare_text(upstream, options.work / "text-model")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())

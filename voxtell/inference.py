"""The network over the windows of one field: encode a window once, decode the prompts one after another, blend.

Prompts never see each other, so how they are split changes nothing but memory: what grows with their number is only the
slab of blended sums, and a pass over the volume takes as many prompts as fit.
"""

from collections.abc import Callable, Iterator
from itertools import count
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import psutil  # type: ignore[import-untyped]
import torch
from torch import Tensor

from voxtell import tiling
from voxtell.errors import CancelledError, ModelError
from voxtell.network import VoxTell
from voxtell.plans import Triple
from voxtell.preprocess import Field, resize, triple

Precision = Literal["auto", "float32", "bfloat16", "float16"]
Progress = Callable[[float], None]
Cancelled = Callable[[], bool]
Convert = Callable[[Tensor], Tensor]
Predict = Callable[[Triple], Iterator[Tensor]]

CPU = torch.device("cpu")

# Share of the free memory that the blended sums may take; the rest is for the network's features.
SUMS_SHARE = 0.4


class Runner:
    """A network ready for inference on its device."""

    def __init__(self, network: VoxTell, precision: Precision = "auto") -> None:
        self._network = network.eval()
        for parameter in network.parameters():
            if parameter.dim() == 5:
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last_3d)
        self._patch = network.plans.patch_size
        self._device = network.pos_embed.device
        self._dtype = _dtype(precision, self._device)
        with torch.inference_mode():
            self._kernels = network.kernels()

    def fill(
        self,
        field: Field,
        embeddings: Tensor,
        out: npt.NDArray[Any],
        convert: Convert,
        progress: Progress,
        cancelled: Cancelled,
    ) -> None:
        """Write the converted logits of the prompts (P, E) into `out` (P, S, A, R), the field's crop of the image."""
        grid = triple(field.volume.shape)
        prompts = len(embeddings)
        steps = prompts * len(tiling.window_starts(grid, self._patch))
        done = count(1)
        sink, as_sunk = (
            (np.empty((prompts, *field.inside_shape), np.float32), _as_is) if field.resampled else (out, convert)
        )

        def of(part: slice) -> Predict:
            def predict(start: Triple) -> Iterator[Tensor]:
                if cancelled():
                    raise CancelledError
                for logits in self._window(field.volume, start, embeddings[part].to(self._device)):
                    yield logits
                    progress(min(1.0, next(done) / steps))
                    if cancelled():
                        raise CancelledError

            return predict

        with torch.inference_mode(), torch.autocast(self._device.type, self._dtype, self._dtype != torch.float32):
            for part, place in self._passes(prompts, grid):
                try:
                    self._pass(field, of(part), sink[part], as_sunk, place)
                except torch.OutOfMemoryError:
                    if place == CPU:
                        raise
                    torch.cuda.empty_cache()
                    self._pass(field, of(part), sink[part], as_sunk, CPU)
            if field.resampled:
                for p, logits in enumerate(sink):
                    out[p] = convert(resize(torch.from_numpy(logits), field.crop_shape)).numpy()

    def _window(self, volume: Tensor, start: Triple, embeddings: Tensor) -> Iterator[Tensor]:
        """Logits (s, a, r) of one window, prompt after prompt."""
        s, a, r = (slice(at, at + size) for at, size in zip(start, self._patch, strict=True))
        image = volume[None, None, s, a, r].to(self._device).contiguous(memory_format=torch.channels_last_3d)
        skips = self._network.encoder(image)
        guidance = self._network.guidance(skips, embeddings[None])
        shared = self._network.decoder.share(skips, self._kernels)
        del skips  # a gigabyte of a large window that no prompt needs
        for p in range(len(embeddings)):
            (logits,) = self._network.decoder(shared, [scale[0, p] for scale in guidance], self._kernels)
            yield logits[0, 0]

    def _pass(
        self, field: Field, predict: Predict, sink: npt.NDArray[Any], convert: Convert, place: torch.device
    ) -> None:
        """All windows for some prompts, blended at `place`; `sink` (P, S, A, R) is the field without its padding."""
        depth, a, r = field.inside
        for rows, logits in tiling.blend(triple(field.volume.shape), self._patch, len(sink), predict, place):
            first, end = max(rows.start, depth.start), min(rows.stop, depth.stop)
            if first < end:
                inside = logits[:, first - rows.start : end - rows.start, a, r]
                sink[:, first - depth.start : end - depth.start] = convert(inside).cpu().numpy()

    def _passes(self, prompts: int, grid: Triple) -> Iterator[tuple[slice, torch.device]]:
        """Which prompts go together, and where their sums are held: on the device if they fit, else on the host."""
        for place in (self._device, CPU):
            fitting = int(SUMS_SHARE * free_bytes(place)) // tiling.slab_bytes(1, grid, self._patch)
            if fitting >= prompts or place == CPU:
                break
        size = max(1, min(prompts, fitting))
        for first in range(0, prompts, size):
            yield slice(first, first + size), place


def free_bytes(device: torch.device) -> int:
    """Memory that new tensors may take on a device."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + unused
    return int(psutil.virtual_memory().available)


def pick_device(name: str) -> torch.device:
    """The device of a name: "cpu", "cuda", "cuda:1", or "auto", the first GPU if there is one.

    Raises `ModelError` when it is not there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ModelError(f"{name!r} is no device; use cpu, cuda or cuda:0") from None
    if device.type == "cuda" and (not torch.cuda.is_available() or (device.index or 0) >= torch.cuda.device_count()):
        raise ModelError(f"{name} is not there: torch sees {torch.cuda.device_count()} GPUs; use device cpu")
    return device


def _dtype(precision: Precision, device: torch.device) -> torch.dtype:
    if precision == "auto":
        return torch.float16 if device.type == "cuda" else torch.float32
    return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[precision]


def _as_is(logits: Tensor) -> Tensor:
    return logits

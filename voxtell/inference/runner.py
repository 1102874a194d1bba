"""Runs the network over all windows of a field: encodes a window once, decodes the prompts one by one, blends.

The way of one image: `preprocess.prepare` gives a `Field`; `memory.admit` says how many prompts go together;
`tiling.blend` asks for the logits of each window and yields blended rows; `assembly.Rows` writes them into the caller's
array. The prompts do not see each other, so how they are split changes only memory: the slab of blended sums is all
that grows with their number.

Axes are (S, A, R): superior, anterior, right. P prompts, E numbers per embedding.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from voxtell.engine import Cancelled, Precision, Progress
from voxtell.errors import CancelledError, ModelError, OutOfMemoryError
from voxtell.inference import memory, preprocess, tiling
from voxtell.inference.assembly import Convert, Rows
from voxtell.inference.preprocess import Field, triple
from voxtell.inference.shortcuts import ABSENT, EXACT, Shortcuts
from voxtell.model.mask_decoder import Shared
from voxtell.model.network import VoxTell
from voxtell.model.plans import Triple


class Runner:
    """Owns the network from here on and changes its layout in place: do not save or train it afterwards.

    Use it from one thread at a time.
    """

    def __init__(
        self, network: VoxTell, precision: Precision = "auto", *, shortcuts: Shortcuts = EXACT, compiled: bool = False
    ) -> None:
        """Takes a network that is on its device already.

        precision: see `dtype_of`. compiled: let torch compile the encoder, which takes minutes at the first window.
        """
        self._network = network.eval()
        network.drop_unused()
        for parameter in network.parameters():
            if parameter.dim() == 5:
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last_3d)
        self._patch = network.plans.patch_size
        self._device = network.pos_embed.device
        self._dtype = dtype_of(precision, self._device)
        self._shortcuts = shortcuts
        self._encode: Callable[[Tensor], list[Tensor]] = network.encoder
        if compiled:
            self._encode = torch.compile(network.encoder)
        with torch.inference_mode():
            self._kernels = network.decoder.kernels()

    def fill(
        self,
        field: Field,
        embeddings: Tensor,
        out: npt.NDArray[Any],
        convert: Convert,
        progress: Progress,
        cancelled: Cancelled,
    ) -> None:
        """Writes the converted logits of the prompts into `out`.

        Args:
            field: the prepared image.
            embeddings: float32 (P, E), one row per prompt.
            out: (P, S, A, R) of any dtype, the field's crop of the caller's array. It is changed in place.
            convert: logits to values of `out`, for example a threshold.
            progress: called with the share of the work that is done, 0 to 1.
            cancelled: asked before every window and after every prompt; True ends the work.

        Raises:
            CancelledError: when `cancelled` returns True.
            NumbersError: when the network's logits overflow.
            OutOfMemoryError: when even one prompt with its sums on the CPU is too much.
        """
        grid, prompts = triple(field.volume.shape), len(embeddings)
        admission = memory.admit(
            self._network.plans, grid, prompts, results=out.nbytes, number_bytes=self._dtype.itemsize,
            device=self._device,
        )  # fmt: skip
        half = None if self._shortcuts.coarse_first is None else preprocess.halved(field, self._patch)
        windows = sum(
            len(tiling.window_starts(triple(part.volume.shape), self._patch)) for part in (field, half) if part
        )
        steps = Steps(prompts * windows, progress, cancelled)
        first = 0
        while first < prompts:
            part = slice(first, first + admission.prompts)
            try:
                with memory.given_back(self._device), memory.shortage_said():
                    rows = Rows(field, out[part], convert)
                    self._pass(field, half, embeddings[part], rows, admission.place, steps)
                first = part.stop
            except OutOfMemoryError:
                smaller = admission.smaller()
                if smaller is None:
                    raise
                admission = smaller

    def _pass(
        self, field: Field, half: Field | None, embeddings: Tensor, rows: Rows, place: torch.device, steps: "Steps"
    ) -> None:
        """Runs all windows for some prompts (P, E) with their sums at `place`; those of `half` first, if any."""
        given = embeddings.to(self._device)
        with (
            torch.inference_mode(),
            torch.autocast(self._device.type, self._dtype, self._dtype != torch.float32),
            # Deterministic, so that the same input gives the same masks; and float32 must not silently become TF32.
            torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=self._dtype != torch.float32),
        ):
            near = None if half is None else self._look(half, given, place, steps)
            every = [True] * len(given)

            def predict(start: Triple) -> Iterator[Tensor] | None:
                if not field.has_body(start, self._patch):
                    steps.advance(len(given))
                    return None
                wanted = every if near is None else _touched(near, field, start, self._patch)
                return self._window(field.volume, start, given, wanted, steps)

            for part, logits in tiling.blend(triple(field.volume.shape), self._patch, len(given), predict, place):
                rows.take(part, logits)

    def _window(
        self, volume: Tensor, start: Triple, embeddings: Tensor, wanted: list[bool], steps: "Steps"
    ) -> Iterator[Tensor]:
        """Yields the logits (s, a, r) of one window per prompt; one value (1, 1, 1) for prompts known absent."""
        steps.advance(0)
        if any(wanted):
            guidance, shared = self._encoded(volume, start, embeddings)
        margin = self._shortcuts.early_exit
        for p, is_wanted in enumerate(wanted):
            if is_wanted:
                (logits,) = self._network.decoder(
                    shared, [scale[0, p] for scale in guidance], self._kernels, None if margin is None else -margin
                )
                yield logits[0, 0]
            else:
                yield torch.full((1, 1, 1), ABSENT, device=self._device)
            steps.advance(1)

    def _encoded(self, volume: Tensor, start: Triple, embeddings: Tensor) -> tuple[list[Tensor], Shared]:
        """Returns the guidance per scale (1, P, values), and the prompt-independent decoder features of one window."""
        s, a, r = (slice(at, at + size) for at, size in zip(start, self._patch, strict=True))
        image = volume[None, None, s, a, r].to(self._device).contiguous(memory_format=torch.channels_last_3d)
        skips = self._encode(image)
        return self._network.guidance(skips, embeddings[None]), self._network.decoder.share(skips, self._kernels)

    def _look(self, half: Field, embeddings: Tensor, place: torch.device, steps: "Steps") -> npt.NDArray[np.bool_]:
        """Returns where the prompts may be: bool (P, s, a, r) on the grid of a field at half the resolution."""
        margin = self._shortcuts.coarse_first or 0.0
        near = np.zeros((len(embeddings), *half.crop_shape), np.bool_)
        rows = Rows(half, near, lambda logits: logits > -margin)

        def predict(start: Triple) -> Iterator[Tensor]:
            return self._window(half.volume, start, embeddings, [True] * len(embeddings), steps)

        for part, logits in tiling.blend(triple(half.volume.shape), self._patch, len(near), predict, place):
            rows.take(part, logits)
        return near


class Steps:
    """Reports progress and stops the work when it is cancelled. One step is one prompt decoded in one window."""

    def __init__(self, total: int, progress: Progress, cancelled: Cancelled) -> None:
        self._total, self._progress, self._cancelled = total, progress, cancelled
        self._done = 0

    def advance(self, prompts: int) -> None:
        """Counts that so many more prompts are through one window; 0 only asks whether to stop.

        Raises:
            CancelledError: when the caller has cancelled.
        """
        self._done += prompts
        if prompts:
            self._progress(min(1.0, self._done / self._total))
        if self._cancelled():
            raise CancelledError


def _touched(near: npt.NDArray[np.bool_], field: Field, start: Triple, patch: Triple) -> list[bool]:
    """Returns, for each prompt, whether the pass at half the resolution found it anywhere in a window of the field."""
    box = tuple(
        slice(max(0, at - part.start) // 2, max(0, -(-(at + size - part.start) // 2)))
        for at, size, part in zip(start, patch, field.inside, strict=True)
    )
    return [bool(of_prompt[box].any()) for of_prompt in near]


def pick_device(name: str) -> torch.device:
    """Returns the torch device of a name: "cpu", "cuda", "cuda:1", or "auto", which is the first GPU if there is one.

    Raises:
        ModelError: when the name is no device, or the GPU is not there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ModelError(f"{name!r} is no device; use cpu, cuda or cuda:0") from None
    if device.type == "cuda" and (not torch.cuda.is_available() or (device.index or 0) >= torch.cuda.device_count()):
        raise ModelError(f"{name} is not there: torch sees {torch.cuda.device_count()} GPUs; use device cpu")
    # "cuda" and "cuda:0" are one device; locks and logs need one name for it.
    return torch.device("cuda:0") if name == "cuda" else device


def dtype_of(precision: Precision, device: torch.device) -> torch.dtype:
    """Returns the dtype in which the network computes; "auto" is float16 on a GPU and float32 elsewhere."""
    if precision == "auto":
        return torch.float16 if device.type == "cuda" else torch.float32
    return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[precision]

"""Memory: how much is free, what a segmentation will take, and what to do when it was not enough.

Linux gives out memory that it does not have and kills the process that touches it, so on a CPU running out cannot be
caught. Work is therefore admitted by an estimate before it starts. Where an allocation fails all the same, the work is
tried again in smaller pieces.
"""

import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import torch

from voxtell.errors import OutOfMemoryError
from voxtell.inference import tiling
from voxtell.model.plans import Plans, Triple

CPU = torch.device("cpu")
CGROUP = Path("/sys/fs/cgroup")

# Of the free memory, what the work may take by the estimate; the rest is for what nobody counted.
SHARE = 0.9

# How libraries without an error type of their own say that memory is short: torch's allocator of host memory, CUDA,
# cuBLAS, and cuDNN, where the workspace of no convolution fits.
SHORTAGES = ("DefaultCPUAllocator", "out of memory", "ALLOC_FAILED", "unable to find an engine")

# Tensors of the finest stage's size that are alive at once while a window is encoded, the coarser stages counted in.
FINEST_TENSORS = 4.5


@dataclass(frozen=True)
class Admission:
    """How many prompts go together over the volume, and where their blended sums are held."""

    prompts: int
    place: torch.device

    def smaller(self) -> "Admission | None":
        """What to try when this was too much: half the prompts, then sums on the host; None after the last."""
        if self.prompts > 1:
            return replace(self, prompts=(self.prompts + 1) // 2)
        return None if self.place == CPU else replace(self, place=CPU)


def admit(
    plans: Plans, shape: Triple, prompts: int, *, results: int, number_bytes: int, device: torch.device
) -> Admission:
    """Choose the split of the prompts before the work: all together, sums on the device, else on the host, else fewer.

    shape: the padded volume (S, A, R); results: bytes of host memory that the results will fill; number_bytes: of one
    number of the features. The network's weights are on the device already. Raises `OutOfMemoryError` (later) when
    one prompt is too many.
    """
    window = features_bytes(plans, number_bytes)
    each = tiling.slab_bytes(shape, plans.patch_size)  # of the sums of one prompt; of the weights once more
    best = Admission(0, CPU)
    for place in dict.fromkeys((device, CPU)):
        others = each + (window if place == device else 0) + (results if place == CPU else 0)
        fitting = max(0, int(SHARE * free_bytes(place)) - others) // each
        if best.prompts < min(prompts, fitting):
            best = Admission(min(prompts, fitting), place)
    if best.prompts < 1 or SHARE * free_bytes(device) < window:
        needed = 2 * each + window + (results if device == CPU else 0)
        raise OutOfMemoryError(
            f"windows of {plans.patch_size} over a volume of {shape} take {_gib(needed / SHARE)} of memory, "
            f"{_gib(free_bytes(device))} are free on {device}; try again when other work there has ended"
        )
    return best


def features_bytes(plans: Plans, number_bytes: int) -> int:
    """Estimate of the memory that one window takes while it is encoded and decoded."""
    return int(FINEST_TENSORS * plans.encoder.features[0] * prod(plans.patch_size) * number_bytes)


def free_bytes(device: torch.device) -> int:
    """Memory that new tensors may take on a device; on the CPU no more than the container's limit leaves."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + unused
    available = int(psutil.virtual_memory().available)
    limit = _free_in_cgroup()
    return available if limit is None else min(available, limit)


@contextmanager
def given_back(device: torch.device) -> Iterator[None]:
    """Leave a GPU's memory to other processes afterwards, also when the work was cancelled, ran out of time or failed.

    torch keeps what its tensors have left; and they live on in the frames that an error has passed through.
    """
    try:
        yield
    finally:
        if error := sys.exc_info()[1]:
            traceback.clear_frames(error.__traceback__)
        if device.type == "cuda":
            torch.cuda.empty_cache()


@contextmanager
def shortage_said() -> Iterator[None]:
    """Turn an allocation that failed, on whichever device, into `OutOfMemoryError`."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise OutOfMemoryError from error
    except RuntimeError as error:
        if not any(words in str(error) for words in SHORTAGES):
            raise
        raise OutOfMemoryError from error


def _free_in_cgroup() -> int | None:
    """What a container's memory limit leaves (cgroup v2), pages that can be dropped included; None without a limit."""
    try:
        limit = (CGROUP / "memory.max").read_text().strip()
        used = int((CGROUP / "memory.current").read_text())
        stat = dict(line.split() for line in (CGROUP / "memory.stat").read_text().splitlines())
    except OSError:
        return None
    return None if limit == "max" else max(0, int(limit) - used + int(stat.get("inactive_file", 0)))


def _gib(size: float) -> str:
    return f"{size / 2**30:.1f} GiB"

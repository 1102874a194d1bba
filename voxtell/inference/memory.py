"""Estimates and limits memory: how much is free, what a segmentation takes, what to try after a failed allocation.

Linux hands out memory that it does not have and kills the process that touches it, so on a CPU a shortage cannot be
caught. Work is therefore admitted by an estimate before it starts (`admit`). Where an allocation fails all the same,
`Admission.smaller` says how to repeat the work in smaller pieces. All sizes are bytes; (S, A, R) are the axes of a
volume: superior, anterior, right.
"""

import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import prod

import torch

from voxtell.errors import OutOfMemoryError
from voxtell.host_memory import free_host_bytes, gib
from voxtell.inference import tiling
from voxtell.model.plans import Plans, Triple

CPU = torch.device("cpu")

# Share of the free memory that the estimate may fill; the rest is for what the estimate does not count.
SHARE = 0.9

# Messages by which libraries without an error type of their own report a shortage: torch's host allocator, CUDA,
# cuBLAS, and cuDNN (where the workspace of no convolution algorithm fits).
SHORTAGES = ("DefaultCPUAllocator", "out of memory", "ALLOC_FAILED", "unable to find an engine")

# How many tensors of the finest stage's size are alive at once while a window is encoded; includes the coarser stages.
FINEST_TENSORS = 4.5


@dataclass(frozen=True)
class Admission:
    """Says how many prompts run together over the volume, and on which device their blended sums are held.

    prompts: prompts per pass over the volume; place: the network's device or the CPU. A pass with sums on the CPU is
    slower, because every window's logits are copied there.
    """

    prompts: int
    place: torch.device

    def smaller(self) -> "Admission | None":
        """Returns what to try after a shortage: half the prompts; with one prompt, sums on the CPU; None after that."""
        if self.prompts > 1:
            return replace(self, prompts=(self.prompts + 1) // 2)
        return None if self.place == CPU else replace(self, place=CPU)


def admit(
    plans: Plans, shape: Triple, prompts: int, *, results: int, number_bytes: int, device: torch.device
) -> Admission:
    """Chooses the split of the prompts: all together with sums on the device, else sums on the CPU, else fewer prompts.

    Args:
        plans: dimensions of the network, whose weights are on the device already.
        shape: the padded volume (S, A, R) in voxels.
        prompts: how many are asked for.
        results: bytes of host memory that the caller's result array will fill.
        number_bytes: bytes of one number of the features, 2 or 4.
        device: where the network computes.

    Raises:
        OutOfMemoryError: when not even one prompt fits (retry: later); names what is needed and what is free.
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
            f"windows of {plans.patch_size} over a volume of {shape} take {gib(needed / SHARE)} of memory, "
            f"{gib(free_bytes(device))} are free on {device}; try again when other work there has ended"
        )
    return best


def features_bytes(plans: Plans, number_bytes: int) -> int:
    """Estimates the bytes that one window takes while it is encoded and decoded.

    It is `FINEST_TENSORS` times the feature map of the finest encoder stage, which dwarfs all others.
    """
    return int(FINEST_TENSORS * plans.encoder.features[0] * prod(plans.patch_size) * number_bytes)


def free_bytes(device: torch.device) -> int:
    """Returns the bytes that new tensors may take on a device.

    On a GPU this includes what torch has reserved and does not use.
    """
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + unused
    return free_host_bytes()


@contextmanager
def given_back(device: torch.device) -> Iterator[None]:
    """Returns a GPU's cached memory to other processes on leaving, also after an error or a cancellation.

    torch's allocator keeps the memory of freed tensors, and the frames that an error has passed through keep their
    tensors alive: both are released here.
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
    """Turns a failed allocation inside the block, on any device, into one kind of error.

    Raises:
        OutOfMemoryError: when torch or Python is short of memory, or a RuntimeError says one of the `SHORTAGES`.
    """
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise OutOfMemoryError from error
    except RuntimeError as error:
        if not any(words in str(error) for words in SHORTAGES):
            raise
        raise OutOfMemoryError from error

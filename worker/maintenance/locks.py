"""Whose turn it is: at the device, and at a destination.

The processes of a node read and write side by side and compute one by one. Two networks at work on one GPU would
share its time and not its memory: each would have been admitted by what was free before the other began. In turns each
finds all of it, and while one computes the others read and write.

The delivery processes go to a destination one at a time, to send or to ask. So one that hangs takes one of them, and
the others are there for the other destinations.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import quote

from dicom_node.storage.durable import locked, try_lock

GPU_FILES: Final = (Path("/dev/nvidiactl"), Path("/dev/dxg"))
"""Present where there is an NVIDIA GPU: on Linux, and on Linux within Windows."""

BESIDE_A_GPU: Final = 2
"""Segmentation processes: one computes while the other reads or writes."""


@contextmanager
def device_turn(home: Path, device: str) -> Iterator[None]:
    """Wait for the device, by torch's name, and have it to oneself, as far as the processes of one home go.

    They may run in several containers, which must see the same GPUs under the same names. Nodes with homes of their own
    on one GPU do not wait for each other. The turn ends with the `with` block, and with the process, however that ends.
    Raises OSError.
    """
    with locked(_lock_file(home / "turns" / "devices", device)):
        yield


@contextmanager
def destination_turn(home: Path, destination: str) -> Iterator[bool]:
    """Have a destination to oneself if nobody else is at it: says whether that is so, and does not wait.

    The turn ends with the `with` block, and with the process, however that ends. Raises OSError.
    """
    descriptor = try_lock(_lock_file(home / "turns", destination))
    try:
        yield descriptor is not None
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _lock_file(folder: Path, name: str) -> Path:
    path = folder / f"{quote(name, safe='')}.lock"
    folder.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def means_gpu(device: str) -> bool:
    """Whether a device of the settings is a GPU, as far as the machine tells without loading torch."""
    return device.startswith("cuda") or (device == "auto" and any(path.exists() for path in GPU_FILES))


def processes_for(device: str) -> int:
    """How many segmentation processes keep a device busy.

    On a CPU it is one: the network takes all cores, and a second copy of a model is much of the memory.
    """
    return BESIDE_A_GPU if means_gpu(device) else 1

"""Whose turn it is: at the device, and at a destination.

The processes of a machine read and write side by side and compute one by one. Two networks at work on one GPU would
share its time and not its memory: each would have been admitted by what was free before the other began. In turns each
finds all of it, and while one computes the others read and write.

The delivery processes go to a destination one at a time, to send or to ask. So one that hangs takes one of them, and
the others are there for the other destinations.
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import quote

from dicom_node.keeping.durable import locked, try_lock

GPU_FILES: Final = (Path("/dev/nvidiactl"), Path("/dev/dxg"))
"""Present where there is an NVIDIA GPU: on Linux, and on Linux within Windows."""

BESIDE_A_GPU: Final = 2
"""Segmentation processes: one computes while the other reads or writes."""


def device_turn(device: str) -> AbstractContextManager[None]:
    """Wait for the device, by torch's name, and have it to oneself, as far as this user's processes on this machine go.

    The turn ends with the `with` block, and with the process, however that ends. Raises OSError.
    """
    folder = Path(tempfile.gettempdir()) / f"voxtell-{os.getuid()}-{device.replace(':', '-')}"
    folder.mkdir(mode=0o700, exist_ok=True)
    return locked(folder)


@contextmanager
def destination_turn(home: Path, destination: str) -> Iterator[bool]:
    """Have a destination to oneself if nobody else is at it: says whether that is so, and does not wait.

    The turn ends with the `with` block, and with the process, however that ends. Raises OSError.
    """
    path = home / "turns" / f"{quote(destination, safe='')}.lock"
    path.parent.mkdir(exist_ok=True)
    path.touch()
    descriptor = try_lock(path)
    try:
        yield descriptor is not None
    finally:
        if descriptor is not None:
            os.close(descriptor)


def means_gpu(device: str) -> bool:
    """Whether a device of the settings is a GPU, as far as the machine tells without loading torch."""
    return device.startswith("cuda") or (device == "auto" and any(path.exists() for path in GPU_FILES))


def processes_for(device: str) -> int:
    """How many segmentation processes keep a device busy.

    On a CPU it is one: the network takes all cores, and a second copy of a model is much of the memory.
    """
    return BESIDE_A_GPU if means_gpu(device) else 1

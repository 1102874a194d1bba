"""The device an engine computes on: which it is, how many processes it keeps busy, and the lock that they share.

The processes of a node read and write side by side and compute one by one. Two networks at work on one GPU would
share its time and not its memory: each would have been admitted by what was free before the other began. With the lock
each finds all of it, and while one computes the others read and write.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from dicom_node.storage.durable import lock_file, locked

GPU_FILES: Final = (Path("/dev/nvidiactl"), Path("/dev/dxg"))
"""Present where there is an NVIDIA GPU: on Linux, and on Linux within Windows."""

BESIDE_A_GPU: Final = 2
"""Segmentation processes: one computes while the other reads or writes."""


@contextmanager
def device_lock(home: Path, device: str) -> Iterator[None]:
    """Waits for a device, by torch's name, and holds its lock among the processes of one home.

    They may run in several containers, which must see the same GPUs under the same names. Nodes with homes of their own
    on one GPU do not wait for each other. The lock ends with the `with` block, and with the process, however that ends.

    Raises:
        OSError: when the lock's file cannot be made.
    """
    with locked(lock_file(home / "turns" / "devices", device)):
        yield


def means_gpu(device: str) -> bool:
    """Whether a device of the settings is a GPU, as far as the machine tells without loading torch."""
    return device.startswith("cuda") or (device == "auto" and any(path.exists() for path in GPU_FILES))


def processes_for(device: str) -> int:
    """Returns how many segmentation processes keep a device busy.

    On a CPU it is one: the network takes all cores, and a second copy of a model is much of the memory.
    """
    return BESIDE_A_GPU if means_gpu(device) else 1

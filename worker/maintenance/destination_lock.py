"""The lock of a destination: one delivery process at a time talks to it, to send or to ask for commitment.

A destination that hangs so holds up one process, and the others are free for the other destinations. It is a lock of
the operating system on a file in `HOME/turns`, for the processes of one home.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dicom_node.storage.durable import lock_file, try_lock


@contextmanager
def destination_lock(home: Path, destination: str) -> Iterator[bool]:
    """Holds the lock of a destination, or yields False at once if another process holds it.

    The lock ends with the `with` block, and with the process, however that ends.

    Raises:
        OSError: when the lock's file cannot be made.
    """
    descriptor = try_lock(lock_file(home / "turns", destination))
    try:
        yield descriptor is not None
    finally:
        if descriptor is not None:
            os.close(descriptor)

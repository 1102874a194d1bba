"""The lock of a destination, which one delivery process at a time holds.

The delivery processes go to a destination one at a time, to send or to ask. So one that hangs takes one of them, and
the others are there for the other destinations.
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

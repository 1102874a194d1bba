"""The wall clock of a node's processes: the true one, and as many seconds more or less as a file says.

Only `time.time` moves, which is what the node reckons leases, waits and quiet times by. The monotonic clock stays, as
it does when a machine's clock is set. (libfaketime cannot: with it Python's own sleep fails.)
"""

import os
import time
from pathlib import Path
from typing import Final

VARIABLE: Final = "TORTURE_CLOCK"
"""The environment variable that names the file."""

LOOK_SECONDS: Final = 0.5
"""How often a process looks at the file."""


def follow() -> None:
    """From now on `time.time` in this process, and in those that it forks, follows the file."""
    file, true_time = Path(os.environ[VARIABLE]), time.time
    offset, looked_at = 0.0, float("-inf")

    def stepped() -> float:
        nonlocal offset, looked_at
        if time.monotonic() - looked_at > LOOK_SECONDS:
            offset, looked_at = float(file.read_text()), time.monotonic()
        return true_time() + offset

    time.time = stepped

"""Waiting for what other threads and processes do."""

import time
from collections.abc import Callable
from typing import Any

WAIT_SECONDS = 60.0  # a loaded machine may take long; a hang must still end


def wait_until(condition: Callable[[], Any]) -> None:
    """Until something that other threads do has happened."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)

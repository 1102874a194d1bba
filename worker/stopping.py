"""Tells the processes of a worker that it was told to stop, and when they must give back what they are at.

The parent calls `stop_within` in its signal handler; its children, forked from it, ask `must_give_back` in their loops.
They share one number in memory, so a child learns of it while a task runs, and no signal disturbs its libraries.
"""

import math
import time
from multiprocessing import RawValue
from typing import Final

GIVING_BACK_SECONDS: Final = 5.0
"""How long before the end of its time a worker gives back what it cannot finish: it takes that to say so."""

_give_back_at = RawValue("d", math.inf)  # by the monotonic clock, which all processes of a machine share


def stop_within(seconds: float) -> None:
    """Lets the processes work on for `seconds`, less what giving back takes. A later call changes nothing."""
    if math.isinf(_give_back_at.value):
        _give_back_at.value = time.monotonic() + max(0.0, seconds - GIVING_BACK_SECONDS)


def must_give_back() -> bool:
    """Whether the worker was told to stop and its time is nearly over."""
    return bool(time.monotonic() >= _give_back_at.value)


def go_on() -> None:
    """Takes the order to stop back, for one process that runs several workers in turn."""
    _give_back_at.value = math.inf

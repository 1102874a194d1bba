"""The hours in which a job may be started: local times of day, which may go over midnight."""

import math
from datetime import datetime, time, tzinfo

Window = tuple[str, str]
"""From and to, local time of day: "22:00", "06:00". The end is not part of it; the same twice means all day."""

MINUTE = 60.0


def is_open(window: Window, now: float, zone: tzinfo | None = None) -> bool:
    """Whether `now` (seconds since 1970) lies in the window, by the clock on the wall of `zone`; None: of this machine.

    Raises:
        ValueError: when a time of day is none.
    """
    start, end = (time.fromisoformat(text) for text in window)
    wall = datetime.fromtimestamp(now, zone).time()
    if start < end:
        return start <= wall < end
    return wall >= start or wall < end


def next_open(window: Window, now: float, zone: tzinfo | None = None) -> float:
    """`now` if the window is open, else the first full minute at which it is.

    The minutes are looked at one by one, so that an hour which the clock leaves out or repeats needs no rule.
    """
    moment = now
    while not is_open(window, moment, zone):
        moment = (math.floor(moment / MINUTE) + 1) * MINUTE
    return moment

"""The hours in which a job may be started: a protocol's `window`, in local times of day, which may go over midnight."""

import math
from datetime import datetime, time, tzinfo

Window = tuple[str, str]
"""Start and end as local times of day, ("22:00", "06:00"). The end is excluded; the same time twice is all day."""

MINUTE = 60.0


def is_open(window: Window, now: float, zone: tzinfo | None = None) -> bool:
    """Whether `now` (seconds since 1970-01-01 UTC) lies in the window, in the time zone `zone`; None: this machine's.

    Raises:
        ValueError: when a time of day is not written as HH:MM.
    """
    start, end = (time.fromisoformat(text) for text in window)
    wall = datetime.fromtimestamp(now, zone).time()
    if start < end:
        return start <= wall < end
    return wall >= start or wall < end


def next_open(window: Window, now: float, zone: tzinfo | None = None) -> float:
    """Returns `now` if the window is open, else the first full minute at which it is open, in seconds since 1970.

    The minutes are tried one by one, so that an hour that is left out or repeated by summer time needs no rule.
    """
    moment = now
    while not is_open(window, moment, zone):
        moment = (math.floor(moment / MINUTE) + 1) * MINUTE
    return moment

"""Timers of an association that a step of the system's clock does not touch.

pynetdicom 3.0 reckons them by the time of day. Set forward by more than a timeout, as when a machine hears of the right
time, every association was over at once, and the thread of one that had just begun died; set back, none ever ran out.
"""

import time

from pynetdicom.dul import DULServiceProvider
from pynetdicom.timer import Timer


class SteadyTimer(Timer):  # type: ignore[misc]
    """A timer on the monotonic clock."""

    _start_time: float | None
    _end_time: float | None

    @property
    def remaining(self) -> float:
        """Seconds until it runs out, negative after that; 1 if it never does."""
        if self.timeout is None:
            return 1.0
        if self._start_time is None:
            return float(self.timeout)
        until = time.monotonic() if self._end_time is None else self._end_time
        return float(self.timeout - (until - self._start_time))

    def start(self) -> None:
        """Begin to count anew."""
        self._start_time, self._end_time = time.monotonic(), None

    def stop(self) -> None:
        """Count no further."""
        self._end_time = time.monotonic()


def steady(upper_layer: DULServiceProvider) -> None:
    """Gives an upper layer (PS3.8) such timers; one that counts begins anew."""
    for name in ("artim_timer", "_idle_timer"):
        old = getattr(upper_layer, name)
        new = SteadyTimer(old.timeout)
        if old._start_time is not None:
            new.start()
        setattr(upper_layer, name, new)

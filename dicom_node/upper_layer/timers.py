"""Timers of an association that a step of the system's clock does not touch.

pynetdicom 3.0 reckons them by the time of day. Set forward by more than a timeout, as when a machine hears of the right
time, every association was over at once, and the thread of one that had just begun died; set back, none ever ran out.
"""

import time

from pynetdicom.dul import DULServiceProvider
from pynetdicom.timer import Timer


class SteadyTimer(Timer):  # type: ignore[misc]
    """A timer on the monotonic clock, for PS3.8's ARTIM (section 9.1.5) and for the time that a peer may be idle."""

    def __init__(self, timeout: float | None) -> None:
        """Makes a timer that has not started; it runs out `timeout` seconds after its start, or never for None."""
        super().__init__(timeout)
        self._started_at: float | None = None  # seconds on the monotonic clock
        self._stopped_at: float | None = None

    @property
    def expired(self) -> bool:
        """Whether it was started and has run out, before it was stopped if it was."""
        return self.timeout is not None and self._started_at is not None and self.remaining < 0

    @property
    def remaining(self) -> float:
        """Seconds until it runs out, negative after that; 1 if it never does."""
        if self.timeout is None:
            return 1.0
        if self._started_at is None:
            return float(self.timeout)
        until = time.monotonic() if self._stopped_at is None else self._stopped_at
        return float(self.timeout - (until - self._started_at))

    def start(self) -> None:
        """Begins to count anew."""
        self._started_at, self._stopped_at = time.monotonic(), None

    def stop(self) -> None:
        """Counts no further."""
        self._stopped_at = time.monotonic()


def use_steady_timers(upper_layer: DULServiceProvider) -> None:
    """Gives an upper layer (PS3.8) that has not started such timers, with the timeouts of those it has."""
    upper_layer.artim_timer = SteadyTimer(upper_layer.artim_timer.timeout)
    upper_layer._idle_timer = SteadyTimer(upper_layer._idle_timer.timeout)

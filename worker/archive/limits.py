"""How fast an archive run may go: its rate, its hours and days, and how many studies may lie on the disk.

`RunLimits` is what a person sets; it is kept in the run's row. A bucket of tokens says when the next study may be
fetched; `obstacle` says why none may be fetched now. The clinic goes first: while its jobs wait, an archive fetches
nothing.
"""

import math
import re
from dataclasses import dataclass
from datetime import datetime, time, timedelta, tzinfo
from typing import Annotated, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from worker.ledger.windows import MINUTE, Window, is_open

Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
DAYS: Final[tuple[Day, ...]] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
CLINIC_PATIENCE_SECONDS: Final = 600.0  # a job of the clinic that waits for longer stops the fetching
_UNITS: Final = {"": 1, "B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_PER: Final = {"s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_MOST_MINUTES: Final = 8 * 24 * 60  # every minute of a week, and a day for summer time


def days_of(text: str) -> tuple[Day, ...]:
    """Reads days of the week: "mon-fri", "sat,sun", "fri-mon" (over the week-end), in the order of a week.

    Raises:
        ValueError: when a word is no day.
    """
    found: set[Day] = set()
    for part in text.lower().split(","):
        first, _, last = (word.strip() for word in part.partition("-"))
        if first not in DAYS or (last or first) not in DAYS:
            raise ValueError(f"'{part}' is no day or range of days; write mon-fri or sat,sun")
        start, end = DAYS.index(first), DAYS.index(last or first)
        found |= {DAYS[(start + number) % 7] for number in range((end - start) % 7 + 1)}
    return tuple(day for day in DAYS if day in found)


def bytes_of(text: str) -> int:
    """Reads a size such as "50GB" (powers of 1000), in bytes.

    Raises:
        ValueError: when it is none.
    """
    read = re.fullmatch(r"(\d+(?:\.\d+)?) ?([kMGT]?B?)", text.strip())
    if not read or read[2] not in _UNITS:
        raise ValueError(f"'{text}' is no size; write it as 50GB or 800MB")
    return int(float(read[1]) * _UNITS[read[2]])


def per_second(text: str) -> float:
    """Reads a rate such as "300/h" or "20MB/s", per second.

    Raises:
        ValueError: when it is none.
    """
    amount, _, per = text.partition("/")
    if per.strip() not in _PER:
        raise ValueError(f"'{text}' is no rate; write it as 300/h or 20MB/s")
    return bytes_of(amount) / _PER[per.strip()]


def window_of(text: str) -> Window:
    """Reads hours such as "20:00-06:00".

    Raises:
        ValueError: when they are none.
    """
    if not re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d-([01]\d|2[0-3]):[0-5]\d", text.strip()):
        raise ValueError(f"'{text}' are no hours; write them as 20:00-06:00")
    start, _, end = text.strip().partition("-")
    return start, end


def _read(reader: object) -> BeforeValidator:
    """Applies a reader to what a person wrote; what came from the ledger is read already."""
    return BeforeValidator(lambda value: reader(value) if isinstance(value, str) else value)  # type: ignore[operator]


def _all_read(windows: object) -> object:
    return (
        [window_of(one) if isinstance(one, str) else one for one in windows]
        if isinstance(windows, list | tuple)
        else windows
    )


class RunLimits(BaseModel):
    """The limits of a run. Texts as people write them are read; None is no limit."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    associations: int = Field(1, ge=1, le=8)  # with the source, at one time
    rate: Annotated[float | None, _read(per_second)] = Field(None, gt=0)  # studies per second
    bandwidth: Annotated[float | None, _read(per_second)] = Field(None, gt=0)  # bytes per second
    hours: Annotated[tuple[Window, ...], BeforeValidator(_all_read)] = ()  # local; none: all day
    days: Annotated[tuple[Day, ...], _read(days_of)] = ()  # none: all
    ahead: int = Field(4, ge=1)  # studies on the disk, or on their way there, that have no outcome
    disk: Annotated[int | None, _read(bytes_of)] = Field(None, gt=0)  # bytes of those

    def are_open(self, now: float, zone: tzinfo | None = None) -> bool:
        """Whether a study may be fetched at `now` (s since 1970-01-01 UTC), in the time zone; None: this machine's.

        A night belongs to the day on which it begins: on "mon-fri" the hours "20:00-06:00" end on Saturday at six.
        """
        return any(
            is_open(hours, now, zone) and self._on_day(hours, now, zone)
            for hours in self.hours or (("00:00", "00:00"),)
        )

    def next_open(self, now: float, zone: tzinfo | None = None) -> float:
        """Returns `now` if the hours are open, else the first full minute at which they are, in s since 1970."""
        moment = now
        for _ in range(_MOST_MINUTES):
            if self.are_open(moment, zone):
                return moment
            moment = (math.floor(moment / MINUTE) + 1) * MINUTE
        raise AssertionError(
            "hours that are never open"
        )  # every window is open once a day, every day comes once a week

    def _on_day(self, hours: Window, now: float, zone: tzinfo | None) -> bool:
        if not self.days:
            return True
        start, end = (time.fromisoformat(text) for text in hours)
        wall = datetime.fromtimestamp(now, zone)
        after_midnight = start > end and wall.time() < end
        return DAYS[(wall - timedelta(days=after_midnight)).weekday()] in self.days


@dataclass(frozen=True)
class TokenBucket:
    """A stock of tokens that fills at a rate up to a most, and is empty or in debt after a large taking.

    A taking is allowed while the stock is above 0, and may leave a debt: one study larger than the most goes through,
    and the next waits until that is paid. Over any time the tokens taken are at most rate x time + most + one taking.
    """

    rate: float  # tokens per second
    most: float
    stock: float
    at: float  # s since 1970-01-01 UTC

    @classmethod
    def full(cls, rate: float, most: float, now: float) -> "TokenBucket":
        """Returns a full bucket."""
        return cls(rate, most, most, now)

    def filled(self, now: float) -> "TokenBucket":
        """Returns the bucket as it is at `now`; a clock that was set back adds nothing."""
        passed = max(0.0, now - self.at)
        return TokenBucket(self.rate, self.most, min(self.most, self.stock + passed * self.rate), now)

    def wait(self, now: float) -> float:
        """Returns the seconds until something may be taken; 0: now."""
        stock = self.filled(now).stock
        return 0.0 if stock > 0 else max(-stock / self.rate, 1e-6)

    def take(self, amount: float, now: float) -> "TokenBucket":
        """Returns the bucket after `amount` was taken, whether it may be or not: what has come has come."""
        filled = self.filled(now)
        return TokenBucket(self.rate, self.most, filled.stock - amount, now)


@dataclass(frozen=True)
class Situation:
    """What the disk and the ledger say, for the decision whether a study is fetched."""

    open_studies: int
    open_bytes: int
    free_bytes: int  # of the disk
    least_free_bytes: int  # VOXTELL_MIN_FREE_BYTES
    largest_bytes: int = 0  # the largest study seen
    clinic_waits_s: float = 0.0  # how long the oldest due job of the clinic has waited


def obstacle(limits: RunLimits, now: float, seen: Situation, zone: tzinfo | None = None) -> str:
    """Returns why no further study may be fetched, as a phrase; "" if one may be."""
    if not limits.are_open(now, zone):
        return "outside the hours of the run"
    if seen.clinic_waits_s > CLINIC_PATIENCE_SECONDS:
        return "jobs of the clinic wait: they go first"
    if seen.open_studies >= limits.ahead:
        return f"{seen.open_studies} studies wait for their outcome, and {limits.ahead} may (--ahead)"
    if limits.disk is not None and seen.open_bytes + seen.largest_bytes > limits.disk and seen.open_studies:
        return "its studies on the disk have reached their limit (--disk)"
    if seen.free_bytes < 3 * seen.least_free_bytes + seen.largest_bytes:
        return "the disk has too little room"
    return ""

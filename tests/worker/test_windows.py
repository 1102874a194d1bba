"""The hours in which jobs may start: over midnight, and where the clock leaves an hour out or repeats it."""

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.ledger.windows import is_open, next_open

ZONES = ("Europe/Berlin", "America/St_Johns", "Australia/Lord_Howe", "Asia/Kolkata", "UTC")
YEAR = 365 * 24 * 3600

time_of_day = st.integers(0, 24 * 60 - 1).map(lambda minute: f"{minute // 60:02}:{minute % 60:02}")
zones = st.sampled_from(ZONES).map(ZoneInfo)


def at(text: str, zone: str = "Europe/Berlin") -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


def clock(moment: float, zone: str = "Europe/Berlin") -> str:
    return datetime.fromtimestamp(moment, ZoneInfo(zone)).isoformat(timespec="minutes")


@given(st.tuples(time_of_day, time_of_day), st.floats(1.7e9, 1.7e9 + YEAR), zones)
def test_a_job_waits_for_the_first_minute_of_its_window_and_no_longer(window, now, zone):
    opens = next_open(window, now, zone)
    assert is_open(window, opens, zone)
    if is_open(window, now, zone):
        assert opens == now
    else:
        assert now < opens <= now + 49 * 3600  # at most a day is left out, where the clock jumps over the window
        assert not is_open(window, opens - 0.001, zone)
        assert not any(is_open(window, now + part * (opens - now), zone) for part in (0.1, 0.5, 0.9))


@pytest.mark.parametrize(
    ("now", "opens"),
    [
        ("2026-06-10T21:59", "2026-06-10T22:00+02:00"),
        ("2026-06-10T23:30", "2026-06-10T23:30+02:00"),
        ("2026-06-11T05:59", "2026-06-11T05:59+02:00"),
        ("2026-06-11T06:00", "2026-06-11T22:00+02:00"),
    ],
)
def test_a_window_goes_over_midnight(now, opens):
    assert clock(next_open(("22:00", "06:00"), at(now), ZoneInfo("Europe/Berlin"))) == opens


def test_an_hour_that_the_clock_leaves_out_opens_when_the_clock_has_passed_it():
    before = at("2026-03-29T01:10")
    assert clock(next_open(("02:30", "05:00"), before, ZoneInfo("Europe/Berlin"))) == "2026-03-29T03:00+02:00"
    assert clock(next_open(("02:10", "02:50"), before, ZoneInfo("Europe/Berlin"))) == "2026-03-30T02:10+02:00"


def test_an_hour_that_comes_twice_is_open_twice():
    first = at("2026-10-25T02:30")
    assert is_open(("02:00", "03:00"), first, ZoneInfo("Europe/Berlin"))
    assert is_open(("02:00", "03:00"), first + 3600, ZoneInfo("Europe/Berlin"))


def test_the_same_time_twice_is_the_whole_day():
    assert next_open(("06:00", "06:00"), at("2026-06-10T13:00"), ZoneInfo("Europe/Berlin")) == at("2026-06-10T13:00")

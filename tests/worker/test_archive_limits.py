"""How fast an archive run may go: rates, hours and days, studies ahead, room on the disk."""

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from worker.archive.limits import DAYS, RunLimits, Situation, TokenBucket, days_of, obstacle

BERLIN = ZoneInfo("Europe/Berlin")
ROOM = Situation(open_studies=0, open_bytes=0, free_bytes=10**12, least_free_bytes=10**9)


def at(day: int, clock: str) -> float:
    """A time in the week of Monday, the second of March 2026, in Berlin."""
    return datetime.fromisoformat(f"2026-03-0{day + 2} {clock}").replace(tzinfo=BERLIN).timestamp()


def test_limits_are_read_as_people_write_them_and_come_back_from_the_ledger():
    limits = RunLimits.model_validate(
        {"rate": "300/h", "bandwidth": "20MB/s", "hours": ["20:00-06:00"], "days": "mon-fri", "disk": "50GB"}
    )
    assert (limits.rate, limits.bandwidth, limits.disk) == (pytest.approx(300 / 3600), 20e6, 50 * 10**9)
    assert (limits.hours, limits.days) == ((("20:00", "06:00"),), DAYS[:5])
    assert RunLimits.model_validate_json(limits.model_dump_json()) == limits


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("rate", "300"),
        ("rate", "0/h"),
        ("rate", "fast/h"),
        ("bandwidth", "20MB/week"),
        ("hours", ["20-6"]),
        ("hours", ["25:00-06:00"]),
        ("days", "mon-sonntag"),
        ("disk", "50 apples"),
        ("disk", "0GB"),
        ("ahead", 0),
        ("associations", 9),
    ],
)
def test_a_limit_that_is_none_is_refused(name, text):
    with pytest.raises(ValidationError, match=name):
        RunLimits.model_validate({name: text})


@pytest.mark.parametrize(
    ("text", "days"),
    [("mon-fri", "mon tue wed thu fri"), ("fri-mon", "mon fri sat sun"), ("SUN, sat", "sat sun"), ("wed", "wed")],
)
def test_days_of_the_week_are_read(text, days):
    assert " ".join(days_of(text)) == days


def test_a_night_belongs_to_the_day_on_which_it_begins():
    limits = RunLimits.model_validate({"hours": ["20:00-06:00"], "days": "mon-fri"})
    assert limits.are_open(at(4, "23:00"), BERLIN), "Friday evening"
    assert limits.are_open(at(5, "05:59"), BERLIN), "Saturday morning is the end of Friday's night"
    assert not limits.are_open(at(5, "20:00"), BERLIN), "Saturday evening"
    assert not limits.are_open(at(0, "05:00"), BERLIN), "Monday morning is the end of Sunday's night"
    assert limits.next_open(at(5, "06:00"), BERLIN) == at(7, "20:00")


@given(
    st.lists(st.tuples(*[st.times().map(lambda one: one.strftime("%H:%M"))] * 2), max_size=3),
    st.sets(st.sampled_from(DAYS)),
    st.floats(1.7e9, 1.8e9),
)
def test_the_next_opening_is_open_and_nothing_before_it_is(hours, days, now):
    limits = RunLimits(hours=tuple(hours), days=tuple(days))
    opens = limits.next_open(now, BERLIN)
    assert limits.are_open(opens, BERLIN)
    assert opens == now or not limits.are_open(max(now, opens - 60), BERLIN)
    assert opens - now <= 8 * 86400


@given(st.floats(0.01, 100), st.floats(1, 100), st.lists(st.tuples(st.floats(0, 50), st.floats(0, 500)), max_size=30))
def test_no_more_is_taken_than_the_rate_and_one_stock_and_one_taking_allow(rate, most, takings):
    bucket, now, taken, largest = TokenBucket.full(rate, most, 0.0), 0.0, 0.0, 0.0
    for passes, amount in takings:
        now += passes
        wait = bucket.wait(now)
        if wait:
            assert bucket.wait(now + wait * 1.001 + 1e-6) <= 1e-6, "after the wait something may be taken"
            continue
        bucket, taken, largest = bucket.take(amount, now), taken + amount, max(largest, amount)
    assert taken <= rate * now + most + largest + 1e-6 * (1 + taken)


def test_a_clock_that_is_set_back_fills_no_bucket():
    empty = TokenBucket.full(1.0, 10.0, 1000.0).take(10, 1000.0)
    assert empty.wait(500.0) > 0
    assert empty.filled(500.0).stock == 0


def test_nothing_is_fetched_that_a_limit_forbids():
    limits = RunLimits(ahead=4, disk=1000, hours=(("20:00", "06:00"),))
    night, day = at(0, "23:00"), at(0, "12:00")

    def says(now=night, **facts):
        return obstacle(limits, now, Situation(**vars(ROOM) | facts), BERLIN)

    assert says() == ""
    assert says(day) == "outside the hours of the run"
    assert says(clinic_waits_s=601).startswith("jobs of the clinic wait")
    assert says(clinic_waits_s=599) == ""
    assert says(open_studies=3) == ""
    assert says(open_studies=4).startswith("4 studies wait")
    assert "--disk" in says(open_studies=1, open_bytes=600, largest_bytes=500)
    assert says(open_studies=1, open_bytes=500, largest_bytes=500) == ""
    assert says(largest_bytes=5000) == "", "a study larger than the limit is fetched alone"
    assert says(free_bytes=3 * 10**9 - 1) == "the disk has too little room"

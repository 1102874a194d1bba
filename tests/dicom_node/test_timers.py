"""A machine that hears of the right time drops no association."""

import time

import pytest
from pydicom.uid import CTImageStorage
from pynetdicom.presentation import build_context

from dicom_node.scu.association import associated
from dicom_node.upper_layer.timers import SteadyTimer
from tests.support.instances import small_instance

CT = [build_context(CTImageStorage)]
LOOKS_SECONDS = 1.0  # both sides look at their timers several times meanwhile


@pytest.mark.peers
@pytest.mark.parametrize("hours", [1, -1])
def test_an_association_outlasts_a_step_of_the_clock(site, monkeypatch, hours):
    of_day = time.time
    with site() as here:
        with associated(here.peer, CT, calling_ae="SCU") as association:
            assert association.send_c_store(small_instance(1)).Status == 0x0000
            monkeypatch.setattr(time, "time", lambda: of_day() + hours * 3600)
            time.sleep(LOOKS_SECONDS)
            assert association.send_c_store(small_instance(2)).Status == 0x0000
        assert len(here.arrivals) == 2


@pytest.mark.peers
def test_one_that_says_nothing_is_over_though_the_clock_was_set_back(site, monkeypatch):
    of_day = time.time
    with site() as here, associated(here.peer, CT, calling_ae="SCU") as association:
        monkeypatch.setattr(time, "time", lambda: of_day() - 3600)
        association.dul._idle_timer.timeout = LOOKS_SECONDS / 2
        time.sleep(LOOKS_SECONDS)
        deadline = time.monotonic() + 60
        while association.is_established and time.monotonic() < deadline:
            time.sleep(0.05)
        assert association.is_aborted


def test_a_timer_counts_from_its_start_to_its_stop(monkeypatch):
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    timer = SteadyTimer(30)
    assert (timer.remaining, timer.expired) == (30, False)
    timer.start()
    now += 29
    assert (timer.remaining, timer.expired) == (1, False)
    timer.stop()
    now += 100
    assert (timer.remaining, timer.expired) == (1, False), "stopped in time"
    timer.restart()
    now += 31
    assert (timer.remaining, timer.expired) == (-1, True)
    timer.timeout = None
    assert (timer.remaining, timer.expired) == (1, False)

"""The quick form of `make fuzz`: a minute, in which all doors are attacked beside each other."""

from pathlib import Path

import pytest

from tests.fuzz.run import fuzz

pytestmark = pytest.mark.processes

SECONDS = 60.0
ECHO_SECONDS = 20.0  # a loaded machine may take long; `make fuzz` asks for 2
LEAST = 20  # inputs of each door; an idle core sends a hundred times as many


@pytest.mark.timeout(600)
def test_whatever_comes_no_process_dies_and_every_door_stays_open(tmp_path: Path) -> None:
    report = fuzz(tmp_path, seconds=SECONDS, seed=1, echo_seconds=ECHO_SECONDS)
    assert report.findings == [], report.table()
    assert min(outcomes.total() for outcomes in report.outcomes.values()) >= LEAST, report.table()
    assert len(report.outcomes) == 7

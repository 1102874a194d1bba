"""The wait policy reaches OpenMP, which says at its start what it works with."""

import os
import subprocess
import sys

import pytest


@pytest.mark.parametrize(("wanted", "found"), [({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE")])
def test_threads_wait_asleep_unless_somebody_wants_otherwise(wanted: dict[str, str], found: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    done = subprocess.run(
        [sys.executable, "-c", "import voxtell"],
        env=environment | wanted | {"OMP_DISPLAY_ENV": "TRUE"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"OMP_WAIT_POLICY = '{found}'" in done.stderr

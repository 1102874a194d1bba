"""Starts a role as `voxtell-dicom ROLE` does, but mortal, with a movable clock, a model that is no network, and days of
images that are over when the harness says so.

python -m tests.torture.launch up|listen|receive-reports|segment-worker|deliver-worker
"""

from tests.torture import clock_steps

clock_steps.follow()  # before anything takes time.time as a default

import os  # noqa: E402
import subprocess  # noqa: E402
import sys  # noqa: E402
from pathlib import Path  # noqa: E402

from tests.torture import kills  # noqa: E402
from worker import child_processes  # noqa: E402
from worker.__main__ import main  # noqa: E402
from worker.ledger.retention import RetentionNeed, RetentionStatus  # noqa: E402
from worker.maintenance import retention  # noqa: E402
from worker.steps import intake  # noqa: E402


def launch(role: str) -> None:
    """The role with its armed steps; `up` starts the other roles in the same way."""
    if role in ("up", "listen"):
        child_processes.start_role = _start_role
    if role == "segment-worker":
        from tests.support.twins import ThresholdSegmenter
        from worker.engines import loading

        loading.load_engine = lambda _settings: ThresholdSegmenter()
    if role == "listen":
        intake.NOTES_PER_QUIET_TIME = 0.01  # of an association's images the first alone is noted
        _hasten_retention(Path(os.environ[kills.VARIABLE]) / kills.LET_GO)
    kills.arm(role)
    main()


def _hasten_retention(folder: Path) -> None:
    """A study is old when the harness says so; whether anybody still needs it is the product's to know."""

    def is_old(use: RetentionStatus, days: dict[RetentionNeed, float], now: float) -> bool:
        return days.get(use.need, 0.0) > 0 and use.since < now and (folder / use.uid).exists()

    retention.ROUND_SECONDS, retention.ASIDE_SECONDS = 1.0, 2.0
    retention.Retention._is_old = staticmethod(is_old)


def _start_role(role: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.torture.launch", role], preexec_fn=child_processes.end_with_parent
    )


if __name__ == "__main__":
    launch(sys.argv[1])

"""Starts a role as `voxtell-dicom ROLE` does, but mortal, with a movable clock and a model that is no network.

python -m tests.torture.launch up|listen|segment-worker|deliver-worker
"""

from tests.torture import clock_steps

clock_steps.follow()  # before anything takes time.time as a default

import subprocess  # noqa: E402
import sys  # noqa: E402

from tests.torture import kills  # noqa: E402
from worker import roles  # noqa: E402
from worker.__main__ import main  # noqa: E402


def launch(role: str) -> None:
    """The role with its armed steps; `up` starts the other roles in the same way."""
    if role == "up":
        roles._start_role = _start_role
    if role == "segment-worker":
        from tests.twins import ThresholdSegmenter
        from worker import segmentation

        segmentation.load_segmenter = lambda _settings: ThresholdSegmenter()
    kills.arm(role)
    main()


def _start_role(role: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "tests.torture.launch", role], preexec_fn=roles.end_with_parent)


if __name__ == "__main__":
    launch(sys.argv[1])

"""The segmentation worker, as `voxtell-dicom segment-worker` runs it, whose network computes while a file is there.

python -m tests.support.slow_worker FILE
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.twins import ThresholdSegmenter
from voxtell import CancelledError
from worker import stopping
from worker.__main__ import main
from worker.engines import loading


class SlowSegmenter(ThresholdSegmenter):
    """Asks between its windows whether it is to stop, as the network does."""

    def __init__(self, computes: Path) -> None:
        self._computes = computes

    def __call__(self, *args: Any, cancelled: Callable[[], bool] = lambda: False, **options: Any) -> Any:
        """Masks bool (P, S, A, R)."""
        while self._computes.exists():
            time.sleep(0.05)
            if cancelled():
                raise CancelledError
        return super().__call__(*args, cancelled=cancelled, **options)


if __name__ == "__main__":
    stopping.GIVING_BACK_SECONDS = 19.0  # type: ignore[misc]  # of 20: what comes after may be slow on a busy machine
    file = Path(sys.argv.pop(1))
    loading.load_engine = lambda _settings: SlowSegmenter(file)  # type: ignore[assignment]
    sys.argv.append("segment-worker")
    main()

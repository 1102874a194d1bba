"""In-memory twins of what is slow or far away: a segmenter that thresholds."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from voxtell import ModelInfo

Image = np.ndarray[Any, np.dtype[np.float32]]


class ThresholdSegmenter:
    """Segments what the prompt says: "above 300" is every voxel above 300, "nothing" is empty."""

    device = "cpu"
    info = ModelInfo(
        name="threshold",
        version="1",
        weights_digest="sha256:" + "0" * 64,
        licence="none",
        notice="Thresholds for tests; no network.",
        text_encoder="none",
        engine="threshold",
    )

    def made_by(self, prompts: Sequence[str]) -> ModelInfo:
        """The same for all prompts."""
        return self.info

    def doubts(self, _image: Image) -> list[str]:
        """Thresholds take every image."""
        return []

    def __call__(
        self,
        image: Image,
        prompts: Sequence[str],
        *,
        spacing: tuple[float, float, float] | None = None,
        progress: Callable[[float], None] = lambda _part: None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Masks bool (P, S, A, R)."""
        limits = [float(text.split()[-1]) if text.startswith("above") else np.inf for text in prompts]
        return np.stack([image > limit for limit in limits])

"""Array in, masks out: the free-text-prompted 3-D segmentation network.

segmenter = voxtell.load()                                  # the bundled model; or a directory of published weights
masks = segmenter(image, ["liver", "left kidney"])          # float32 (S, A, R) -> bool (P, S, A, R)
"""

import voxtell.inference.openmp  # noqa: F401 (first: it must come before torch)
from voxtell.errors import (
    CancelledError,
    FetchError,
    FileError,
    ImageError,
    ModelError,
    NumbersError,
    OutOfMemoryError,
    PromptError,
    VoxTellError,
)
from voxtell.inference.shortcuts import Shortcuts
from voxtell.segmenter import ModelInfo, Segmenter, load

__all__ = [
    "CancelledError",
    "FetchError",
    "FileError",
    "ImageError",
    "ModelError",
    "ModelInfo",
    "NumbersError",
    "OutOfMemoryError",
    "PromptError",
    "Segmenter",
    "Shortcuts",
    "VoxTellError",
    "load",
]

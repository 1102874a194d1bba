"""Array in, masks out: the free-text-prompted 3-D segmentation network.

segmenter = voxtell.load()                                  # the bundled model; or a directory of published weights
masks = segmenter(image, ["liver", "left kidney"])          # float32 (S, A, R) -> bool (P, S, A, R)
"""

from voxtell import openmp as openmp  # first: it must come before torch
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
from voxtell.segmenter import ModelInfo, Segmenter, load
from voxtell.shortcuts import Shortcuts

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

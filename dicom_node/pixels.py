"""Pixels: stored values of any transfer syntax, rescaled per slice into one float32 array."""

from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.pixels.utils import iter_pixels, pixel_array

from dicom_node.errors import SeriesError
from dicom_node.frames import THREADS, Frame


def decode(frames: Sequence[Frame]) -> NDArray[np.float32]:
    """Rescaled values float32 (frames, rows, columns): stored x slope + intercept, each frame with its own.

    SeriesError names a file whose pixels are missing or cannot be decoded.
    """
    out = np.empty((len(frames), *frames[0].size), dtype=np.float32)
    places: defaultdict[Path, list[int]] = defaultdict(list)
    for place, frame in enumerate(frames):
        places[frame.path].append(place)
    with ThreadPoolExecutor(THREADS) as pool:
        for _ in pool.map(lambda path: _decode_file(path, frames, places[path], out), places):
            pass
    return out


def _decode_file(path: Path, frames: Sequence[Frame], places: Sequence[int], out: NDArray[np.float32]) -> None:
    numbers = [frames[place].number for place in places]
    try:
        if numbers == [None]:
            _rescale(pixel_array(path), frames[places[0]], out[places[0]])
        else:
            indices = [number - 1 for number in numbers if number is not None]
            for place, stored in zip(places, iter_pixels(path, indices=indices), strict=True):
                _rescale(stored, frames[place], out[place])
    except (AttributeError, ValueError, RuntimeError, NotImplementedError, EOFError) as error:
        raise SeriesError(f"the pixels of {path.name} cannot be decoded: {error}") from error


def _rescale(stored: NDArray[np.integer], frame: Frame, out: NDArray[np.float32]) -> None:
    """PS3.3 C.11.1.1.2, in float64 before the one rounding to float32, as NIfTI readers do."""
    if frame.slope == 1:
        np.add(stored, frame.intercept, out=out, casting="unsafe")
    else:
        out[...] = stored * np.float64(frame.slope) + frame.intercept

"""Limits on the files of a model directory, which may come from anybody: judged before the work that they ask for."""

import json
import math
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from voxtell.errors import ModelError

if TYPE_CHECKING:  # a card is read without numpy
    import numpy.typing as npt

JSON_BYTES: Final = 2**20
"""Bytes of a JSON file of a model directory: the published plans.json has 20 KB."""
ARRAY_BYTES: Final = 2**31
"""Bytes of one array of an embedding bank: 200,000 prompts of 2560 numbers."""


def read_json(path: Path) -> Any:
    """Returns the content of a JSON file.

    Raises:
        ModelError: when it is too large, or nested without end.
        ValueError: when it is no JSON.
        OSError: when the disk does not give it.
    """
    if (size := path.stat().st_size) > JSON_BYTES:
        raise ModelError(f"{path} has {size} bytes, and at most {JSON_BYTES} are read")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except RecursionError as error:
        raise ModelError(f"{path} is nested without end") from error


def read_arrays(path: Path, names: Iterable[str]) -> "list[npt.NDArray[Any]]":
    """Returns arrays of an .npz file by their names; nothing is unpacked that is not as long as its header says.

    Raises:
        ModelError: when an array is too large.
        OSError: when the disk does not give it.
        ValueError: when it holds no plain arrays, or is damaged.
        KeyError: when it lacks one of `names`.
        EOFError: when it is cut off.
        zipfile.BadZipFile: when it is no .npz.
    """
    import numpy as np

    names = list(names)
    with zipfile.ZipFile(path) as archive:
        for name in names:
            _require_fitting(path, name, archive)
    with np.load(path, allow_pickle=False) as file:
        return [file[name] for name in names]


def _require_fitting(path: Path, name: str, archive: zipfile.ZipFile) -> None:
    """Raises ModelError unless the array has the bytes that its header announces, and not too many."""
    from numpy.lib import format as npy

    info = archive.getinfo(f"{name}.npy")
    with archive.open(info) as entry:
        version = npy.read_magic(entry)
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, _, dtype = read(entry)
    announced = math.prod(shape) * dtype.itemsize
    if max(announced, info.file_size) > ARRAY_BYTES:
        raise ModelError(
            f"{path}: {name} announces {max(announced, info.file_size)} bytes; at most {ARRAY_BYTES} are read"
        )
    if announced > info.file_size:
        raise ModelError(f"{path}: {name} announces {announced} bytes and has {info.file_size}")


def require_within(what: str, values: Iterable[float], least: float, most: float) -> None:
    """Checks that every value is a number from `least` to `most`.

    Raises:
        ModelError: when one is not; names what it is, and the value.
    """
    for value in values:
        if not isinstance(value, int | float) or isinstance(value, bool) or not least <= value <= most:
            raise ModelError(f"{what} is {value!r:.40}, it must be a number from {least:g} to {most:g}")

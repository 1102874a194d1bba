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
TENSOR_HEADER_BYTES: Final = 2**22
"""Bytes of the header of a .safetensors file, which takes about 100 for each tensor."""
MOST_TENSORS: Final = 20_000
"""Tensors of a weights file: the published network has about 1,000."""

_ITEM_BYTES: Final = {
    **dict.fromkeys(("F64", "I64", "U64"), 8),
    **dict.fromkeys(("F32", "I32", "U32"), 4),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 2),
    **dict.fromkeys(("F8_E4M3", "F8_E5M2", "I8", "U8", "BOOL"), 1),
}
"""Bytes of a number, by its name in a .safetensors header."""


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


def tensor_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Returns the shapes of the tensors of a .safetensors file by their keys, from its header alone.

    Checks that each tensor lies within the file and has the bytes of its shape; no tensor is read.

    Raises:
        ModelError: when the header is too long, or announces what the file does not have.
        OSError: when the disk does not give the file.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > min(TENSOR_HEADER_BYTES, max(0, size - 8)):
            raise ModelError(
                f"{path} is truncated or damaged: its header announces {length} bytes of itself, the file has {size}, "
                f"and at most {TENSOR_HEADER_BYTES} are read"
            )
        content = file.read(length)
    try:
        header = json.loads(content)
        tensors = {key: value for key, value in header.items() if key != "__metadata__"}
        if len(tensors) > MOST_TENSORS:
            raise ModelError(f"{path} announces {len(tensors)} tensors, and at most {MOST_TENSORS} are read")
        return {key: _shape(path, key, value, size - 8 - length) for key, value in tensors.items()}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ModelError(f"{path} is truncated or damaged: its header cannot be read ({error!r:.100})") from error


def _shape(path: Path, key: str, announced: Any, there: int) -> tuple[int, ...]:
    """Returns the shape of one tensor, whose bytes must be as many as the shape needs, and `there`."""
    shape = tuple(announced["shape"])
    begin, end = announced["data_offsets"]
    whole = all(type(number) is int and number >= 0 for number in (*shape, begin, end))
    if not whole or not begin <= end <= there or end - begin != math.prod(shape) * _ITEM_BYTES[announced["dtype"]]:
        raise ModelError(
            f"{path} is truncated or damaged: {key:.80} announces the shape {shape!s:.80} in bytes "
            f"{begin!r:.40} to {end!r:.40}, and the file has {there}"
        )
    return shape


def require_stored(path: Path) -> None:
    """Checks that nothing in a checkpoint is packed, so that it takes no more memory than the file has bytes.

    torch writes its archives without compression, and reads them with.

    Raises:
        ModelError: when an entry is packed, or they are more than the file.
        OSError: when the disk does not give the file.
    """
    if not zipfile.is_zipfile(path):  # a checkpoint of torch before 1.6, or none
        return
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, ValueError) as error:
        raise ModelError(f"{path} is truncated or no checkpoint; fetch it again") from error
    packed = [entry.filename for entry in entries if entry.compress_type != zipfile.ZIP_STORED]
    if packed or sum(entry.file_size for entry in entries) > path.stat().st_size:
        raise ModelError(f"{path} is refused: it is packed, and a checkpoint is not; save it with torch.save")


def require_within(what: str, values: Iterable[float], least: float, most: float) -> None:
    """Checks that every value is a number from `least` to `most`.

    Raises:
        ModelError: when one is not; names what it is, and the value.
    """
    for value in values:
        if not isinstance(value, int | float) or isinstance(value, bool) or not least <= value <= most:
            raise ModelError(f"{what} is {value!r:.40}, it must be a number from {least:g} to {most:g}")

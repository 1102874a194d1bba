"""Decodes the stored values of any transfer syntax and rescales them per slice into one float32 array.

Files are decoded on `THREADS` threads, straight into the result: beside it, at most one frame per thread is held.
Uncompressed 16-bit little endian pixels, the case of most CT and MR, are read without pydicom.
"""

from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.pixels.utils import iter_pixels, pixel_array
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from dicom_node.errors import SeriesError
from dicom_node.images.announced import inflated_image, require_announced, require_possible
from dicom_node.images.frames import THREADS, File, Frame
from dicom_node.images.pydicom_errors import PYDICOM_ERRORS, damage, unreadable

# Bytes of tag, VR and length before the value of Pixel Data (PS3.5 7.1).
_PLAIN: Final = {ImplicitVRLittleEndian: 8, ExplicitVRLittleEndian: 12}
_PIXEL_DATA: Final = b"\xe0\x7f\x10\x00"


def decode(frames: Sequence[Frame]) -> NDArray[np.float32]:
    """Returns rescaled values float32 (frames, rows, columns): stored value x slope + intercept, per frame.

    frames: of equal size, in the order wanted. Units are those of the rescale: HU for CT.

    Raises:
        SeriesError: when the pixels of a file are missing, cannot be decoded, or are not what its header announces;
            names the file. Of the latter none is decoded.
        UnreadableError: when the disk does not give a file out (retry: later).
    """
    for file in dict.fromkeys(frame.file for frame in frames):
        require_possible(file)
    out = np.empty((len(frames), *frames[0].size), dtype=np.float32)
    places: defaultdict[Path, list[int]] = defaultdict(list)
    for place, frame in enumerate(frames):
        places[frame.path].append(place)
    with ThreadPoolExecutor(THREADS) as pool:
        for _ in pool.map(lambda path: _decode_file(path, frames, places[path], out), places):
            pass
    return out


def _decode_file(path: Path, frames: Sequence[Frame], places: Sequence[int], out: NDArray[np.float32]) -> None:
    """Decodes the frames that lie in one file into their `places` of `out`."""
    numbers = [frames[place].number for place in places]
    try:
        if numbers == [None]:
            frame = frames[places[0]]
            stored = _stored_plainly(frame.file)
            if stored is None:
                stored = pixel_array(_source(frame.file))
            _rescale(stored, frame, out[places[0]])
        else:
            indices = [number - 1 for number in numbers if number is not None]
            source = _source(frames[places[0]].file)
            for place, stored in zip(places, iter_pixels(source, indices=indices), strict=True):
                _rescale(stored, frames[place], out[place])
    except PYDICOM_ERRORS as error:
        said = damage(error, frames[places[0]].file.header)
        damaged = SeriesError(f"the pixels of {path.name} cannot be decoded: {said}")
        raise unreadable(path, error) or damaged from error


def _source(file: File) -> Path | Dataset:
    """Returns what pydicom decodes: the path, or for a deflated file (PS3.5 A.5) the data set, read as a whole.

    Checks first that the pixels are what the header announces.
    """
    _require_low_bits(file)
    require_announced(file)
    if getattr(file.header, "preamble", b"") is None:  # see dicom_node.images.headerless
        whole = dcmread(file.path, force=True)
        whole.file_meta = file.header.file_meta
        return whole
    deflated = file.header.file_meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian
    return inflated_image(file) if deflated else file.path


def _require_low_bits(file: File) -> None:
    """Checks that values lie in the low bits of their words: pydicom reads no others.

    PS3.5 8.1.1 forbids other places since 2014. Compressed values are decoded whatever the header says.

    Raises:
        SeriesError: when High Bit is not Bits Stored - 1.
    """
    header = file.header
    if not header.file_meta.TransferSyntaxUID.is_encapsulated and header.get("HighBit", -1) >= header.BitsStored:
        said = f"High Bit {header.HighBit} of {header.BitsStored} Bits Stored"
        raise SeriesError(f"the pixels of {file.path.name} cannot be decoded: {said}")


def _stored_plainly(file: File) -> NDArray[np.integer] | None:
    """Returns stored values (rows, columns) straight from the file, or None where pydicom must decode it.

    It takes 16-bit little endian words that are not compressed, and is several times as fast.
    """
    header = file.header
    syntax = header.file_meta.TransferSyntaxUID
    if syntax not in _PLAIN or header.BitsAllocated != 16 or not 0 < header.BitsStored <= header.HighBit + 1 <= 16:
        return None
    count = int(header.Rows) * int(header.Columns)
    with file.path.open("rb") as stream:
        stream.seek(file.pixels_at)
        start = stream.read(_PLAIN[syntax])
        if start[:4] != _PIXEL_DATA or int.from_bytes(start[-4:], "little") < 2 * count:
            return None
        values = np.fromfile(stream, dtype="<i2" if header.PixelRepresentation else "<u2", count=count)
    if len(values) < count:
        return None
    # PS3.5 8.1.1: what stands above the high bit, or below the bits stored, is no part of the value.
    if header.BitsStored < 16:
        values <<= 15 - int(header.HighBit)
        values >>= 16 - int(header.BitsStored)
    return values.reshape(header.Rows, header.Columns)


def _rescale(stored: NDArray[np.integer], frame: Frame, out: NDArray[np.float32]) -> None:
    """Writes the rescaled values to `out` (PS3.3 C.11.1.1.2), computed in float64 and rounded once."""
    slope, intercept = frame.rescale
    if slope == 1:
        np.add(stored, intercept, out=out, casting="unsafe")
    else:
        out[...] = stored * np.float64(slope) + intercept

"""NIfTI files: one reader and one writer for every command.

Index directions come from the file's orientation (NIfTI-1 standard, "methods 2 and 3"): the sform where its code is
set, else the qform. `read_image` refuses a file that could be read in two ways, that is damaged, or whose values cannot
be used; it never guesses. The array that it returns equals what nnU-Net's NibabelIOWithReorient gives for a sound file.
Nothing here loads torch.
"""

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, BinaryIO, Final

import nibabel
import numpy as np
import numpy.typing as npt
from nibabel.nifti1 import Nifti1Header
from nibabel.nifti2 import Nifti2Header
from nibabel.orientations import apply_orientation, axcodes2ornt, ornt_transform
from nibabel.spatialimages import HeaderDataError

from voxtell.engine import Spacing
from voxtell.errors import FileError, OutOfMemoryError
from voxtell.host_memory import free_host_bytes, gib
from voxtell.orientation import MILLIMETRES, NiftiGrid, grid_of

ENDINGS: Final = (".nii.gz", ".nii")  # in any case of letters: scanners and Windows write CT.NII.GZ
MOST_VOXELS: Final = 2**30  # a volume of 1024 x 1024 x 1024; as float32 it takes 4 GiB
GZIP_MAGIC: Final = b"\x1f\x8b"
SLACK_BYTES: Final = 2**20  # zeros that may follow the last voxel, as some writers pad their files
_BYTES_BESIDE: Final = (
    6  # of a voxel, at most, while it lies there as stored: its float32, whether it is NaN, is finite
)
_BYTES_TURNED: Final = 8  # of a voxel in two orders of the axes, as `read_image` turns it


@dataclass(frozen=True)
class ReadAs:
    """What a caller decides about files that leave it open.

    orientation: "sform" or "qform" where the two contradict each other; or the directions of the file's axes, such as
    "RAS" (i to the right, j to anterior, k to superior), where the file has no orientation code.
    nan: the value that replaces NaN, such as -1024 outside the scanned cylinder of a CT; None refuses NaN.
    """

    orientation: str | None = None
    nan: float | None = None


PLAIN: Final = ReadAs()
"""Nothing is decided: a file that leaves something open is refused."""


@dataclass(frozen=True)
class NiftiImage:
    """An image as the network takes it.

    array: float32 (S, A, R), index 0 growing to superior, 1 to anterior, 2 to right; grid: where the file's voxels lie.
    """

    array: npt.NDArray[np.float32]
    grid: NiftiGrid

    @property
    def spacing(self) -> Spacing:
        """Millimetres per voxel (S, A, R)."""
        return self.grid.spacing

    def __iter__(self) -> Iterator[npt.NDArray[np.float32] | Spacing]:
        """Yields array and spacing: `array, spacing = voxtell.read(path)`."""
        return iter((self.array, self.spacing))

    def __repr__(self) -> str:
        """Returns size, spacing and range of values in one line."""
        size, sides = (" x ".join(f"{one:g}" for one in triple) for triple in (self.array.shape, self.spacing))
        values = f"{self.array.min():g} to {self.array.max():g}"
        return f"<NiftiImage {size} voxels of {sides} mm (S, A, R), values {values}>"


def is_nifti_name(path: Path) -> bool:
    """Whether a file's name ends in .nii or .nii.gz, in any case of letters."""
    return path.name.lower().endswith(ENDINGS)


def stem(path: Path) -> str:
    """Returns the file's name without .nii or .nii.gz.

    Raises:
        FileError: when the name ends in neither.
    """
    for ending in ENDINGS:
        if path.name.lower().endswith(ending):
            return path.name[: -len(ending)]
    raise FileError(f"{path} is no NIfTI file: its name must end in .nii or .nii.gz")


def read_image(path: Path, read_as: ReadAs = PLAIN) -> NiftiImage:
    """Reads one 3-D volume as the network takes it: float32 (S, A, R) and its grid.

    Raises:
        FileError: when `read_voxels` raises it.
        OutOfMemoryError: when it announces more voxels than there is memory for.
    """
    values, grid = read_voxels(path, read_as)
    with _file_errors(path):
        turned = apply_orientation(values, grid.orientation)
        return NiftiImage(np.ascontiguousarray(turned.transpose(2, 1, 0)), grid)


def read_voxels(path: Path, read_as: ReadAs = PLAIN) -> tuple[npt.NDArray[np.float32], NiftiGrid]:
    """Reads one 3-D volume in the order of the file: float32 (I, J, K) after scl_slope and scl_inter, and its grid.

    Trailing axes of one voxel are dropped. The whole stream is read, so that a truncated or damaged file is noticed.

    Raises:
        FileError: when the file is missing, truncated, damaged or too large; is no single 3-D volume of real, finite
            numbers; or has no orientation, or one that contradicts itself or is degenerate. Says what to do.
        OutOfMemoryError: when it announces more voxels than there is memory for.
    """
    with _file_errors(path), path.open("rb") as file:
        stream = _decompressed(file)
        header, head = _header(path, stream)
        shape = _shape(path, header)
        grid = grid_of(path, header, shape, read_as.orientation)
        _require_memory(path, shape, header.get_data_dtype().itemsize)
        stored = _stored(path, header, head, stream)
        values = _scaled(stored.reshape(header.get_data_shape(), order="F").reshape(shape, order="F"), header)
        return _finite(path, values, read_as.nan), grid


def write_mask(path: Path, values: npt.NDArray[Any], image: NiftiImage) -> None:
    """Writes a mask or label map (S, A, R) on the grid of the image's file, under its name only when it is whole.

    uint8, or uint16 where a label is 255 or more, as upstream's command writes them.

    Raises:
        FileError: when the mask is on another grid than the image, or the name ends in neither .nii nor .nii.gz.
    """
    stem(path)
    if values.shape != image.array.shape:
        raise FileError(f"{path}: a mask {values.shape} does not lie on the grid of its image {image.array.shape}")
    grid = image.grid
    back = ornt_transform(axcodes2ornt("RAS"), grid.orientation)
    kind = np.uint8 if values.max(initial=0) < 255 else np.uint16
    turned = apply_orientation(values.transpose(2, 1, 0).astype(kind), back)
    mask = nibabel.Nifti1Image(turned, grid.affine)
    if MILLIMETRES[grid.unit] != 1.0:
        mask.header.set_xyzt_units(grid.unit)
    temporary = path.with_name(f".{path.name}")
    nibabel.save(mask, temporary)
    temporary.replace(path)


# -- the stream


@contextmanager
def _file_errors(path: Path) -> Iterator[None]:
    """Turns what the libraries raise over a missing or damaged file into one sentence."""
    try:
        yield
    except FileNotFoundError:
        raise FileError(f"{path} does not exist") from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise FileError(f"{path} is damaged or was cut off: {error}; get the file again") from None
    except OSError as error:
        raise FileError(f"{path} cannot be read: {error.strerror or error}") from None
    except MemoryError:
        raise OutOfMemoryError(
            f"{path} holds more voxels than there is memory for, {gib(free_host_bytes())} are free; "
            "try again when other programs have ended, or cut out a part of the image"
        ) from None
    except (HeaderDataError, ValueError, KeyError) as error:
        raise FileError(f"{path} cannot be read as NIfTI: {error}") from None


def _decompressed(file: BinaryIO) -> BinaryIO:
    """Returns the stream behind gzip, told by its first bytes and not by the name."""
    compressed = file.read(len(GZIP_MAGIC)) == GZIP_MAGIC
    file.seek(0)
    return gzip.GzipFile(fileobj=file) if compressed else file  # type: ignore[return-value]


def _header(path: Path, stream: BinaryIO) -> tuple[Nifti1Header | Nifti2Header, bytes]:
    """Reads the header; returns it with the bytes read for it."""
    head = stream.read(Nifti1Header.sizeof_hdr)
    sizes = {int.from_bytes(head[:4], order) for order in ("little", "big")}
    kind = next((one for one in (Nifti1Header, Nifti2Header) if one.sizeof_hdr in sizes), None)
    if kind is None:
        raise FileError(f"{path} is no NIfTI file: it begins with another header")
    head += stream.read(kind.sizeof_hdr - len(head))
    if len(head) < kind.sizeof_hdr:
        raise FileError(f"{path} is cut off within its header; get the file again")
    header = kind.from_fileobj(io.BytesIO(head), check=False)
    if not header["magic"].item().startswith(b"n+"):
        raise FileError(f"{path} is the header of an .hdr/.img pair; save the image as one .nii file")
    return header, head


def _shape(path: Path, header: Nifti1Header | Nifti2Header) -> tuple[int, int, int]:
    """Returns the three axes of the volume; further axes must have one voxel."""
    shape = tuple(int(size) for size in header.get_data_shape())
    if len(shape) < 3 or any(size != 1 for size in shape[3:]):
        raise FileError(f"{path} has {len(shape)} axes {shape}; it must be one 3-D volume")
    if min(shape) < 1 or prod(shape) > MOST_VOXELS:
        raise FileError(f"{path} announces a volume of {shape} voxels; at most {MOST_VOXELS} can be read, at least one")
    return shape[0], shape[1], shape[2]


def _require_memory(path: Path, shape: tuple[int, int, int], stored_bytes: int) -> None:
    """Checks, before the voxels are read, that there is memory for them; `stored_bytes` are those of one in the file.

    Linux hands out memory that it does not have and ends the process that touches it.

    Raises:
        OutOfMemoryError: when there is not.
    """
    needed = prod(shape) * max(stored_bytes + _BYTES_BESIDE, _BYTES_TURNED)
    free = free_host_bytes()
    if needed > free:
        raise OutOfMemoryError(
            f"{path} announces a volume of {shape} voxels, which take {gib(needed)} of memory while they are read, and "
            f"{gib(free)} are free; try again when other programs have ended, or cut out a part of the image"
        )


def _stored(path: Path, header: Nifti1Header | Nifti2Header, head: bytes, stream: BinaryIO) -> npt.NDArray[Any]:
    """Reads the numbers in the file's order, to the end of the stream, but no more than the header announces."""
    dtype = header.get_data_dtype()
    if dtype.kind not in "iuf":
        kind = dtype.name if dtype.names is None else "colours"
        raise FileError(f"{path} holds {kind}; it must hold one real number per voxel")
    count, offset = prod(header.get_data_shape()), int(header["vox_offset"])
    if not len(head) <= offset <= len(head) + SLACK_BYTES:
        raise FileError(f"{path} is damaged: its header says that the voxels begin at byte {offset}")
    if len(stream.read(offset - len(head))) < offset - len(head):
        raise FileError(f"{path} is cut off within its header; get the file again")
    content = bytearray(count * dtype.itemsize)
    filled = 0
    with memoryview(content) as view:
        while filled < len(content) and (got := stream.readinto(view[filled:])):  # type: ignore[attr-defined]
            filled += got
    if filled < len(content):
        share = 100 * filled / len(content)
        raise FileError(
            f"{path} is cut off: it holds {share:.0f} % of the voxels that its header announces; get the file again"
        )
    behind = stream.read(SLACK_BYTES + 1)
    if len(behind) > SLACK_BYTES or behind.strip(b"\0"):
        raise FileError(f"{path} holds more than the {count} voxels that its header announces: the header is wrong")
    return np.frombuffer(content, dtype)


def _scaled(stored: npt.NDArray[Any], header: Nifti1Header | Nifti2Header) -> npt.NDArray[np.float32]:
    """Returns float32 (I, J, K) after scl_slope and scl_inter; computed in float64 as nibabel does, slice by slice."""
    slope, inter = header.get_slope_inter()  # None: a slope of 0 or NaN means "not scaled"
    values = np.empty(stored.shape, np.float32, order="F")
    for k in range(stored.shape[2]):
        with np.errstate(over="ignore", invalid="ignore"):  # what is no number, or too large, is refused later
            slice_ = stored[:, :, k].astype(np.float64)
            values[:, :, k] = slice_ if slope is None else slice_ * slope + inter
    return values


def _finite(path: Path, values: npt.NDArray[np.float32], nan: float | None) -> npt.NDArray[np.float32]:
    missing = np.isnan(values)
    count = int(np.count_nonzero(missing))
    if count and nan is None:
        raise FileError(
            f"{path}: {count} of {values.size} voxels are NaN, which is no value of an image; say what they "
            "mean (--nan VALUE, such as -1024 for air in CT)"
        )
    if count:
        values[missing] = nan
    if not np.isfinite(values).all():
        raise FileError(f"{path} holds infinite values; replace them")
    return values

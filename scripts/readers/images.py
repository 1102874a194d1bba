"""The images and structures of docs/reference/readers.md."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dicom_node.series import ImageSeries
from dicom_node.synthesis import Subject, centred_affine, write_slices
from tests.support.images import affine_of, rotation, series_files

STRUCTURES: Final = ("ball", "ring", "voxel", "pieces")
"""On every image: a ball on the patient's right, a shell, one voxel, and pieces of several shapes side by side."""

Masked = Callable[[ImageSeries], NDArray[np.bool_]]

_DATA: Final = Path(os.environ.get("VOXTELL_TEST_DATA", Path(__file__).parents[3] / "shared" / "data"))


def _square(folder: Path) -> tuple[list[Path], Masked]:
    return _written((12, 64, 64), centred_affine((12, 64, 64), (3.0, 1.5, 1.5)), folder), masks


def _not_square(folder: Path) -> tuple[list[Path], Masked]:
    return _written((12, 48, 72), centred_affine((12, 48, 72), (3.0, 2.0, 1.25)), folder), masks


def _oblique(folder: Path) -> tuple[list[Path], Masked]:
    affine = affine_of(rotation(12, -20, 8)[:, [2, 1, 0]], (3.0, 1.5, 1.5), (-40, -70, 25))
    return _written((12, 64, 64), affine, folder, "MR"), masks


def _tilted(folder: Path) -> tuple[list[Path], Masked]:
    affine = centred_affine((40, 64, 64), (5.0, 1.5, 1.5))
    affine[1, 0] = 5.0 * np.tan(np.radians(18.5))
    affine[1, 3] = 300.0  # the head lies where the table does
    return _written((40, 64, 64), affine, folder), masks


def _enhanced(_folder: Path) -> tuple[list[Path], Masked]:
    return series_files(_DATA / "mr_enhanced" / "siemens_anat_8frames" / "dicom"), masks


IMAGES: Final[dict[str, Callable[[Path], tuple[list[Path], Masked]]]] = {
    "CT, square pixels": _square,
    "CT, 48 rows of 72 pixels, 2 x 1.25 mm": _not_square,
    "oblique MR": _oblique,
    "CT, gantry tilt of 18.5 degrees": _tilted,
    "enhanced MR": _enhanced,
}


def masks(series: ImageSeries) -> NDArray[np.bool_]:
    """Returns the structures, bool (4, slices, rows, columns); none overlaps another."""
    shape = np.array(series.volume.spatial_shape)
    place = (np.moveaxis(np.indices(tuple(shape)), 0, -1) - (shape - 1) / 2) / shape  # -0.5 to 0.5 on each axis
    ball = np.linalg.norm(place - (0, 0.2, -0.25), axis=-1) < 0.17
    radius = np.linalg.norm((place - (0, 0.2, 0.25)) * (0.8, 1, 1), axis=-1)
    ring = (radius < 0.19) & (radius > 0.09)
    voxel = np.zeros(shape, dtype=bool)
    voxel[shape[0] // 2, shape[1] // 8, shape[2] // 8] = True
    pieces = np.zeros(shape, dtype=bool)
    rows, columns = shape[1] // 8, shape[2] // 2
    for step, (height, width) in enumerate(((6, 4), (1, 5), (3, 1), (2, 2))):
        start = columns - 8 + 7 * step
        pieces[2 : shape[0] - 2, rows : rows + height, start : start + width] = True
    return np.stack([ball, ring, voxel, pieces])


def _written(
    shape: tuple[int, int, int], affine: NDArray[np.float64], folder: Path, modality: str = "CT"
) -> list[Path]:
    """Writes noise, so that each voxel of an image can be told from others."""
    noise = np.random.default_rng(5).integers(0, 2000, shape).astype(float)
    return write_slices(noise, affine, folder, subject=Subject(modality=modality))  # type: ignore[arg-type]

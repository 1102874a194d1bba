"""Studies for viewers: images of several kinds with results on them, of which it is known where everything lies."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from dicom_node.masks.measures import extent
from dicom_node.objects.kinds import KINDS
from dicom_node.objects.result_set import ResultSet
from dicom_node.objects.rtstruct import roi_names
from dicom_node.regions import region_for
from dicom_node.series import FrameReference, ImageSeries, read_series
from dicom_node.synthesis import Subject, ct_series, write_slices
from tests.support.images import PROVENANCE, affine_of, rotation, series_files

# Two structures in mirrored places, the one on the right larger: swapped sides would swap their colours.
REGIONS: Final = [region_for("right kidney"), region_for("spleen")]
_PLACES: Final = (-0.22, 0.22)  # along the patient's x axis (LPS: to the left), in extents of the volume
_SIZES: Final = (0.17, 0.11)


@dataclass(frozen=True, eq=False)
class Spot:
    """A voxel in the middle of a structure: its LPS millimetres, its slice, and what it is called in which object."""

    point: list[float]
    slice: FrameReference
    colour: tuple[int, int, int]
    segment: str
    roi: str


@dataclass(frozen=True, eq=False)
class LookedAtStudy:
    """Images, the objects of a result on them, and where viewers must show what."""

    series: ImageSeries
    images: Sequence[Path]
    objects: dict[str, Dataset]
    results: Sequence[Path]
    spots: Sequence[Spot]


def ct(folder: Path) -> list[Path]:
    """A CT of 10 slices with pixels that are not square."""
    return ct_series(_noise((10, 56, 64)), (4.0, 2.5, 2.0), folder)


def oblique_mr(folder: Path) -> list[Path]:
    """An MR turned about all three axes."""
    affine = affine_of(rotation(12, -20, 8)[:, [2, 1, 0]], (4.0, 1.5, 1.5), (-40, -70, 25))
    return write_slices(_noise((12, 64, 72)), affine, folder, subject=Subject(modality="MR"))


def odd_ct(folder: Path) -> list[Path]:
    """A CT whose slices have an odd number of pixels: frames of a BINARY SEG do not end on a byte."""
    return ct_series(_noise((9, 55, 63)), (4.0, 2.5, 2.0), folder)


def enhanced_mr(data: Path) -> Callable[[Path], list[Path]]:
    """An enhanced MR of one file: a scanner's, from the test data."""
    return lambda _folder: series_files(data)


def study(images: Sequence[Path], outputs: Collection[str], folder: Path, *, label_map: bool = False) -> LookedAtStudy:
    """Writes the objects of a result into `folder`; with `label_map` SEG and SR in that form alone."""
    series = read_series(images)
    masks = _masks(series)
    plan = ResultSet(series, masks, REGIONS, PROVENANCE, outputs, label_map=label_map)
    folder.mkdir(parents=True)
    objects = {}
    for name, dataset in plan.written([extent(mask, series.affine) for mask in masks]):
        if label_map and KINDS[name].form == "binary":
            continue
        objects[name] = dataset
        dataset.save_as(folder / name, enforce_file_format=True)
    spots = []
    for mask, region, roi in zip(masks, REGIONS, roi_names(REGIONS), strict=True):
        places = np.argwhere(mask)
        middle = places[np.linalg.norm(places - places.mean(axis=0), axis=1).argmin()]
        point = series.affine[:3, :3] @ middle + series.affine[:3, 3]
        spots.append(Spot(point.tolist(), series.references[middle[0]], region.colour, region.label, roi))
    return LookedAtStudy(series, images, objects, [folder / name for name in objects], spots)


def _masks(series: ImageSeries) -> NDArray[np.bool_]:
    """Two balls, bool (2, slices, rows, columns), on the patient's right and left of the middle."""
    shape = np.array(series.volume.spatial_shape)
    axis = int(np.abs(series.affine[0, :3] / np.linalg.norm(series.affine[:3, :3], axis=0)).argmax())
    left = np.sign(series.affine[0, axis])
    indices = np.moveaxis(np.indices(tuple(shape)), 0, -1) - (shape - 1) / 2
    masks = []
    for place, size in zip(_PLACES, _SIZES, strict=True):
        middle = np.zeros(3)
        middle[axis] = place * left * shape[axis]
        masks.append(np.linalg.norm((indices - middle) / shape, axis=-1) < size)
    return np.stack(masks)


def _noise(shape: tuple[int, int, int]) -> NDArray[np.float64]:
    """Grey values without any colour, which viewers show as grey."""
    return np.random.default_rng(3).normal(60, 15, shape).round()

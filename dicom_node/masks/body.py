"""Finds the patient's outline in an image by its values alone: no network, the same for every model.

What is denser than air is the body, the table, its cushions and masks of plastic. Table and masks are thin, so an
erosion on a coarse grid parts them from the body; what is left of it is grown back and cut out of the dense voxels of
the image itself, so that the surface lies where the image has it. Air inside belongs to the body.
"""

from typing import Any, Final

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from dicom_node.masks.packed import Mask
from dicom_node.masks.postprocess import fill_holes

AIR_HU: Final = -300.0  # HU; skin, fat and all denser tissues lie above
COARSE_MM: Final = 3.0  # side of a voxel of the coarse grid
THIN_MM: Final = 12.0  # what is thinner in every place is no body: table tops, masks, tubes
LEAST_PART: Final = 0.02  # of the largest piece; smaller ones are no limbs but things beside the patient
SAMPLES: Final = 1_000_000  # voxels by which a threshold is found

Values = NDArray[np.float32]
Affine = NDArray[np.float64]


def body(values: Values, affine: Affine, *, hounsfield: bool) -> Mask:
    """Returns the body as one mask bool on the voxels of the image; empty where nothing is as dense as a body.

    values: float32 with three axes, in any order. affine: (4, 4), from indices to LPS in mm. hounsfield: whether values
    are HU; else what is body is told from the background by Li's threshold (minimum cross entropy).
    """
    dense = values > (AIR_HU if hounsfield else threshold(values))
    steps = [max(1, round(COARSE_MM / float(side))) for side in np.linalg.norm(affine[:3, :3], axis=0)]
    sides = np.linalg.norm(affine[:3, :3], axis=0) * steps
    near = _without_thin(_coarse(dense, steps), sides)
    for axis, step in enumerate(steps):
        near = np.repeat(near, step, axis=axis)
    inside = near[tuple(slice(0, size) for size in dense.shape)]
    return fill_holes(dense & inside, affine)


def threshold(values: Values) -> float:
    """Returns the value that parts the body from the background of an image in any unit."""
    step = max(1, round((values.size / SAMPLES) ** (1 / 3)))
    sample = np.ascontiguousarray(values[::step, ::step, ::step], dtype=np.float32)
    if sample.min() == sample.max():
        return float(sample.max())
    chosen = sitk.LiThresholdImageFilter()
    chosen.Execute(sitk.GetImageFromArray(sample))
    return float(chosen.GetThreshold())


def _coarse(dense: Mask, steps: list[int]) -> Mask:
    """Returns the mask on a grid that is coarser by `steps` per axis: where at least half of a block is dense."""
    padded = np.pad(dense, [(0, -size % step) for size, step in zip(dense.shape, steps, strict=True)], "edge")
    counts: NDArray[Any] = padded
    for axis, step in enumerate(steps):
        starts = np.arange(0, padded.shape[axis], step)
        counts = np.add.reduceat(counts, starts, axis=axis, dtype=np.uint32)
    return np.asarray(2 * counts >= np.prod(steps))


def _without_thin(mask: Mask, sides: NDArray[np.float64]) -> Mask:
    """Returns the mask without what is thin or small, grown by one voxel more than was eroded.

    sides: mm per voxel and axis. Beyond the image the body is taken to go on.
    """
    reach = [
        min(max(1, round(THIN_MM / 2 / side)), (size - 1) // 2) for side, size in zip(sides, mask.shape, strict=True)
    ]
    image = sitk.GetImageFromArray(mask.astype(np.uint8))
    radius = [int(one) for one in reversed(reach)]  # SimpleITK counts axes from the last
    core = sitk.BinaryErode(image, radius, sitk.sitkBall, 0.0, 1.0, True)
    labels = sitk.GetArrayFromImage(sitk.ConnectedComponent(core, True))
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    large = sizes >= max(1, LEAST_PART * sizes.max())
    kept = sitk.GetImageFromArray(large[labels].astype(np.uint8))
    grown = sitk.BinaryDilate(kept, [one + 1 for one in radius], sitk.sitkBall)
    return np.asarray(sitk.GetArrayFromImage(grown), dtype=bool)

"""Geometry, said once: patient grid to network axes and back.

The network's axes are (S, A, R): index 0 grows to superior, 1 to anterior, 2 to right. That is bit for bit the array
that nnU-Net's `NibabelIOWithReorient` gives for the same grid as NIfTI. No voxel is resampled: axes are only permuted
and flipped, and masks come back by the inverse.
"""

from pathlib import Path

import highdicom
import numpy as np
import SimpleITK
from numpy.typing import NDArray

from dicom_node.errors import ResultError
from dicom_node.series import ImageSeries

# Unit vectors of the network's axes in LPS: superior, anterior, right.
_SAR = np.array([[0.0, 0.0, 1.0], [0.0, -1.0, 0.0], [-1.0, 0.0, 0.0]])


def network_axes(affine: NDArray[np.float64]) -> tuple[tuple[int, int, int], tuple[bool, bool, bool]]:
    """Which array axis becomes each network axis, and whether it is flipped.

    `affine` (4, 4) maps array indices to LPS millimetres. Each array axis goes to the anatomical axis that it lies
    closest to, the clearest first: the rule of nibabel's `io_orientation`, which also decides beyond 45 degrees.
    """
    directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    closeness = _SAR @ directions  # [network axis, array axis]
    order, flips = [0, 0, 0], [False, False, False]
    free = np.ones(3, dtype=bool)
    for axis in np.argsort(-np.abs(closeness).max(axis=0), kind="stable"):
        target = int(np.where(free, np.abs(closeness[:, axis]), -1).argmax())
        free[target] = False
        order[target], flips[target] = int(axis), bool(closeness[target, axis] < 0)
    return (order[0], order[1], order[2]), (flips[0], flips[1], flips[2])


def to_network(series: ImageSeries) -> highdicom.Volume:
    """The volume the network sees: float32 (S, A, R), contiguous, with its LPS affine; spacing is (S, A, R) too."""
    order, flips = network_axes(series.volume.affine)
    turned = series.volume.permute_spatial_axes(order)
    flipped = [axis for axis in range(3) if flips[axis]]
    if flipped:
        turned = turned.flip_spatial(flipped)
    return turned.with_array(np.ascontiguousarray(turned.array))


def from_network(masks: NDArray[np.bool_], network: highdicom.Volume, series: ImageSeries) -> NDArray[np.bool_]:
    """Masks bool (P, S, A, R) on the grid of `network` back as bool (P, slices, rows, columns) on the series' slices.

    ResultError when `network` is not the grid that `to_network(series)` gives or the masks do not lie on it.
    """
    order, flips = network_axes(series.volume.affine)
    shape = tuple(series.volume.spatial_shape[axis] for axis in order)
    if masks.shape[1:] != shape or network.spatial_shape != shape:
        raise ResultError(f"masks of {masks.shape[1:]} voxels do not lie on the series' grid of {shape} voxels")
    if network.frame_of_reference_uid != series.volume.frame_of_reference_uid:
        raise ResultError("the network's volume and the series have different frames of reference")
    expected = series.volume.get_geometry().permute_spatial_axes(order)
    flipped = [axis for axis in range(3) if flips[axis]]
    expected = expected.flip_spatial(flipped) if flipped else expected
    if not np.allclose(expected.affine, network.affine, atol=1e-4):
        raise ResultError("the network's volume does not lie where the series lies")
    back = masks[(slice(None), *(slice(None, None, -1 if flip else 1) for flip in flips))]
    return np.ascontiguousarray(back.transpose(0, *(1 + np.argsort(order))))


def write_nifti(volume: highdicom.Volume, path: Path) -> None:
    """Writes a volume with axes (S, A, R) as NIfTI in RAS orientation: voxel axes grow to right, anterior, superior."""
    image = SimpleITK.GetImageFromArray(volume.array)
    affine = volume.affine[:, [2, 1, 0, 3]]
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((affine[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(affine[:3, 3].tolist())
    SimpleITK.WriteImage(image, str(path))

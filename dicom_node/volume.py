"""Converts between the patient grid and the network's axes; the only place that knows both.

The network's axes are (S, A, R): index 0 grows to superior, 1 to anterior, 2 to right. That is bit for bit the array
that nnU-Net's `NibabelIOWithReorient` gives for the same grid as NIfTI. No voxel is resampled: axes are only permuted
and flipped, and masks come back by the inverse.

There are two ways to see the slices of a tilted gantry. As they are: the array of the slices, on the grid made upright;
what is round in the patient leans over in it. Or straightened: each slice is moved in its plane, by whole pixels, to
where it lies in the patient. Then what is round stays round to half a pixel, values are not interpolated, and masks
come back to exactly the voxels that were seen.
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
    """Returns which array axis becomes each network axis (S, A, R), and whether it is flipped.

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


def to_network(series: ImageSeries, *, straighten: bool = False) -> highdicom.Volume:
    """Returns the volume that the network sees: float32 (S, A, R), contiguous, with its LPS affine.

    Its spacing is in (S, A, R) order too. straighten: move the slices of a tilted gantry to where they lie in the
    patient; voxels that no slice covers get the least value of the series.
    """
    volume = _straightened(series) if straighten and series.tilt_degrees else series.volume
    order, flips = network_axes(volume.affine)
    turned = volume.permute_spatial_axes(order)
    flipped = [axis for axis in range(3) if flips[axis]]
    if flipped:
        turned = turned.flip_spatial(flipped)
    return turned.with_array(np.ascontiguousarray(turned.array))


def from_network(masks: NDArray[np.bool_], network: highdicom.Volume, series: ImageSeries) -> NDArray[np.bool_]:
    """Brings masks bool (P, S, A, R) on the grid of `network` back to (P, slices, rows, columns) on the series' slices.

    network: what `to_network(series)` returned, straightened or not; only its geometry is read.

    Raises:
        ResultError: when `network` is not such a grid, or the masks do not lie on it.
    """
    order, flips = network_axes(series.volume.affine)
    shift, straight = _straight_grid(series)
    seen = series.volume.get_geometry()
    straightened = network.spatial_shape == tuple(straight.spatial_shape[axis] for axis in order)
    expected = (straight if straightened else seen).permute_spatial_axes(order)
    if masks.shape[1:] != expected.spatial_shape or network.spatial_shape != expected.spatial_shape:
        raise ResultError(
            f"masks of {masks.shape[1:]} voxels do not lie on the series' grid of {expected.spatial_shape} voxels"
        )
    if network.frame_of_reference_uid != series.volume.frame_of_reference_uid:
        raise ResultError("the network's volume and the series have different frames of reference")
    flipped = [axis for axis in range(3) if flips[axis]]
    expected = expected.flip_spatial(flipped) if flipped else expected
    if not np.allclose(expected.affine, network.affine, atol=1e-4):
        raise ResultError("the network's volume does not lie where the series lies")
    back = masks[(slice(None), *(slice(None, None, -1 if flip else 1) for flip in flips))]
    back = back.transpose(0, *(1 + np.argsort(order)))
    if not straightened:
        return np.ascontiguousarray(back)
    rows, columns = seen.spatial_shape[1:]
    return np.stack(
        [back[:, n, row : row + rows, column : column + columns] for n, (row, column) in enumerate(shift)], axis=1
    )


def _straightened(series: ImageSeries) -> highdicom.Volume:
    """Returns the slices of a tilted gantry on an upright grid that holds them all."""
    shift, grid = _straight_grid(series)
    slices = series.volume.array
    rows, columns = slices.shape[1:]
    array = np.full(grid.spatial_shape, slices.min(), dtype=np.float32)
    for number, (row, column) in enumerate(shift):
        array[number, row : row + rows, column : column + columns] = slices[number]
    return highdicom.Volume(array, grid.affine, "PATIENT", frame_of_reference_uid=series.volume.frame_of_reference_uid)


def _straight_grid(series: ImageSeries) -> tuple[NDArray[np.int_], highdicom.VolumeGeometry]:
    """Returns by how many (rows, columns) each slice is moved on the upright grid, int (slices, 2), and that grid."""
    upright = series.volume.affine
    lean = series.affine[:3, 0] - upright[:3, 0]
    pixels = np.array([lean @ upright[:3, axis] / (upright[:3, axis] @ upright[:3, axis]) for axis in (1, 2)])
    moved = np.rint(np.arange(series.volume.spatial_shape[0])[:, None] * pixels).astype(int)
    least = moved.min(axis=0)
    affine = upright.copy()
    affine[:3, 3] += upright[:3, 1:3] @ least
    slices, rows, columns = series.volume.spatial_shape
    more = moved.max(axis=0) - least
    shape = (slices, rows + int(more[0]), columns + int(more[1]))
    return moved - least, highdicom.VolumeGeometry(
        affine, shape, "PATIENT", frame_of_reference_uid=series.volume.frame_of_reference_uid
    )


def write_nifti(volume: highdicom.Volume, path: Path) -> None:
    """Writes a volume with axes (S, A, R) as NIfTI in RAS orientation: voxel axes grow to right, anterior, superior."""
    image = SimpleITK.GetImageFromArray(volume.array)
    affine = volume.affine[:, [2, 1, 0, 3]]
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((affine[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(affine[:3, 3].tolist())
    SimpleITK.WriteImage(image, str(path))

"""Changes masks after the network, and makes structures from others: components, holes, smoothing, margins.

Every mask is bool (slices, rows, columns); functions return a new one. Lengths are millimetres in the patient: `affine`
(4, 4) maps indices to LPS, so that voxels of any shape and the sheared grid of a tilted gantry are measured as they
lie. Nothing is known beyond the edges of the volume: growing does not come in from there, and shrinking does not eat
from there.
"""

from collections import deque
from collections.abc import Callable
from typing import Any, Final, Literal

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from dicom_node.masks.packed import Bounds, Mask, bounding_box
from dicom_node.volume import network_axes

_CUT: Final = 3.0  # standard deviations after which a Gaussian ends: 1.1 % of it lies beyond, in three dimensions 2.9 %
_EVEN: Final = 1e-9  # exactly one half is inside
_ROUNDING: Final = 1e-6  # mm: a voxel at exactly the distance of a margin belongs to it

Affine = NDArray[np.float64]


def crop_to(mask: Mask, inside: Mask) -> Mask:
    """Returns the part of `mask` that lies in `inside`."""
    return mask & inside


def largest_component(mask: Mask) -> Mask:
    """Returns the largest 26-connected component; of equal ones, the first in the order of the voxels."""
    return _of_components(mask, lambda sizes: np.arange(len(sizes)) == sizes.argmax())


def remove_small(mask: Mask, affine: Affine, least_ml: float) -> Mask:
    """Returns the mask without its 26-connected components of less than `least_ml` millilitres."""
    voxel_ml = abs(float(np.linalg.det(affine[:3, :3]))) / 1000
    return _of_components(mask, lambda sizes: sizes * voxel_ml >= least_ml)


def fill_holes(mask: Mask, affine: Affine) -> Mask:
    """Returns the mask with every cavity filled that it encloses on an axial slice.

    A cavity is enclosed when no path across the edges of pixels leads out of it (4-connected). Axial is the array axis
    that lies closest to the patient's long axis, however the slices were acquired.
    """
    box = bounding_box(mask)
    if box is None:
        return mask.copy()
    axial = network_axes(affine)[0][0]
    done = mask.copy()
    planes = np.moveaxis(done[box], axial, 0)
    for plane in planes:
        outside = sitk.ConnectedComponent(_image(np.pad(~plane, 1, constant_values=True)))
        labels = sitk.GetArrayViewFromImage(outside)
        plane |= labels[1:-1, 1:-1] != labels[0, 0]
    return done


def smooth(mask: Mask, affine: Affine, mm: float) -> Mask:
    """Returns the mask blurred by a Gaussian of deviation `mm` and cut at one half; edges are continued."""
    box = bounding_box(mask)
    if box is None or mm <= 0:
        return mask.copy()
    weights = _weights(affine, _CUT * mm, lambda distance: np.exp(-0.5 * (distance / mm) ** 2))
    done = np.zeros_like(mask)
    part = _grown_box(box, np.array(weights.shape) // 2, mask.shape)
    done[part] = _covered(mask[part], weights / weights.sum(), "edge", 0.5 - _EVEN)
    return done


def margin(mask: Mask, affine: Affine, mm: float) -> Mask:
    """Returns the mask grown by all voxels within `mm` of it, centre to centre, or shrunk for negative `mm`.

    Shrinking removes what lies within -`mm` of a voxel outside the mask; a mask that fills the volume stays.
    """
    box = bounding_box(mask)
    if box is None or mm == 0:
        return mask.copy()
    ball = _weights(affine, abs(mm) + _ROUNDING, lambda distance: (distance <= abs(mm) + _ROUNDING).astype(float))
    part = _grown_box(box, np.array(ball.shape) // 2, mask.shape)
    here = mask[part]
    done = np.zeros_like(mask)
    # The weights are 0 or 1, so each sum is a count up to rounding: one half separates none from at least one.
    done[part] = _covered(here, ball, "constant", 0.5) if mm > 0 else ~_covered(~here, ball, "constant", 0.5)
    return done


def _of_components(mask: Mask, keep: Callable[[NDArray[np.int64]], NDArray[np.bool_]]) -> Mask:
    """Returns the 26-connected components that `keep` chooses by their sizes in voxels."""
    done = np.zeros_like(mask)
    box = bounding_box(mask)
    if box is not None:
        components = sitk.ConnectedComponent(_image(mask[box]), True)
        labels = sitk.GetArrayViewFromImage(components)
        sizes = np.bincount(labels.ravel())[1:]
        done[box] = np.concatenate([[False], keep(sizes)])[labels]
    return done


def _image(mask: Mask) -> Any:
    """Returns a mask as a SimpleITK image; spacing does not matter for what is done with it."""
    return sitk.GetImageFromArray(mask.astype(np.uint8))


def _weights(
    affine: Affine, reach_mm: float, weight: Callable[[NDArray[np.float64]], NDArray[np.float64]]
) -> NDArray[np.float64]:
    """Returns `weight` of the distance in mm from the middle voxel, on the smallest odd grid that holds `reach_mm`.

    The reach along an index is that length divided by the distance between two planes of equal index, which are the
    rows of the inverse affine. On a sheared grid this is more than the length divided by the spacing. Beyond the reach
    it is 0.
    """
    steps = affine[:3, :3]
    half = np.floor(reach_mm * np.linalg.norm(np.linalg.inv(steps), axis=1)).astype(int)
    offsets = np.stack(np.meshgrid(*(np.arange(-n, n + 1) for n in half), indexing="ij"), axis=-1)
    distances = np.linalg.norm(offsets @ steps.T, axis=-1)
    return np.where(distances <= reach_mm, weight(distances), 0.0)


def _grown_box(box: Bounds, by: NDArray[np.int_], shape: tuple[int, ...]) -> Bounds:
    """Returns the box grown by `by` voxels along each axis and cut to the volume."""
    first, second, third = (
        slice(max(0, part.start - int(more)), min(size, part.stop + int(more)))
        for part, more, size in zip(box, by, shape, strict=True)
    )
    return first, second, third


def _covered(mask: Mask, weights: NDArray[np.float64], beyond: Literal["constant", "edge"], least: float) -> Mask:
    """Returns where the weighted sum of the mask around a voxel reaches `least`.

    beyond: what counts outside the array, nothing ("constant") or the nearest voxel ("edge"). Planes are Fourier
    transformed one by one and added as spectra: as exact as the sum itself, and small in memory.
    """
    depth, height, width = (size // 2 for size in weights.shape)
    padded = np.pad(mask, ((depth, depth), (height, height), (width, width)), beyond)
    size = padded.shape[1:]
    layers = [np.fft.rfft2(layer, size) for layer in weights[::-1]]
    window: deque[NDArray[np.complex128]] = deque(maxlen=len(layers))
    done = np.empty_like(mask)
    for place, plane in enumerate(padded, start=-2 * depth):
        window.append(np.fft.rfft2(plane.astype(np.float64)))
        if place >= 0:
            total = sum(one * other for one, other in zip(window, layers, strict=True))
            done[place] = np.fft.irfft2(total, size)[2 * height :, 2 * width :] >= least
    return done

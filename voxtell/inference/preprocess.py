"""Brings the caller's image to the network's grid: check, crop, resample, normalize, pad.

`prepare` does all of it and returns a `Field`: the array over which the windows run, with what is needed to bring
masks back (done in `assembly`). Axes are (S, A, R): index 0 grows to superior, 1 to anterior, 2 to right. Spacing is in
millimetres per voxel, in the same order. Primed axes (S', A', R') belong to the network's grid.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor
from torch.nn import functional

from voxtell.engine import Spacing
from voxtell.errors import ImageError
from voxtell.model.plans import InputPlans, Plans, Triple

Slices = tuple[slice, slice, slice]
Image = npt.NDArray[np.float32]

MIN_STD = 1e-8  # grey values; keeps a constant image at zero instead of dividing it by zero


@dataclass(frozen=True)
class Field:
    """Holds a prepared image and its place in the caller's image.

    volume: float32 (S', A', R'), normalized and padded with zeros to at least the patch size.
    inside: the part of `volume` that is not padding.
    crop: where that part lies in the caller's image.
    resampled: whether the grid of `inside` differs from that of the crop.
    air: normalized grey value; voxels up to it are not body. None when windows without body are run too.
    """

    volume: Tensor
    inside: Slices
    crop: Slices
    resampled: bool
    air: float | None = None

    @property
    def crop_shape(self) -> Triple:
        """Size (S, A, R) of the crop on the caller's grid."""
        return triple(part.stop - part.start for part in self.crop)

    @property
    def inside_shape(self) -> Triple:
        """Size (S', A', R') of the image on the network's grid, without padding."""
        return triple(part.stop - part.start for part in self.inside)

    def has_body(self, start: Triple, patch: Triple) -> bool:
        """Whether a window holds any voxel above `air`, padding aside; always True when `air` is None.

        start: first voxel of the window in `volume`; patch: its size, both (S', A', R').
        """
        if self.air is None:
            return True
        s, a, r = (
            slice(max(at, part.start), min(at + size, part.stop))
            for at, size, part in zip(start, patch, self.inside, strict=True)
        )
        return bool((self.volume[s, a, r] > self.air).any())


def check_image(image: npt.NDArray[np.generic]) -> Image:
    """Returns the image as float32 (S, A, R), without a copy where it is that already.

    Raises:
        ImageError: when there are not three axes, an axis is empty, the dtype is not real, or a voxel is not finite.
    """
    array = np.asarray(image)
    if array.ndim != 3:
        raise ImageError(f"the image has {array.ndim} axes {array.shape}; it must be one volume (S, A, R)")
    if 0 in array.shape:
        raise ImageError(f"the image is empty: {array.shape}")
    if array.dtype.kind not in "fiub":
        raise ImageError(f"the image's type is {array.dtype}; it must hold real numbers (float32)")
    array = array.astype(np.float32, copy=False)
    wrong = array.size - int(np.count_nonzero(np.isfinite(array)))
    if wrong:
        raise ImageError(
            f"{wrong} voxels of the image are not finite (NaN or infinite); replace them before segmenting"
        )
    return array


def check_spacing(spacing: Spacing | None) -> Spacing | None:
    """Returns the spacing (S, A, R) in millimetres per voxel as floats, or None when none is given.

    Raises:
        ImageError: when it is not three finite, positive numbers.
    """
    if spacing is None:
        return None
    values = tuple(float(v) for v in spacing)
    if len(values) != 3 or not all(np.isfinite(v) and v > 0 for v in values):
        raise ImageError(f"spacing is {tuple(spacing)}; it must be three positive millimetres (S, A, R)")
    return values[0], values[1], values[2]


def prepare(image: Image, plans: Plans, spacing: Spacing | None = None, *, air: float | None = None) -> Field | None:
    """Returns the field of an image, or None when no voxel is in the foreground: then every mask is empty.

    Args:
        image: float32 (S, A, R), as `check_image` returns it.
        plans: the model's patch size, normalization and training spacing.
        spacing: millimetres per voxel (S, A, R); None for models that do not resample.
        air: grey value of the image up to which a voxel is not body, for `Field.has_body`.

    Memory: at most three float32 arrays of the crop's size at once.
    """
    crop = foreground_box(image, plans.input.foreground_above)
    if crop is None:
        return None
    volume = image[crop]
    shape = _resampled_shape(volume.shape, plans.input, spacing)
    resampled = shape != volume.shape
    if resampled:
        volume = downsample(volume, shape)
    normal = normalize(volume, plans.input)
    at_most = None if air is None else float(normalize(np.array([air], np.float32), plans.input, of=volume)[0])
    return _pad(normal, plans.patch_size, crop, resampled, at_most)


def halved(field: Field, patch: Triple) -> Field:
    """Returns the field at half its resolution, padded anew to `patch`; its crop is the whole of that coarser grid."""
    half = functional.avg_pool3d(field.volume[field.inside][None], 2, ceil_mode=True)[0].numpy()
    s, a, r = (slice(0, size) for size in half.shape)
    return _pad(half, patch, (s, a, r), resampled=False)


def foreground_box(image: Image, above: float | None) -> Slices | None:
    """Returns the bounding box (S, A, R) of the voxels above a grey value, or None when there are none.

    above: in the image's grey values; None takes the voxels that are not zero, as nnU-Net does. nnU-Net also fills
    holes first, which cannot change the box.
    """
    foreground = image != 0 if above is None else image > above
    box = []
    for axis in range(3):
        (found,) = np.nonzero(foreground.any(axis=tuple(a for a in range(3) if a != axis)))
        if found.size == 0:
            return None
        box.append(slice(int(found[0]), int(found[-1]) + 1))
    return box[0], box[1], box[2]


def normalize(values: Image, plans: InputPlans, of: Image | None = None) -> Image:
    """Returns grey values scaled as in training: z-score over the volume, or clipped HU with fixed mean and scale.

    Args:
        values: float32 of any shape.
        plans: which of the two ("zscore" or "ct"), and the figures of "ct".
        of: the volume that gives mean and standard deviation of the z-score, when `values` is only a part of it.
    """
    if plans.normalization == "ct":
        return ((values.clip(plans.lower, plans.upper) - plans.mean) / plans.std).astype(np.float32)
    volume = values if of is None else of
    scaled: Image = values - volume.mean()
    scaled /= max(float(volume.std()), MIN_STD)
    return scaled


def downsample(volume: Image, shape: Triple) -> Image:
    """Returns a volume (S, A, R) resampled linearly to `shape` over the same extent.

    Axes that become coarser are smoothed first, by a Gaussian of (ratio - 1) / 2 voxels, against aliasing; axes that
    become finer are not.
    """
    ratios = [old / new for old, new in zip(volume.shape, shape, strict=True)]
    smooth = gaussian_filter(volume, [max(0.0, (ratio - 1) / 2) for ratio in ratios])
    resampled: Image = resize(torch.from_numpy(smooth), shape).numpy()
    return resampled


def resize(volume: Tensor, shape: Triple) -> Tensor:
    """Returns a tensor (S, A, R) interpolated trilinearly to `shape`; both grids cover the same extent."""
    return functional.interpolate(volume[None, None], size=shape, mode="trilinear", align_corners=False)[0, 0]


def _resampled_shape(shape: tuple[int, ...], plans: InputPlans, spacing: Spacing | None) -> Triple:
    """Returns the shape on the network's grid: an axis outside the accepted range gets the training spacing."""
    if spacing is None or plans.spacing is None:
        return triple(shape)
    lowest, highest = plans.spacing_min or plans.spacing, plans.spacing_max or plans.spacing
    return triple(
        size if low <= mm <= high else max(1, round(size * mm / target))
        for size, mm, low, high, target in zip(shape, spacing, lowest, highest, plans.spacing, strict=True)
    )


def _pad(volume: Image, patch: Triple, crop: Slices, resampled: bool, air: float | None = None) -> Field:
    """Returns a field padded with zeros to at least the patch size, as evenly as possible before and behind."""
    before = [max(0, size - n) // 2 for n, size in zip(volume.shape, patch, strict=True)]
    after = [max(0, size - n) - b for n, size, b in zip(volume.shape, patch, before, strict=True)]
    padded = np.pad(volume, list(zip(before, after, strict=True))) if any(before + after) else volume
    s, a, r = (slice(b, b + n) for b, n in zip(before, volume.shape, strict=True))
    return Field(torch.from_numpy(padded), (s, a, r), crop, resampled, air)


def triple(values: Iterable[int]) -> Triple:
    """Returns three integers, such as a shape, as the tuple of `int` that plans use."""
    s, a, r = (int(value) for value in values)
    return s, a, r

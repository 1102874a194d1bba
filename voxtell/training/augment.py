"""Draws random views of a volume: rotation, scale, shift, bending, noise, contrast and cut fields of view.

A view is never mirrored: left stays left. Axes are (S, A, R): superior, anterior, right; grey values are those of the
scanner, HU for CT.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from voxtell.training.cache import WHOLE, Labels

Vector = npt.NDArray[np.float64]

AIR_HU = -1000.0


@dataclass(frozen=True)
class Augmentation:
    """Says how far a view may depart from the volume; ranges are plus and minus, probabilities are per patch.

    scale_in_plane: relative change of A and R together. noise_hu: largest standard deviation. contrast: relative change
    of the grey values. brightness_hu: shift of the grey values.
    """

    rotation_degrees: tuple[float, float, float] = (12.0, 7.0, 8.0)
    """About the S, A and R axis: heads turn more than they tilt."""
    scale_s: float = 0.2
    """Relative change of the slice spacing (0.2: from 0.83 to 1.2 times)."""
    scale_in_plane: float = 0.18
    bend_probability: float = 0.5
    bend: float = 0.08
    """Standard deviation of a smooth displacement at points a quarter of the patch apart, as a share of that distance.
    Necks bend differently, which no matrix can express."""
    noise_probability: float = 0.2
    noise_hu: float = 40.0
    blur_probability: float = 0.1
    contrast: float = 0.1
    brightness_hu: float = 25.0
    cut_probability: float = 0.15
    """Chance that the field of view ends inside the patch, with air beyond a plane."""
    as_scanned_probability: float = 0.4
    """Chance that a view shows the voxels as they are, neither turned, stretched nor bent, as the network meets them
    later. Interpolation blurs an image and moves its masks by up to half a voxel, much for a structure of three."""


NONE = Augmentation((0, 0, 0), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, as_scanned_probability=1)


def random_matrix(augmentation: Augmentation, spacing: tuple[float, float, float], rng: np.random.Generator) -> Vector:
    """Returns a 3x3 matrix from steps in the patch to steps in the volume, both in voxels (S, A, R).

    It is a rotation with positive scales in millimetres. Its determinant is positive, so that nothing is ever mirrored.

    spacing: mm per voxel (S, A, R) of the volume.
    """
    if rng.random() < augmentation.as_scanned_probability:
        return np.eye(3)
    rotation = np.eye(3)
    for axis, limit in enumerate(augmentation.rotation_degrees):
        angle = np.radians(rng.uniform(-limit, limit))
        i, j = (a for a in range(3) if a != axis)
        turn = np.eye(3)
        turn[i, i] = turn[j, j] = np.cos(angle)
        turn[i, j], turn[j, i] = -np.sin(angle), np.sin(angle)
        rotation = rotation @ turn
    in_plane, slices = np.log1p(augmentation.scale_in_plane), np.log1p(augmentation.scale_s)
    both = rng.uniform(-in_plane, in_plane)
    scale = np.exp([rng.uniform(-slices, slices), both + rng.uniform(-0.03, 0.03) * bool(in_plane), both])
    return np.diag(1 / np.asarray(spacing)) @ rotation @ np.diag(np.asarray(spacing) * scale)


def random_bend(augmentation: Augmentation, patch: tuple[int, int, int], rng: np.random.Generator) -> Vector | None:
    """Returns displacements (3, 5, 5, 5) along S, A and R, in voxels, at points spread over a patch; None: not bent."""
    if rng.random() >= augmentation.bend_probability:
        return None
    apart = np.reshape(patch, (3, 1, 1, 1)) / 4
    bend: Vector = rng.normal(0, augmentation.bend, (3, 5, 5, 5)) * apart
    return bend


def sample_view(
    image: npt.NDArray[np.int16],
    labels: Labels,
    centre: Vector,
    matrix: Vector,
    patch: tuple[int, int, int],
    bend: Vector | None = None,
) -> tuple[Tensor, Tensor]:
    """Reads a patch around `centre` (voxels S, A, R of the volume) with linear interpolation.

    Only the box that the patch reaches is read from the arrays, which may be memory-mapped.

    Args:
        image: int16 (S, A, R), the scanner's numbers. labels: (K, S, A, R) as the cache keeps them.
        matrix: (3, 3), from steps in the patch to steps in the volume.
        patch: shape (s, a, r) of the result.
        bend: what `random_bend` returned.

    Returns:
        float32 (s, a, r), continued by its border outside the volume; and float32 (K, s, a, r), the share of each voxel
        that is inside: 0 or 1 for labels that are bool, 0 outside the volume.
    """
    whole = bend is None and np.array_equal(matrix, np.eye(3))
    if whole:  # snap to voxels; the centre of an even number of voxels lies between two
        centre = np.round(centre - (np.asarray(patch) - 1) / 2) + (np.asarray(patch) - 1) / 2
    reach = np.abs(matrix) @ (np.asarray(patch) / 2) + 2
    if bend is not None:
        reach += np.abs(bend).max(axis=(1, 2, 3))
    low = np.clip(np.floor(centre - reach), 0, np.asarray(image.shape) - 2).astype(int)
    high = np.clip(np.ceil(centre + reach) + 1, low + 2, image.shape).astype(int)
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    source = torch.from_numpy(np.ascontiguousarray(image[box], dtype=np.float32))
    masks = torch.from_numpy(np.ascontiguousarray(labels[(slice(None), *box)], dtype=np.float32))
    # grid_sample counts from -1 to 1 over the box and wants the last axis first.
    extent = (high - low - 1) / 2
    offset = (centre - low) / extent - 1
    linear = matrix * ((np.asarray(patch) - 1) / 2)[None, :] / extent[:, None]
    theta = np.concatenate([linear[::-1, ::-1], offset[::-1, None]], axis=1)
    grid = functional.affine_grid(torch.tensor(theta[None], dtype=torch.float32), [1, 1, *patch], align_corners=True)
    if bend is not None:
        moved = torch.tensor((bend / extent.reshape(3, 1, 1, 1))[None, ::-1].copy(), dtype=torch.float32)
        grid += functional.interpolate(moved, patch, mode="trilinear", align_corners=True).movedim(1, -1)
    view = functional.grid_sample(source[None, None], grid, padding_mode="border", align_corners=True)[0, 0]
    # Labels of whole voxels stay whole: nothing is known of where a surface lies within a voxel.
    whole_voxels = labels.dtype == np.bool_
    mode = "nearest" if whole_voxels else "bilinear"
    targets = functional.grid_sample(masks[None], grid, mode=mode, padding_mode="zeros", align_corners=True)[0]
    return view, targets if whole_voxels else targets / WHOLE


def change_intensity(view: Tensor, augmentation: Augmentation, rng: np.random.Generator) -> Tensor:
    """Returns the view with random noise, blur, contrast and brightness, in the scanner's numbers.

    view: float32 (s, a, r) in HU, and so is what is returned.
    """
    if rng.random() < augmentation.blur_probability:
        view = functional.avg_pool3d(functional.pad(view[None, None], (1,) * 6, mode="replicate"), 3, stride=1)[0, 0]
    if rng.random() < augmentation.noise_probability:
        noise = torch.randn(view.shape, generator=torch.Generator().manual_seed(int(rng.integers(2**31))))
        view = view + noise * float(rng.uniform(0, augmentation.noise_hu))
    gain = 1 + rng.uniform(-augmentation.contrast, augmentation.contrast)
    return view * float(gain) + float(rng.uniform(-augmentation.brightness_hu, augmentation.brightness_hu))


def cut_field_of_view(
    view: Tensor, targets: Tensor, augmentation: Augmentation, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Replaces, with `cut_probability`, everything beyond a plane near an end of a random axis by air.

    view: float32 (s, a, r) in HU. targets: float32 (K, s, a, r), zero beyond the plane. Both are returned; inputs are
    kept.
    """
    if rng.random() >= augmentation.cut_probability:
        return view, targets
    axis = int(rng.integers(3))
    length = view.shape[axis]
    at = int(rng.integers(1, max(2, length // 3)))
    start, count = (0, at) if rng.random() < 0.5 else (length - at, at)
    view, targets = view.clone(), targets.clone()
    view.narrow(axis, start, count).fill_(AIR_HU)
    targets.narrow(axis + 1, start, count).zero_()
    return view, targets

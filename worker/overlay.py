"""A picture of masks on an image: three planes through the middle of what was found, to be looked at."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

Grey = np.ndarray[Any, np.dtype[np.uint8]]
Masks = np.ndarray[Any, np.dtype[np.bool_]]
Rgb = tuple[int, int, int]

SOFT_TISSUE = (-160.0, 240.0)  # HU: the usual window for soft tissue, level 40, width 400
PIXEL_MM = 0.75  # of the picture
MARGIN = 12  # pixels around each plane
LEGEND_HEIGHT = 22  # pixels a line
NOTICE = "NOT FOR DIAGNOSIS - UNAPPROVED"


def overlay(
    image: np.ndarray[Any, np.dtype[np.float32]],
    masks: Masks,
    spacing: Sequence[float],
    labels: Sequence[str],
    colours: Sequence[Rgb],
    path: Path,
) -> None:
    """Writes a PNG with an axial, a coronal and a sagittal plane and a legend.

    image: float32 (S, A, R), HU for CT (another modality is shown between its 1st and 99th percentile);
    masks: bool (P, S, A, R); spacing: millimetres (S, A, R). Planes are shown as radiologists see them: patient right
    is on the left of axial and coronal, anterior on the left of sagittal.
    """
    low, high = SOFT_TISSUE if image.min() < -500 else np.percentile(image, (1, 99))
    grey = (np.clip((image - low) / max(high - low, 1e-6), 0, 1) * 255).astype(np.uint8)
    planes = [_plane(grey, masks, spacing, colours, axis, at) for axis, at in enumerate(_middle(masks))]
    width = sum(plane.width for plane in planes) + MARGIN * (len(planes) + 1)
    rows = (len(labels) + 3) // 4 + 1
    height = max(plane.height for plane in planes) + 2 * MARGIN + rows * LEGEND_HEIGHT
    sheet = Image.new("RGB", (width, height))
    left = MARGIN
    for plane in planes:
        sheet.paste(plane, (left, MARGIN))
        left += plane.width + MARGIN
    _legend(sheet, labels, colours, height - rows * LEGEND_HEIGHT)
    sheet.save(path)


def _middle(masks: Masks) -> tuple[int, int, int]:
    """The voxel (S, A, R) whose three planes show the most of the structures; the centre if nothing was found."""
    counts = [masks.any(axis=tuple(a for a in range(1, 4) if a != axis + 1)).sum(axis=0) for axis in range(3)]
    if not masks.any():
        s, a, r = masks.shape[1:]
        return s // 2, a // 2, r // 2
    most = [np.flatnonzero(count == count.max()) for count in counts]
    s, a, r = (int(planes[len(planes) // 2]) for planes in most)
    return s, a, r


def _plane(
    grey: Grey, masks: Masks, spacing: Sequence[float], colours: Sequence[Rgb], axis: int, at: int
) -> Image.Image:
    """One plane across `axis`, both remaining axes growing to the top and to the left of the picture."""
    flipped: Grey = np.ascontiguousarray(np.take(grey, at, axis)[::-1, ::-1])
    height_mm, width_mm = (size * mm for size, mm in zip(flipped.shape, np.delete(spacing, axis), strict=True))
    size = (max(1, round(width_mm / PIXEL_MM)), max(1, round(height_mm / PIXEL_MM)))
    picture = np.array(Image.fromarray(flipped).resize(size, Image.Resampling.BILINEAR).convert("RGB"))
    for mask, colour in zip(masks, colours, strict=True):
        cut = Image.fromarray(np.ascontiguousarray(mask.take(at, axis)[::-1, ::-1]))
        inside = np.asarray(cut.resize(size, Image.Resampling.NEAREST))
        picture[inside] = (0.7 * picture[inside] + 0.3 * np.array(colour)).astype(np.uint8)
        picture[_border(inside)] = np.array(colour)
    return Image.fromarray(picture)


def _border(inside: Masks) -> Masks:
    """Pixels of the mask with a neighbour outside it."""
    padded = np.pad(inside, 1)
    core = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return inside & ~core


def _legend(sheet: Image.Image, labels: Sequence[str], colours: Sequence[Rgb], top: int) -> None:
    draw = ImageDraw.Draw(sheet)
    column = max(1, (sheet.width - MARGIN) // 4)
    for index, (label, colour) in enumerate(zip(labels, colours, strict=True)):
        x, y = MARGIN + (index % 4) * column, top + (index // 4) * LEGEND_HEIGHT
        draw.rectangle((x, y + 3, x + 12, y + 15), fill=colour)
        draw.text((x + 18, y + 3), label, fill=(230, 230, 230))
    draw.text((MARGIN, sheet.height - LEGEND_HEIGHT), NOTICE, fill=(255, 200, 60))

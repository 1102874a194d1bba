"""Draws masks on an image as one picture: three planes through the middle of what was found.

Planes are shown as radiologists see them: the patient's right is on the left of axial and coronal planes, anterior on
the left of sagittal ones, and letters say so (PS3.3 C.7.6.1.1.1). Axes (S, A, R) grow to superior, anterior, right.
"""

from collections.abc import Sequence
from typing import Final

import highdicom
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from dicom_node.masks.packed import Mask, bounding_box

Grey = NDArray[np.uint8]
Rgb = tuple[int, int, int]
Voxel = tuple[int, int, int]

SOFT_TISSUE: Final = (-160.0, 240.0)  # HU: the usual window for soft tissue, level 40, width 400
PIXEL_MM: Final = 0.75  # of the picture
LONGEST: Final = 640  # pixels of a plane; a longer one is shown in larger pixels
MARGIN: Final = 12  # pixels around each plane
LEGEND_HEIGHT: Final = 22  # pixels a line
COLUMNS: Final = 4  # of the legend
NOTICE: Final = "NOT FOR DIAGNOSIS - UNAPPROVED"

_LETTERS: Final = (("L", "R"), ("P", "A"), ("H", "F"))  # along and against the axes of LPS
_WHITE: Final = (230, 230, 230)
_WARNING: Final = (255, 200, 60)


def picture(
    image: highdicom.Volume,
    masks: Sequence[Mask],
    labels: Sequence[str],
    colours: Sequence[Rgb],
    caption: str = "",
) -> NDArray[np.uint8]:
    """Returns an axial, a coronal and a sagittal plane with a legend: uint8 (rows, columns, RGB).

    Args:
        image: float32 (S, A, R) with its LPS affine. HU for CT; other values are shown between the 1st and 99th
            percentile.
        masks: bool (S, A, R) each; one at a time is held.
        labels, colours: one per mask; colours are RGB, 0 to 255.
        caption: written beside the notice that the picture is not for diagnosis.
    """
    values = image.array
    low, high = SOFT_TISSUE if values.min() < -500 else np.percentile(values, (1, 99))
    at = _middle(masks, image.spatial_shape)
    cuts = _cuts(masks, at)
    pixel_mm = max(PIXEL_MM, max(size * mm for size, mm in zip(values.shape, image.spacing, strict=True)) / LONGEST)
    planes = []
    for axis in range(3):
        grey = (np.clip((values.take(at[axis], axis) - low) / max(high - low, 1e-6), 0, 1) * 255).astype(np.uint8)
        plane = _plane(grey, cuts[axis], np.delete(image.spacing, axis) / pixel_mm, colours)
        planes.append(_lettered(plane, np.delete(image.affine[:3, :3], axis, axis=1)))
    return _sheet(planes, labels, colours, caption)


def _cuts(masks: Sequence[Mask], at: Voxel) -> list[list[Mask]]:
    """Returns, for each axis, the planes of every mask at the voxel `at`."""
    cuts: list[list[Mask]] = [[], [], []]
    for mask in masks:
        for axis in range(3):
            cuts[axis].append(np.asarray(mask.take(at[axis], axis)))
    return cuts


def _middle(masks: Sequence[Mask], shape: tuple[int, ...]) -> Voxel:
    """Returns the voxel (S, A, R) whose three planes show the most structures; the centre if nothing was found."""
    counts = [np.zeros(size, dtype=int) for size in shape]
    for mask in masks:
        if box := bounding_box(mask):
            for axis, count in enumerate(counts):
                count[box[axis]] += mask[box].any(axis=tuple({0, 1, 2} - {axis}))
    most = [np.flatnonzero(count == count.max()) for count in counts]  # every plane where nothing was found
    s, a, r = (int(planes[len(planes) // 2]) for planes in most)
    return s, a, r


def _plane(grey: Grey, cuts: Sequence[Mask], scale: NDArray[np.float64], colours: Sequence[Rgb]) -> Image.Image:
    """Draws one plane, its axes growing to the top and to the left; `scale` is pixels per voxel, per axis."""
    height, width = (max(1, round(size * by)) for size, by in zip(grey.shape, scale, strict=True))
    turned = Image.fromarray(np.ascontiguousarray(grey[::-1, ::-1]))
    drawn = np.array(turned.resize((width, height), Image.Resampling.BILINEAR).convert("RGB"))
    for cut, colour in zip(cuts, colours, strict=True):
        if cut.any():
            mask = Image.fromarray(np.ascontiguousarray(cut[::-1, ::-1]))
            inside = np.asarray(mask.resize((width, height), Image.Resampling.NEAREST))
            drawn[inside] = (0.8 * drawn[inside] + 0.2 * np.array(colour)).astype(np.uint8)
            drawn[_border(inside)] = np.array(colour)
    return Image.fromarray(drawn)


def _border(inside: Mask) -> Mask:
    """Returns the pixels of the mask that have a neighbour outside it."""
    padded = np.pad(inside, 1)
    core = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return inside & ~core


def _lettered(plane: Image.Image, axes: NDArray[np.float64]) -> Image.Image:
    """Writes the patient's directions at the edges of a plane; `axes` (3, 2) grow to its top and to its left in LPS."""
    draw = ImageDraw.Draw(plane)
    up, left = letters(axes[:, 0]), letters(axes[:, 1])
    down, right = letters(-axes[:, 0]), letters(-axes[:, 1])
    middle = plane.width // 2, plane.height // 2
    for text, place, anchor in (
        (up, (middle[0], 2), "ma"),
        (down, (middle[0], plane.height - 3), "md"),
        (left, (3, middle[1]), "lm"),
        (right, (plane.width - 4, middle[1]), "rm"),
    ):
        draw.text(place, text, fill=_WHITE, anchor=anchor, stroke_width=1, stroke_fill=(0, 0, 0))
    return plane


def letters(direction: NDArray[np.float64]) -> str:
    """Returns where a direction in LPS leads, as in "L", "AH": the nearest axis first, others if within 70 degrees."""
    unit = direction / np.linalg.norm(direction)
    order = np.argsort(-np.abs(unit), kind="stable")
    return "".join(_LETTERS[axis][int(unit[axis] < 0)] for axis in order if abs(unit[axis]) > np.cos(np.radians(70)))


def _sheet(
    planes: Sequence[Image.Image], labels: Sequence[str], colours: Sequence[Rgb], caption: str
) -> NDArray[np.uint8]:
    """Returns the planes side by side above the legend and the notice: uint8 (rows, columns, RGB).

    The legend has `COLUMNS` columns; labels that are wider are cut.
    """
    width = sum(plane.width for plane in planes) + MARGIN * (len(planes) + 1)
    rows = (len(labels) + COLUMNS - 1) // COLUMNS + 1
    height = max(plane.height for plane in planes) + 2 * MARGIN + rows * LEGEND_HEIGHT
    sheet = Image.new("RGB", (width, height))
    left = MARGIN
    for plane in planes:
        sheet.paste(plane, (left, MARGIN))
        left += plane.width + MARGIN
    draw = ImageDraw.Draw(sheet)
    column, top = max(1, (width - MARGIN) // COLUMNS), height - rows * LEGEND_HEIGHT
    for index, (label, colour) in enumerate(zip(labels, colours, strict=True)):
        x, y = MARGIN + (index % COLUMNS) * column, top + (index // COLUMNS) * LEGEND_HEIGHT
        draw.rectangle((x, y + 3, x + 12, y + 15), fill=colour)
        draw.text((x + 18, y + 3), _fitting(draw, label, column - 22), fill=_WHITE)
    draw.text((MARGIN, height - LEGEND_HEIGHT), " - ".join(filter(None, (NOTICE, caption))), fill=_WARNING)
    return np.asarray(sheet)


def _fitting(draw: ImageDraw.ImageDraw, text: str, width: int) -> str:
    """Returns the text, cut where its column ends; `width` is in pixels."""
    while len(text) > 1 and draw.textlength(text) > width:
        text = text[:-1]
    return text

"""Draws one plane: the image cropped to the body, the contours over it, a number at each.

Planes are shown as radiologists see them: the patient's right is on the left of axial and coronal planes, anterior on
the left of sagittal ones (PS3.3 C.7.6.1.1.1). Axes (S, A, R) grow to superior, anterior, right.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import highdicom
import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from dicom_node.masks.body import body
from dicom_node.masks.packed import Mask
from dicom_node.picture.lettering import font
from dicom_node.picture.planes import AXIAL, Pictured, Rgb, Survey, Voxel

View = tuple[slice, slice]  # of a plane: along the axes that grow to its top and to its left
Area = tuple[float, float, float, float]  # left, top, right, bottom in pixels

NAMES: Final = ("Axial", "Coronal", "Sagittal")
SOFT_TISSUE: Final = (-160.0, 240.0)  # HU: the usual window for soft tissue, level 40, width 400
AIR_SEEN: Final = -500.0  # an image with values below holds HU
ROUND_MM: Final = 10.0  # shown around the body
ROUND_PART: Final = 0.6  # of the length of what was found, shown above and below it
LEAST_LENGTH_MM: Final = 240.0  # of the body along its axis, where there is as much
COARSE_MM: Final = 4.0  # grid on which the body is looked for
FINER: Final = 2  # pixels drawn per pixel and axis, for smooth contours
ROUND_PIXELS: Final = 6  # drawn around a mask, for its lines
FILL: Final = 0.16  # share of a structure's colour inside its contour
HALO: Final = 0.5  # share of black around a contour
OBLIQUE_DEGREES: Final = 10.0  # between a plane and the patient's axes, from which on it is called oblique
NUMBER_PIXELS: Final = 19  # of the numbers at contours
LEGIBLE: Final = 120.0  # luminance, 0 to 255, from which on a text can be read on black

_LETTERS: Final = (("L", "R"), ("P", "A"), ("H", "F"))  # along and against the axes of LPS


@dataclass(frozen=True, eq=False)
class Plane:
    """One plane of the image as it is shown, not drawn yet.

    axis, index: which it is. view: the part that is shown. up, left, normal: unit vectors in LPS. at_mm: its place
    along the normal. size_mm: width and height of what is shown.
    """

    axis: int
    index: int
    view: View
    up: NDArray[np.float64]
    left: NDArray[np.float64]
    normal: NDArray[np.float64]
    at_mm: float
    size_mm: tuple[float, float]

    @property
    def name(self) -> str:
        """Which of the three it is, and whether it is oblique."""
        turned = np.degrees(np.arccos(np.clip(np.abs(self.normal).max(), -1, 1)))
        return NAMES[self.axis] + (" oblique" if turned > OBLIQUE_DEGREES else "")

    @property
    def place(self) -> str:
        """Where it lies along its normal from the patient origin, as in "H 23.5 mm"."""
        towards = self.normal if self.at_mm >= 0 else -self.normal
        return f"{letters(towards)} {abs(self.at_mm):.1f} mm"


def letters(direction: NDArray[np.float64]) -> str:
    """Returns where a direction in LPS leads, as in "L", "AH": the nearest axis first, others if within 70 degrees."""
    unit = direction / np.linalg.norm(direction)
    order = np.argsort(-np.abs(unit), kind="stable")
    return "".join(_LETTERS[axis][int(unit[axis] < 0)] for axis in order if abs(unit[axis]) > np.cos(np.radians(70)))


class Drawing:
    """An image, its structures and its body: draws any plane at any size, cropped to the body in it.

    image: float32 (S, A, R) with its LPS affine.
    """

    def __init__(
        self, image: highdicom.Volume, structures: Sequence[Pictured], surveyed: Survey, *, ct: bool = True
    ) -> None:
        self._image, self._structures, self._surveyed = image, structures, surveyed
        self.hounsfield = ct and bool(image.array.min() < AIR_SEEN)
        self._along = _along(image, surveyed.extent(AXIAL))
        self._steps = [max(1, int(COARSE_MM // side)) for side in image.spacing]
        affine = image.affine.copy()
        affine[:3, :3] *= self._steps
        coarse = np.ascontiguousarray(image.array[tuple(slice(None, None, step) for step in self._steps)])
        self._body = body(coarse, affine, hounsfield=self.hounsfield)
        part = coarse[self._body] if self._body.any() else coarse
        self.window = (
            SOFT_TISSUE if self.hounsfield else (float(np.percentile(part, 1)), float(np.percentile(part, 99)))
        )

    def plane(self, axis: int, index: int) -> Plane:
        """Returns the plane at an index of an axis."""
        up, left = _others(axis)
        steps = self._image.affine[:3, :3] / np.linalg.norm(self._image.affine[:3, :3], axis=0)
        middle = [(size - 1) / 2 for size in self._image.spatial_shape]
        middle[axis] = index
        centre = self._image.affine[:3, :3] @ middle + self._image.affine[:3, 3]
        normal = np.cross(steps[:, up], steps[:, left])
        normal *= np.sign(normal @ steps[:, axis]) / np.linalg.norm(normal)
        view = self._view(axis, index)
        width, height = (
            float((part.stop - part.start) * self._image.spacing[one])
            for part, one in zip(reversed(view), (left, up), strict=True)
        )
        at_mm = float(centre @ normal)
        return Plane(axis, index, view, steps[:, up], steps[:, left], normal, at_mm, (width, height))

    def draw(self, plane: Plane, cuts: Sequence[Mask], size: tuple[int, int]) -> Image.Image:
        """Draws a plane in `size` pixels (width, height); `cuts` are the planes of the masks, one per structure."""
        low, high = self.window
        up, left = plane.view
        values = self._image.array.take(plane.index, plane.axis)[up, left]
        grey = np.clip((values - low) / max(high - low, 1e-6), 0, 1) * 255
        canvas = _turned(grey.astype(np.uint8)).resize(size, Image.Resampling.BICUBIC).convert("RGB")
        shown = [cut[up, left] for cut in cuts]
        for one, cut in zip(self._structures, shown, strict=True):
            if cut.any():
                contour(canvas, cut, one.colour, filled=one.filled)
        numbered = [place for place, one in enumerate(self._structures) if one.filled and one.number]
        number(
            canvas,
            [shown[place] for place in numbered],
            [str(self._structures[place].number) for place in numbered],
            [self._structures[place].colour for place in numbered],
        )
        return canvas

    def traces(self, plane: Plane, shown: Voxel) -> tuple[float, float]:
        """Returns where the two other planes through `shown` cross this one, as parts of its width and height."""
        up, left = _others(plane.axis)
        rows, columns = plane.view
        return (
            (columns.stop - 0.5 - shown[left]) / (columns.stop - columns.start),
            (rows.stop - 0.5 - shown[up]) / (rows.stop - rows.start),
        )

    def _view(self, axis: int, index: int) -> View:
        """Returns the part of a plane that is shown: the body in it, along its axis around what was found."""
        up, left = _others(axis)
        limits = [slice(0, size) for size in self._image.spatial_shape]
        limits[AXIAL] = self._along
        there = self._body.take(min(index // self._steps[axis], self._body.shape[axis] - 1), axis)
        parts = []
        for one, other in ((up, 1), (left, 0)):
            within = there if axis == AXIAL or one == AXIAL else there[self._coarse_along()]
            held = np.flatnonzero(within.any(axis=other))
            part = slice(int(held[0]) * self._steps[one], (int(held[-1]) + 1) * self._steps[one]) if len(held) else None
            part = _joined(part, self._surveyed.extent(one, (axis, index))) or limits[one]
            side, size = self._image.spacing[one], self._image.spatial_shape[one]
            part = _widened(part, ROUND_MM / side, size)
            start, stop = max(part.start, limits[one].start), min(part.stop, limits[one].stop)
            parts.append(slice(start, stop) if stop > start else limits[one])
        return parts[0], parts[1]

    def _coarse_along(self) -> slice:
        step = self._steps[AXIAL]
        return slice(self._along.start // step, max(self._along.stop // step, self._along.start // step + 1))


def _others(axis: int) -> tuple[int, int]:
    """Returns the axes that grow to the top and to the left of a plane."""
    up, left = (other for other in range(3) if other != axis)
    return up, left


def _along(image: highdicom.Volume, found: slice | None) -> slice:
    """Returns the part of the body's axis that is shown: what was found, with more of the body around it."""
    size, side = image.spatial_shape[AXIAL], image.spacing[AXIAL]
    if found is None:
        return slice(0, size)
    length = (found.stop - found.start) * side
    more = max(ROUND_PART * length, (LEAST_LENGTH_MM - length) / 2, ROUND_MM)
    return _widened(found, more / side, size)


def _joined(one: slice | None, other: slice | None) -> slice | None:
    if one is None or other is None:
        return one or other
    return slice(min(one.start, other.start), max(one.stop, other.stop))


def _widened(part: slice, by: float, size: int) -> slice:
    """Returns a range with `by` more voxels on both sides, cut to the axis."""
    return slice(max(0, int(part.start - by)), min(size, int(np.ceil(part.stop + by))))


def _turned(plane: NDArray[Any]) -> Image.Image:
    """Returns a plane with its axes growing to the top and to the left."""
    return Image.fromarray(np.ascontiguousarray(plane[::-1, ::-1]))


def contour(canvas: Image.Image, cut: Mask, colour: Rgb, *, filled: bool) -> None:
    """Draws a mask on a picture of its plane: a tint inside, its contour, and a dark line around, for bright bone.

    cut: bool, one element per voxel of the plane; the picture is stretched over it. The contour lies where the mask,
    interpolated between the centres of its voxels, is one half.
    """
    high, wide = cut.shape
    turned = cut[::-1, ::-1]
    rows, columns = np.flatnonzero(turned.any(axis=1)), np.flatnonzero(turned.any(axis=0))
    across, down = canvas.width / wide, canvas.height / high
    place = (
        max(0, int((columns[0] - 1) * across) - ROUND_PIXELS),
        max(0, int((rows[0] - 1) * down) - ROUND_PIXELS),
        min(canvas.width, int((columns[-1] + 2) * across) + ROUND_PIXELS),
        min(canvas.height, int((rows[-1] + 2) * down) + ROUND_PIXELS),
    )
    size = (place[2] - place[0], place[3] - place[1])
    box = (place[0] / across, place[1] / down, min(place[2] / across, wide), min(place[3] / down, high))
    fine = Image.fromarray(np.where(turned, 255, 0).astype(np.uint8)).resize(
        (size[0] * FINER, size[1] * FINER), Image.Resampling.BILINEAR, box
    )
    inside = np.asarray(fine) >= 128
    outer, inner = _grown(inside, 1), ~_grown(~inside, FINER + 1)
    halo = _grown(outer, FINER) & ~outer
    for what, where, strength in (
        (colour, inside, FILL if filled else 0),
        ((0, 0, 0), halo, HALO),
        (colour, outer & ~inner, 1),
    ):
        share = Image.fromarray(np.where(where, np.uint8(round(255 * strength)), np.uint8(0)))
        canvas.paste(what, place, share.resize(size, Image.Resampling.BOX))


def _grown(mask: Mask, by: int) -> Mask:
    """Returns a plane bool grown by so many pixels in a square; beyond the picture it goes on as at its edge."""
    for axis in range(2):
        padded = np.pad(mask, [(by, by) if one == axis else (0, 0) for one in range(2)], "edge")
        size = mask.shape[axis]
        parts = [padded.take(range(start, start + size), axis) for start in range(2 * by + 1)]
        mask = np.logical_or.reduce(parts)
    return mask


def number(canvas: Image.Image, cuts: Sequence[Mask], texts: Sequence[str], colours: Sequence[Rgb]) -> None:
    """Writes a text at each mask of a plane: in its middle where it fits, else beside it; none where there is no room.

    cuts: bool, one element per voxel of the plane; the picture is stretched over them. Larger masks go first, each
    where no smaller one lies in it, if there is room. A digit's width is kept between texts, for 1 and 4 are not 14.
    """
    draw, typeface = ImageDraw.Draw(canvas), font(NUMBER_PIXELS, "semibold")
    apart = typeface.getlength("0")
    taken: list[Area] = []
    order = sorted((place for place, cut in enumerate(cuts) if cut.any()), key=lambda place: -int(cuts[place].sum()))
    for turn, place in enumerate(order):
        half = typeface.getlength(texts[place]) / 2 + 2, NUMBER_PIXELS * 0.42
        own = cuts[place] & ~np.any([cuts[smaller] for smaller in order[turn + 1 :]], axis=0)
        alone = _places(own, canvas.size, half)[:-_BESIDE] if own.any() else []
        for x, y in (*alone, *_places(cuts[place], canvas.size, half)):
            area = (x - half[0], y - half[1], x + half[0], y + half[1])
            if _inside(area, canvas.size) and not any(_meets(area, other) for other in taken):
                taken.append((area[0] - apart, area[1], area[2] + apart, area[3]))
                draw.text(
                    (x, y),
                    texts[place],
                    fill=_legible(colours[place]),
                    font=typeface,
                    anchor="mm",
                    stroke_width=2,
                    stroke_fill=(0, 0, 0),
                )
                break


_BESIDE: Final = 8  # places around a mask


def _places(cut: Mask, size: tuple[int, int], half: tuple[float, float]) -> list[tuple[float, float]]:
    """Returns where a text of this half width and height may stand, the best first: inside a mask, then around it.

    Inside is where the mask is thickest. Places are (x, y) in pixels of the picture.
    """
    across, down = size[0] / cut.shape[1], size[1] / cut.shape[0]
    turned = np.pad(cut[::-1, ::-1], 1)
    image = sitk.GetImageFromArray(turned.astype(np.uint8))
    image.SetSpacing((across, down))
    depths = sitk.GetArrayFromImage(sitk.SignedMaurerDistanceMap(image, True, False, True))
    row, column = (int(one) for one in np.unravel_index(int(depths.argmax()), depths.shape))
    x, y = (column - 0.5) * across, (row - 0.5) * down
    left, right = (edge * across for edge in _run(turned[row], column))
    top, bottom = (edge * down for edge in _run(turned[:, column], row))
    beside = [
        (right + half[0] + 4, y),
        (left - half[0] - 4, y),
        (x, top - half[1] - 4),
        (x, bottom + half[1] + 4),
        (right + half[0], top - half[1]),
        (left - half[0], top - half[1]),
        (right + half[0], bottom + half[1]),
        (left - half[0], bottom + half[1]),
    ]
    fits = float(depths.max()) + min(across, down) / 2 >= 0.9 * max(half)
    return [(x, y), *beside] if fits else beside


def _run(line: NDArray[np.bool_], at: int) -> tuple[int, int]:
    """Returns the edges of the run of voxels around `at`, counted without the voxel of padding."""
    outside = np.flatnonzero(~line)
    behind = int(np.searchsorted(outside, at))
    return int(outside[behind - 1]), int(outside[behind]) - 1


def _legible(colour: Rgb) -> Rgb:
    """Returns a colour that can be read on black: a dark one is mixed with white."""
    if luminance(colour) >= LEGIBLE:
        return colour
    red, green, blue = (round(part + 0.55 * (255 - part)) for part in colour)
    return red, green, blue


def luminance(colour: Rgb) -> float:
    """Returns how bright a colour is, 0 to 255 (ITU-R BT.601)."""
    red, green, blue = colour
    return 0.299 * red + 0.587 * green + 0.114 * blue


def _inside(area: Area, size: tuple[int, int]) -> bool:
    return area[0] >= 0 and area[1] >= 0 and area[2] <= size[0] and area[3] <= size[1]


def _meets(one: Area, other: Area) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]

"""Lays out a row of panels: each has a title, the plane in the middle, letters around it and a scale below.

A panel keeps room of its own for letters and title around the image, so that none lies on another or on the image,
whatever the shape of the volume.
"""

from collections.abc import Sequence
from typing import Final

from PIL import Image, ImageDraw

from dicom_node.masks.packed import Mask
from dicom_node.picture.drawing import Drawing, Plane, letters
from dicom_node.picture.lettering import font, width, write
from dicom_node.picture.planes import Voxel

WIDTH: Final = 1600  # pixels of the sheet
MARGIN: Final = 36
GAP: Final = 16  # between panels
INSET: Final = 30  # room for letters on each side of an image
TITLE_HEIGHT: Final = 44  # of a panel
MOST_HEIGHT: Final = 620  # of an image
LEAST_HEIGHT: Final = 200
ASPECTS: Final = (0.5, 2.1)  # width by height of a panel's image; a longer or flatter one is centred in it

GROUND: Final = (16, 20, 26)
PANEL: Final = (0, 0, 0)
RULE: Final = (52, 60, 72)
TEXT: Final = (240, 243, 247)
DIM: Final = (158, 168, 182)
LETTER: Final = (120, 205, 235)
TRACE: Final = (96, 140, 160)
WARNING: Final = (255, 190, 70)


def blank(height: int) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    """Returns an empty part of the sheet, and what draws on it."""
    part = Image.new("RGB", (WIDTH, height), GROUND)
    return part, ImageDraw.Draw(part)


def row(drawing: Drawing, planes: Sequence[Plane], taken: Sequence[Sequence[Mask]], shown: Voxel | None) -> Image.Image:
    """Returns panels of one height side by side, as wide as the sheet; `shown`: where the three planes cross."""
    low, high = ASPECTS
    aspects = [min(max(plane.size_mm[0] / plane.size_mm[1], low), high) for plane in planes]
    room = WIDTH - 2 * MARGIN - GAP * (len(planes) - 1) - 2 * INSET * len(planes)
    most = MOST_HEIGHT if shown is not None else MOST_HEIGHT // 2
    height = round(min(max(room / sum(aspects), LEAST_HEIGHT), most))
    widths = [int(room * aspect / sum(aspects)) for aspect in aspects]
    if shown is None:  # further levels keep their own width
        widths = [min(one, round(height * aspect)) for one, aspect in zip(widths, aspects, strict=True)]
    part, draw = blank(height + TITLE_HEIGHT + 2 * INSET + GAP)
    left = MARGIN
    for plane, masks, wide in zip(planes, taken, widths, strict=True):
        draw.rounded_rectangle(
            (left, 0, left + wide + 2 * INSET, part.height - GAP), radius=8, fill=PANEL, outline=RULE
        )
        _panel(part, (left, 0), (wide, height), drawing, plane, masks, shown)
        left += wide + 2 * INSET + GAP
    return part


def _panel(
    part: Image.Image,
    corner: tuple[int, int],
    room: tuple[int, int],
    drawing: Drawing,
    plane: Plane,
    masks: Sequence[Mask],
    shown: Voxel | None,
) -> None:
    """Draws one panel: title and place, the image in the middle of its room, letters around it, a scale below."""
    draw = ImageDraw.Draw(part)
    wide, high = plane.size_mm
    scale = min(room[0] / wide, room[1] / high)
    size = max(1, round(wide * scale)), max(1, round(high * scale))
    left = corner[0] + INSET + (room[0] - size[0]) // 2
    top = corner[1] + TITLE_HEIGHT + INSET + (room[1] - size[1]) // 2
    part.paste(drawing.draw(plane, masks, size), (left, top))
    if shown is not None:
        _traces(draw, (left, top), size, drawing.traces(plane, shown))
    _titled(draw, corner, room[0] + 2 * INSET, plane)
    around = font(22, "semibold")
    middle = left + size[0] / 2, top + size[1] / 2
    bottom = corner[1] + TITLE_HEIGHT + INSET + room[1]
    for text, place in (
        (letters(plane.up), (middle[0], corner[1] + TITLE_HEIGHT + INSET / 2 - 2)),
        (letters(-plane.up), (middle[0], bottom + INSET / 2)),
        (letters(plane.left), (corner[0] + INSET / 2, middle[1])),
        (letters(-plane.left), (corner[0] + room[0] + 1.5 * INSET, middle[1])),
    ):
        write(draw, place, text, around, LETTER, "mm")
    _scale(draw, (corner[0] + 14, bottom + INSET / 2), room[0] / 2 - 40, scale)


def _titled(draw: ImageDraw.ImageDraw, corner: tuple[int, int], wide: int, plane: Plane) -> None:
    """Writes the plane's name and its place."""
    name, place = font(22, "semibold"), font(22)
    baseline = corner[1] + 32
    write(draw, (corner[0] + 14, baseline), plane.name, name, TEXT)
    if width(plane.name, name) + width(plane.place, place) + 40 <= wide:
        write(draw, (corner[0] + wide - 14, baseline), plane.place, place, DIM, "rs")


def _traces(
    draw: ImageDraw.ImageDraw, corner: tuple[int, int], size: tuple[int, int], where: tuple[float, float]
) -> None:
    """Marks at the edges of an image where the two other planes cross it."""
    x, y = corner[0] + where[0] * size[0], corner[1] + where[1] * size[1]
    right, bottom, long = corner[0] + size[0], corner[1] + size[1], 12
    for line in (
        (x, corner[1], x, corner[1] + long),
        (x, bottom - long, x, bottom),
        (corner[0], y, corner[0] + long, y),
        (right - long, y, right, y),
    ):
        draw.line(line, fill=TRACE, width=2)


def _scale(draw: ImageDraw.ImageDraw, place: tuple[float, float], most: float, scale: float) -> None:
    """Draws a bar of a round length, `most` pixels at most with its words; none where there is no room."""
    small = font(18)
    for mm in (100, 50, 20, 10, 5):
        text = f"{mm // 10} cm" if mm >= 10 else f"{mm} mm"
        long = mm * scale
        if long + 8 + width(text, small) <= most and long <= 140:
            x, y = place
            draw.line((x, y, x + long, y), fill=DIM, width=2)
            for end in (x, x + long):
                draw.line((end, y - 5, end, y + 5), fill=DIM, width=2)
            write(draw, (x + long + 8, y), text, small, DIM, "lm")
            return

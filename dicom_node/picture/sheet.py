"""Lays out the sheet: header, three planes, further axial levels where these show not everything, legend, footer.

Every panel keeps room of its own for letters and title around the image, so that none lies on another or on the image,
whatever the shape of the volume. The width of the sheet is fixed, its height grows with what is to be said.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import highdicom
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from dicom_node.masks.packed import Mask
from dicom_node.picture.drawing import Drawing, luminance
from dicom_node.picture.lettering import fitting, font, width, wrapped, write
from dicom_node.picture.panels import DIM, GROUND, MARGIN, RULE, TEXT, WARNING, WIDTH, blank, row
from dicom_node.picture.planes import AXIAL, Pictured, Survey, best_planes, cuts, hidden, more_levels, survey

NOTICE: Final = "NOT FOR DIAGNOSIS · UNAPPROVED"
LEVELS: Final = 4  # further axial planes, where the three do not show everything
LEGEND_ROW: Final = 42
CHIP: Final = 30  # side of the square with a structure's colour
COLUMNS: Final = 4  # of the legend, at most
COLUMN_GAP: Final = 56
LINES: Final = 3  # of each paragraph below the legend


@dataclass(frozen=True)
class Words:
    """What the sheet says besides the structures. heading: whose image, and when. model, protocol: what made it.

    notes: sentences on what is not shown, such as what was not found. reviews: reasons why a person should look at it.
    """

    heading: str = ""
    model: str = ""
    notes: Sequence[str] = ()
    reviews: Sequence[str] = ()


def picture(
    image: highdicom.Volume,
    masks: Sequence[Mask],
    structures: Sequence[Pictured],
    words: Words = Words(),
    *,
    ct: bool = True,
) -> NDArray[np.uint8]:
    """Returns the sheet: uint8 (rows, columns, RGB), `WIDTH` columns.

    Args:
        image: float32 (S, A, R) with its LPS affine. HU for CT; other values are shown between the 1st and 99th
            percentile.
        masks: bool (S, A, R) each; one at a time is held.
        structures: one per mask. One whose mask is empty is left out.
        words: whose image it is, what made the masks, and what else is to be said.
        ct: whether the values can be HU. Phase images of MR have negative values, too.
    """
    surveyed = survey(image, masks)
    structures = _numbered(structures, surveyed)
    drawing = Drawing(image, structures, surveyed, ct=ct)
    shown = best_planes(surveyed, structures)
    levels = more_levels(surveyed, shown, LEVELS)
    places = [(axis, shown[axis]) for axis in range(3)] + [(AXIAL, level) for level in levels]
    taken = cuts(masks, places)
    planes = [drawing.plane(*place) for place in places]
    parts: list[Image.Image | None] = [_header(words), row(drawing, planes[:3], taken[:3], shown)]
    if levels:
        parts.append(row(drawing, planes[3:], taken[3:], None))
    parts += [
        _legend(structures, surveyed, hidden(surveyed, shown, levels)),
        _paragraphs(words),
        _footer(drawing, words),
    ]
    return np.asarray(_stacked([part for part in parts if part is not None]))


def _numbered(structures: Sequence[Pictured], surveyed: Survey) -> list[Pictured]:
    """Returns the structures with the numbers of those that were found; a single one needs none."""
    found = [place for place, ml in enumerate(surveyed.volumes_ml) if ml]
    numbers = {place: number for number, place in enumerate(found, start=1)} if len(found) > 1 else {}
    return [replace(one, number=numbers.get(place, 0)) for place, one in enumerate(structures)]


def _stacked(parts: Sequence[Image.Image]) -> Image.Image:
    """Returns the parts one below the other."""
    sheet = Image.new("RGB", (WIDTH, sum(part.height for part in parts)), GROUND)
    top = 0
    for part in parts:
        sheet.paste(part, (0, top))
        top += part.height
    return sheet


def _header(words: Words) -> Image.Image:
    """Returns the title with whose image it is, and the notice."""
    part, draw = blank(112)
    badge = font(22, "semibold")
    room = width(NOTICE, badge) + 40
    left = WIDTH - MARGIN - room
    draw.rounded_rectangle((left, 30, WIDTH - MARGIN, 78), radius=8, outline=WARNING, width=2)
    write(draw, (left + room / 2, 54), NOTICE, badge, WARNING, "mm")
    most = left - 2 * MARGIN
    write(draw, (MARGIN, 52), "Automatic contours", font(34, "semibold"), TEXT)
    write(draw, (MARGIN, 88), fitting(words.heading, font(24), most), font(24), DIM)
    return part


def _legend(structures: Sequence[Pictured], surveyed: Survey, unseen: Sequence[int]) -> Image.Image:
    """Returns number, colour, name and volume of every structure that was found, in columns read from top to bottom."""
    found = [place for place, ml in enumerate(surveyed.volumes_ml) if ml]
    if not found:
        part, draw = blank(LEGEND_ROW + 24)
        write(draw, (MARGIN, 38), "No structure was found.", font(24, "semibold"), TEXT)
        return part
    name = font(24)
    labels = {place: structures[place].label + (" (not shown)" if place in unseen else "") for place in found}
    volumes = {place: _volume(surveyed.volumes_ml[place]) for place in found}
    figures = max(width(text, name) for text in volumes.values())
    needed = CHIP + 14 + max(width(text, name) for text in labels.values()) + 24 + figures
    room = WIDTH - 2 * MARGIN
    columns = max(1, min(COLUMNS, (room + COLUMN_GAP) // (needed + COLUMN_GAP)))
    rows = -(-len(found) // columns)
    step = (room + COLUMN_GAP) / columns
    wide = min(step - COLUMN_GAP, max(needed, (room + COLUMN_GAP) / COLUMNS - COLUMN_GAP))
    part, draw = blank(rows * LEGEND_ROW + 24)
    for place, index in enumerate(found):
        column, line = divmod(place, rows)
        x, y = MARGIN + column * step, 12 + line * LEGEND_ROW + LEGEND_ROW / 2
        _chip(draw, (x, y), structures[index])
        most = round(wide - CHIP - 38 - figures)
        write(draw, (x + CHIP + 14, y), fitting(labels[index], name, most), name, TEXT, "lm")
        write(draw, (x + wide, y), volumes[index], name, DIM, "rm")
    return part


def _chip(draw: ImageDraw.ImageDraw, place: tuple[float, float], one: Pictured) -> None:
    """Draws a structure's colour with its number; `place` is the middle of the left edge."""
    x, y = place
    area = (x, y - CHIP / 2, x + CHIP, y + CHIP / 2)
    draw.rounded_rectangle(area, radius=6, fill=one.colour if one.filled else None, outline=one.colour, width=3)
    if one.number:
        ink = (0, 0, 0) if luminance(one.colour) > 140 and one.filled else (255, 255, 255)
        write(draw, (x + CHIP / 2, y), str(one.number), font(18, "semibold"), ink, "mm")


def _volume(ml: float) -> str:
    """Returns a volume with as many decimals as make sense: "1234 ml", "24.4 ml", "0.08 ml"."""
    if ml < 0.005:
        return "< 0.01 ml"
    return f"{ml:.0f} ml" if ml >= 1000 else f"{ml:.1f} ml" if ml >= 1 else f"{ml:.2f} ml"


def _paragraphs(words: Words) -> Image.Image | None:
    """Returns what was not found and what is to be reviewed, in a few lines each; None where nothing is to be said."""
    small = font(22)
    lines = [(line, DIM) for note in words.notes for line in wrapped(note, small, WIDTH - 2 * MARGIN, LINES)]
    if words.reviews:
        said = "To be reviewed: " + " ".join(words.reviews)
        lines += [(line, WARNING) for line in wrapped(said, small, WIDTH - 2 * MARGIN, LINES)]
    if not lines:
        return None
    part, draw = blank(len(lines) * 32 + 16)
    for place, (line, colour) in enumerate(lines):
        write(draw, (MARGIN, 24 + place * 32), line, small, colour)
    return part


def _footer(drawing: Drawing, words: Words) -> Image.Image:
    """Returns a rule, and below it what made the masks and how the image is shown."""
    part, draw = blank(66)
    draw.line((MARGIN, 8, WIDTH - MARGIN, 8), fill=RULE, width=2)
    small = font(20)
    low, high = drawing.window
    shown = f"Window {high - low:.0f}, level {(high + low) / 2:.0f} HU" if drawing.hounsfield else ""
    room = width(shown, small)
    write(draw, (WIDTH - MARGIN, 42), shown, small, DIM, "rs")
    write(draw, (MARGIN, 42), fitting(words.model, small, WIDTH - 3 * MARGIN - room), small, DIM)
    return part

"""Text on pictures: one typeface in two weights, for Latin, Greek and Cyrillic script.

Inter comes as a package, so that a picture is the same on every machine. A character that it lacks can be asked for
beforehand (`is_drawable`), since boxes in place of a structure's name would be worse than another name.
"""

from bisect import bisect
from functools import cache
from importlib.resources import files
from typing import Final, Literal

from PIL import ImageDraw, ImageFont

Weight = Literal["regular", "semibold"]

_WEIGHTS: Final[dict[Weight, int]] = {"regular": 450, "semibold": 650}
_OPTICAL_SIZES: Final = (14, 32)  # of Inter's axis `opsz`
_LACKING: Final = "\uffff"  # no character, so that every font draws its sign for a missing one


@cache
def font(size: int, weight: Weight = "regular") -> ImageFont.FreeTypeFont:
    """Returns the typeface at `size` pixels."""
    path = files("fontpkg_inter") / "files" / "Inter[opsz,wght].ttf"
    made = ImageFont.truetype(str(path), size, layout_engine=ImageFont.Layout.BASIC)
    least, most = _OPTICAL_SIZES
    made.set_variation_by_axes([min(max(size, least), most), _WEIGHTS[weight]])
    return made


def is_drawable(text: str) -> bool:
    """Returns whether the typeface has every character of a text."""
    return all(_has(character) for character in text)


@cache
def _has(character: str) -> bool:
    """Whether the typeface has a character: it draws another picture than for one that is missing."""
    typeface = font(32)
    drawn, lacking = typeface.getmask(character), typeface.getmask(_LACKING)
    return character.isspace() or (drawn.size, bytes(drawn)) != (lacking.size, bytes(lacking))


def width(text: str, typeface: ImageFont.FreeTypeFont) -> int:
    """Returns the width of a line of text in pixels."""
    return round(typeface.getlength(text))


def fitting(text: str, typeface: ImageFont.FreeTypeFont, most: int) -> str:
    """Returns the text, ended by an ellipsis where it is wider than `most` pixels."""
    if width(text, typeface) <= most:
        return text
    kept = bisect(range(len(text)), most, key=lambda length: width(text[: length + 1] + "…", typeface))
    return text[:kept].rstrip() + "…"


def wrapped(text: str, typeface: ImageFont.FreeTypeFont, most: int, lines: int) -> list[str]:
    """Returns the text in at most so many lines of `most` pixels, broken between words; what is too long is ended."""
    rows: list[str] = []
    words = text.split()
    while words and len(rows) < lines - 1:
        row = words.pop(0)
        while words and width(f"{row} {words[0]}", typeface) <= most:
            row = f"{row} {words.pop(0)}"
        rows.append(fitting(row, typeface, most))
    return [*rows, fitting(" ".join(words), typeface, most)] if words else rows


def write(
    draw: ImageDraw.ImageDraw,
    place: tuple[float, float],
    text: str,
    typeface: ImageFont.FreeTypeFont,
    colour: tuple[int, int, int],
    anchor: str = "ls",
) -> None:
    """Writes a line of text; `place` is its baseline's start unless `anchor` says otherwise (as Pillow's anchors)."""
    draw.text(place, text, fill=colour, font=typeface, anchor=anchor)

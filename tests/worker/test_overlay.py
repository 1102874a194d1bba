"""The overlay shows what is where: planes as radiologists see them, colours of the right size, and the notice."""

import numpy as np
import pytest
from PIL import Image

from worker.overlay import LEGEND_HEIGHT, MARGIN, PIXEL_MM, overlay

RED, GREEN = (250, 20, 20), (20, 250, 20)
SHAPE, SPACING = (20, 30, 40), (3.0, 1.5, 1.5)  # S, A, R: 60 mm high, 45 mm deep, 60 mm wide
HIGH, DEEP, WIDE = (round(size * mm / PIXEL_MM) for size, mm in zip(SHAPE, SPACING, strict=True))
PLANES = {  # left edge, width and height in pixels: axial, coronal, sagittal, all of them hanging from the top margin
    "axial": (MARGIN, WIDE, DEEP),
    "coronal": (2 * MARGIN + WIDE, WIDE, HIGH),
    "sagittal": (3 * MARGIN + 2 * WIDE, DEEP, HIGH),
}


def drawn(tmp_path, *masks, colours=(RED, GREEN), image=None):
    image = np.full(SHAPE, -1000, np.float32) if image is None else image
    stacked = np.stack(masks) if masks else np.zeros((0, *SHAPE), bool)
    labels = [f"region {number}" for number in range(len(masks))]
    overlay(image, stacked, SPACING, labels, colours[: len(masks)], tmp_path / "overlay.png")
    return np.asarray(Image.open(tmp_path / "overlay.png"))


def box(superior, anterior, right):
    """The voxels in these ranges of the three axes."""
    mask = np.zeros(SHAPE, bool)
    mask[slice(*superior), slice(*anterior), slice(*right)] = True
    return mask


def centre(sheet, plane, colour):
    """Where the middle of a colour's pixels lies in a plane, as parts of its width and height; None if it has none."""
    left, width, height = PLANES[plane]
    part = sheet[MARGIN : MARGIN + height, left : left + width]
    rows, columns = np.nonzero((part == colour).all(axis=-1))
    return (columns.mean() / width, rows.mean() / height) if len(rows) else None


@pytest.mark.parametrize("flip", range(8))
def test_right_is_on_the_left_anterior_and_superior_are_on_top(tmp_path, flip):
    """A region in one corner of the patient appears in the corner where a radiologist looks for it."""
    superior, anterior, right = ((flip >> bit) & 1 for bit in range(3))
    corner = box((12, 18) if superior else (2, 8), (20, 28) if anterior else (2, 10), (26, 38) if right else (2, 14))
    sheet = drawn(tmp_path, corner)
    top = {True: lambda part: part < 0.5, False: lambda part: part > 0.5}
    x, y = centre(sheet, "axial", RED)
    assert top[bool(right)](x)
    assert top[bool(anterior)](y)
    x, y = centre(sheet, "coronal", RED)
    assert top[bool(right)](x)
    assert top[bool(superior)](y)
    x, y = centre(sheet, "sagittal", RED)
    assert top[bool(anterior)](x)
    assert top[bool(superior)](y)


def test_the_planes_go_through_what_was_found_even_if_it_lies_far_apart(tmp_path):
    sheet = drawn(tmp_path, box((1, 4), (5, 25), (5, 35)), box((16, 19), (5, 25), (5, 35)))
    assert centre(sheet, "axial", RED) or centre(sheet, "axial", GREEN)
    for plane in ("coronal", "sagittal"):
        assert centre(sheet, plane, RED)
        assert centre(sheet, plane, GREEN)


def test_millimetres_are_drawn_to_scale(tmp_path):
    sheet = drawn(tmp_path, box((5, 15), (5, 25), (10, 30)))
    left, width, height = PLANES["coronal"]
    part = sheet[MARGIN : MARGIN + height, left : left + width]
    rows, columns = np.nonzero((part == RED).all(axis=-1))
    assert np.ptp(rows) + 1 == pytest.approx(30 / PIXEL_MM, abs=1)
    assert np.ptp(columns) + 1 == pytest.approx(30 / PIXEL_MM, abs=1)


def test_the_border_is_drawn_in_colour_and_the_inside_lets_the_image_through(tmp_path):
    image = np.full(SHAPE, -1000, np.float32)
    image[:, :, 20:] = 240  # the right half is white in the soft tissue window
    sheet = drawn(tmp_path, box((5, 15), (5, 25), (10, 30)), image=image)
    left, width, height = PLANES["axial"]
    inside = sheet[MARGIN + height // 2, left + width // 4 + 10 : left + 3 * width // 4 - 10]
    assert (inside[0] > inside[-1]).all()  # right is on the left
    assert not (inside == RED).all(axis=-1).any()


def test_nothing_found_still_gives_a_picture_with_the_notice(tmp_path):
    for masks in ((), (np.zeros(SHAPE, bool),)):
        sheet = drawn(tmp_path, *masks)
        assert sheet.shape[2] == 3
        assert sheet[-LEGEND_HEIGHT:].max() > 200


def test_an_image_without_air_is_shown_in_its_own_range(tmp_path):
    image = np.linspace(0, 4, np.prod(SHAPE), dtype=np.float32).reshape(SHAPE)
    sheet = drawn(tmp_path, image=image)
    left, width, height = PLANES["coronal"]
    part = sheet[MARGIN : MARGIN + height, left : left + width]
    assert part[:5].mean() > 200
    assert part[-5:].mean() < 50

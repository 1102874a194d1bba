"""The picture shows what is where: planes as radiologists see them, colours of the right size, and the notice."""

import highdicom
import numpy as np
import pytest

from dicom_node.masks.picture import LEGEND_HEIGHT, LONGEST, MARGIN, PIXEL_MM, letters, picture
from tests.support.images import affine_of, rotation

RED, GREEN = (250, 20, 20), (20, 250, 20)
SHAPE, SPACING = (20, 30, 40), (3.0, 1.5, 1.5)  # S, A, R: 60 mm high, 45 mm deep, 60 mm wide
HIGH, DEEP, WIDE = (round(size * mm / PIXEL_MM) for size, mm in zip(SHAPE, SPACING, strict=True))
PLANES = {  # left edge, width and height in pixels: axial, coronal, sagittal, all of them hanging from the top margin
    "axial": (MARGIN, WIDE, DEEP),
    "coronal": (2 * MARGIN + WIDE, WIDE, HIGH),
    "sagittal": (3 * MARGIN + 2 * WIDE, DEEP, HIGH),
}


SAR = np.array([[0.0, 0.0, -1.0], [0.0, -1.0, 0.0], [1.0, 0.0, 0.0]])  # superior, anterior, right in LPS


def drawn(*masks, colours=(RED, GREEN), image=None, spacing=SPACING, labels=None, caption="", directions=SAR):
    image = np.full(SHAPE, -1000, np.float32) if image is None else image
    volume = highdicom.Volume(image, affine_of(directions, spacing, (0, 0, 0)), "PATIENT")
    labels = labels or [f"region {number}" for number in range(len(masks))]
    return picture(volume, masks, labels, colours[: len(masks)], caption)


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
def test_right_is_on_the_left_anterior_and_superior_are_on_top(flip):
    """A region in one corner of the patient appears in the corner where a radiologist looks for it."""
    superior, anterior, right = ((flip >> bit) & 1 for bit in range(3))
    corner = box((12, 18) if superior else (2, 8), (20, 28) if anterior else (2, 10), (26, 38) if right else (2, 14))
    sheet = drawn(corner)
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


def test_the_planes_go_through_what_was_found_even_if_it_lies_far_apart():
    sheet = drawn(box((1, 4), (5, 25), (5, 35)), box((16, 19), (5, 25), (5, 35)))
    assert centre(sheet, "axial", RED) or centre(sheet, "axial", GREEN)
    for plane in ("coronal", "sagittal"):
        assert centre(sheet, plane, RED)
        assert centre(sheet, plane, GREEN)


def test_millimetres_are_drawn_to_scale():
    sheet = drawn(box((5, 15), (5, 25), (10, 30)))
    left, width, height = PLANES["coronal"]
    part = sheet[MARGIN : MARGIN + height, left : left + width]
    rows, columns = np.nonzero((part == RED).all(axis=-1))
    assert np.ptp(rows) + 1 == pytest.approx(30 / PIXEL_MM, abs=1)
    assert np.ptp(columns) + 1 == pytest.approx(30 / PIXEL_MM, abs=1)


def test_the_border_is_drawn_in_colour_and_the_inside_lets_the_image_through():
    image = np.full(SHAPE, -1000, np.float32)
    image[:, :, 20:] = 240  # the right half is white in the soft tissue window
    sheet = drawn(box((5, 15), (5, 25), (10, 30)), image=image)
    left, width, height = PLANES["axial"]
    inside = sheet[MARGIN + height // 2, left + width // 4 + 10 : left + 3 * width // 4 - 10]
    assert (inside[0] > inside[-1]).all()  # right is on the left
    assert not (inside == RED).all(axis=-1).any()


def test_nothing_found_still_gives_a_picture_with_the_notice():
    for masks in ((), (np.zeros(SHAPE, bool),)):
        sheet = drawn(*masks)
        assert sheet.shape[2] == 3
        assert sheet[-LEGEND_HEIGHT:].max() > 200


def test_an_image_without_air_is_shown_in_its_own_range():
    image = np.linspace(0, 4, np.prod(SHAPE), dtype=np.float32).reshape(SHAPE)
    sheet = drawn(image=image)
    left, width, height = PLANES["coronal"]
    part = sheet[MARGIN : MARGIN + height, left : left + width]
    assert part[:5].mean() > 200
    assert part[-5:].mean() < 50


def test_letters_say_where_the_patient_lies():
    assert [letters(SAR[:, axis]) for axis in range(3)] == ["H", "A", "R"]
    assert [letters(-SAR[:, axis]) for axis in range(3)] == ["F", "P", "L"]
    turned = rotation(0, 0, 30) @ SAR
    assert (letters(turned[:, 0]), letters(turned[:, 1])) == ("H", "AL")
    plain, tilted = drawn(), drawn(directions=turned)
    assert not np.array_equal(plain, tilted)


def test_long_volumes_are_shown_in_larger_pixels_and_keep_their_proportions():
    shape, spacing = (400, 20, 40), (5.0, 10.0, 10.0)
    mask = np.zeros(shape, bool)
    mask[100:300, 5:15, 10:30] = True
    image = np.full(shape, -1000, np.float32)
    sheet = drawn(mask, image=image, spacing=spacing)
    assert LONGEST < sheet.shape[0] < LONGEST + 4 * MARGIN + 3 * LEGEND_HEIGHT
    left = 2 * MARGIN + round(400 * LONGEST / 2000)
    part = sheet[MARGIN : MARGIN + LONGEST, left : left + round(400 * LONGEST / 2000)]
    rows, columns = np.nonzero((part == RED).all(axis=-1))
    assert (np.ptp(rows) + 1) / (np.ptp(columns) + 1) == pytest.approx(5, rel=0.05)


def test_names_of_any_length_and_script_and_a_caption_are_written():
    mask = box((5, 15), (5, 25), (10, 30))
    short = drawn(mask, labels=["liver"])
    long = drawn(mask, labels=["肝臓 " * 30], caption="PHANTOM, 20260101")
    assert short.shape == long.shape
    assert not np.array_equal(short[-LEGEND_HEIGHT:], long[-LEGEND_HEIGHT:])

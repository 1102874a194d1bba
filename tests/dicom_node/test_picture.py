"""The picture shows what is where: planes as radiologists see them, nothing on top of anything, and the notice."""

from itertools import combinations

import highdicom
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from dicom_node.masks.packed import bounding_box
from dicom_node.picture import panels, sheet
from dicom_node.picture.drawing import NUMBER_PIXELS, Drawing, _legible, letters, luminance, number
from dicom_node.picture.lettering import fitting, font, is_drawable, width, wrapped
from dicom_node.picture.panels import INSET, MARGIN, TITLE_HEIGHT, WIDTH
from dicom_node.picture.planes import Pictured, best_planes, cuts, hidden, more_levels, survey
from dicom_node.picture.sheet import LEVELS, NOTICE, Words, picture
from tests.support.examples import examples
from tests.support.images import affine_of, rotation

RED, GREEN = (250, 20, 20), (20, 250, 20)
SHAPE, SPACING = (20, 30, 40), (3.0, 1.5, 1.5)  # S, A, R: 60 mm high, 45 mm deep, 60 mm wide
SAR = np.array([[0.0, 0.0, -1.0], [0.0, -1.0, 0.0], [1.0, 0.0, 0.0]])  # superior, anterior, right in LPS


def volume(values: float | np.ndarray = -1000, *, shape=SHAPE, spacing=SPACING, directions=SAR) -> highdicom.Volume:
    image = np.full(shape, values, np.float32) if isinstance(values, int | float) else values
    return highdicom.Volume(image, affine_of(directions, spacing, (0, 0, 0)), "PATIENT")


def box(superior, anterior, right, shape=SHAPE):
    """The voxels in these ranges of the three axes."""
    mask = np.zeros(shape, bool)
    mask[slice(*superior), slice(*anterior), slice(*right)] = True
    return mask


def named(count: int) -> list[Pictured]:
    return [Pictured(f"region {number}", RED if number % 2 else GREEN) for number in range(1, count + 1)]


def drawn(axis: int, *masks, image=None, colours=(RED, GREEN), filled=True) -> np.ndarray:
    """One plane through the middle of the first mask, four pixels per millimetre."""
    image = volume() if image is None else image
    structures = [Pictured("", colour, filled) for colour in colours[: len(masks)]]
    drawing = Drawing(image, structures, survey(image, masks))
    place = bounding_box(masks[0])[axis]
    plane = drawing.plane(axis, (place.start + place.stop) // 2)
    (taken,) = cuts(masks, [(axis, plane.index)])
    size = (round(4 * plane.size_mm[0]), round(4 * plane.size_mm[1]))
    return np.asarray(drawing.draw(plane, taken, size))


def centre(pixels, colour):
    """Where the middle of a colour's pixels lies, as parts of width and height."""
    rows, columns = np.nonzero((pixels == colour).all(axis=-1))
    return columns.mean() / pixels.shape[1], rows.mean() / pixels.shape[0]


@pytest.mark.parametrize("flip", range(8))
def test_right_is_on_the_left_anterior_and_superior_are_on_top(flip):
    """A region in one corner of the patient appears in the corner where a radiologist looks for it."""
    superior, anterior, right = ((flip >> bit) & 1 for bit in range(3))
    corner = box((12, 18) if superior else (2, 8), (20, 28) if anterior else (2, 10), (26, 38) if right else (2, 14))
    first = {True: lambda part: part < 0.5, False: lambda part: part > 0.5}
    x, y = centre(drawn(0, corner), RED)
    assert first[bool(right)](x)
    assert first[bool(anterior)](y)
    x, y = centre(drawn(1, corner), RED)
    assert first[bool(right)](x)
    assert first[bool(superior)](y)
    x, y = centre(drawn(2, corner), RED)
    assert first[bool(anterior)](x)
    assert first[bool(superior)](y)


def test_millimetres_are_drawn_to_scale():
    pixels = drawn(1, box((5, 15), (5, 25), (10, 30)))
    rows, columns = np.nonzero((pixels == RED).all(axis=-1))
    assert np.ptp(rows) + 1 == pytest.approx(30 * 4, abs=3)
    assert np.ptp(columns) + 1 == pytest.approx(30 * 4, abs=3)


def test_the_inside_of_a_contour_lets_the_image_through_and_an_outline_is_not_tinted():
    image = volume(np.where(np.arange(40) >= 20, 240, -1000) * np.ones(SHAPE, np.float32))
    mask = box((5, 15), (5, 25), (10, 30))
    inside = drawn(0, mask, image=image)[60]
    reds = (inside == RED).all(axis=-1)
    assert 2 <= reds.sum() <= 12, "two lines"
    between = inside[np.flatnonzero(reds)[0] + 10 : np.flatnonzero(reds)[-1] - 10]
    assert (between[0] > between[-1]).all(), "right is on the left"
    assert (between[-1][0] > between[-1][1:]).all(), "tinted"
    plain = drawn(0, mask, image=image, filled=False)[60]
    assert len(set(plain[np.flatnonzero(reds)[-1] - 10].tolist())) == 1


def test_a_contour_can_be_seen_on_bone_of_its_own_colour():
    white = (240, 240, 240)
    pixels = drawn(0, box((5, 15), (5, 25), (10, 30)), image=volume(1500), colours=(white,))
    assert pixels.min() < 180, "a dark line around it"


def test_the_image_is_cropped_to_the_body_and_to_what_was_found():
    image = np.full((60, 100, 100), -1000, np.float32)
    image[:, 35:65, 30:70] = 40  # 60 x 80 mm of a body in 200 x 200 mm
    image[:, 20, :] = 100  # a table
    within, beyond = box((20, 40), (40, 60), (40, 60), image.shape), box((20, 40), (40, 60), (80, 90), image.shape)
    for masks, wide in (([within], 80 + 20), ([within, beyond], 30 * 2 + 60 + 20)):
        pictured = volume(image, spacing=(3.0, 2.0, 2.0))
        plane = Drawing(pictured, named(len(masks)), survey(pictured, masks)).plane(0, 30)
        assert plane.size_mm == pytest.approx((wide, 60 + 20), abs=12)


def test_an_image_without_air_is_shown_in_its_own_range():
    values = np.linspace(0, 4, np.prod(SHAPE), dtype=np.float32).reshape(SHAPE)
    low, high = Drawing(volume(values), [], survey(volume(values), [])).window
    assert 0 <= low < 2.5
    assert 3.5 < high <= 4


def test_letters_say_where_the_patient_lies_and_titles_which_plane_it_is():
    assert [letters(SAR[:, axis]) for axis in range(3)] == ["H", "A", "R"]
    assert [letters(-SAR[:, axis]) for axis in range(3)] == ["F", "P", "L"]
    turned = rotation(0, 0, 30) @ SAR
    assert (letters(turned[:, 0]), letters(turned[:, 1])) == ("H", "AL")

    def titles(directions: np.ndarray) -> list[str]:
        image = volume(directions=directions)
        drawing = Drawing(image, [], survey(image, []))
        return [drawing.plane(axis, 10).name for axis in range(3)]

    assert titles(SAR) == ["Axial", "Coronal", "Sagittal"]
    assert titles(turned) == ["Axial", "Coronal oblique", "Sagittal oblique"]


@pytest.mark.parametrize("degrees", [(0, 0, 0), (20, 0, 0), (10, -15, 25)])
def test_the_place_of_a_plane_is_its_distance_from_the_origin_of_the_patient(degrees):
    image = volume(directions=rotation(*degrees) @ SAR)
    drawing = Drawing(image, [], survey(image, []))
    for axis in range(3):
        for index in (0, 7, SHAPE[axis] - 1):
            plane = drawing.plane(axis, index)
            corner = np.zeros(4)
            corner[axis], corner[3] = index, 1
            assert plane.at_mm == pytest.approx(float((image.affine @ corner)[:3] @ plane.normal))
            towards, mm, unit = plane.place.split()
            assert (float(mm), unit) == (pytest.approx(abs(plane.at_mm), abs=0.05), "mm")
            assert towards == letters(plane.normal if plane.at_mm >= 0 else -plane.normal)
    upright = Drawing(volume(), [], survey(volume(), [])).plane(0, 10)
    assert upright.place == "H 30.0 mm"


def test_the_planes_go_through_what_was_found_and_further_levels_show_the_rest():
    image = volume(-1000, shape=(60, 30, 40), spacing=(3.0, 1.5, 1.5))
    shape = (60, 30, 40)
    together = [box((10, 14), (5, 25), (5, 15), shape), box((11, 16), (5, 25), (25, 35), shape)]
    apart = [box((30, 33), (2, 4), (2, 4), shape), box((50, 55), (26, 28), (36, 38), shape)]
    found = survey(image, [*together, *apart])
    shown = best_planes(found, named(4))
    assert 11 <= shown[0] < 14, "the axial plane with most structures"
    assert hidden(found, shown) == [2, 3]
    levels = more_levels(found, shown, LEVELS)
    assert len(levels) == LEVELS, "a whole row"
    assert levels == sorted(levels, reverse=True)
    assert hidden(found, shown, levels) == []
    alone = survey(image, together[:1])
    assert more_levels(alone, best_planes(alone, named(1)), LEVELS) == []


def test_the_body_decides_no_plane_unless_it_is_alone():
    body, organ = box((0, 20), (0, 30), (0, 40)), box((16, 18), (20, 24), (5, 9))
    outline = Pictured("body", GREEN, filled=False)
    both = survey(volume(), [body, organ])
    assert best_planes(both, [outline, Pictured("organ", RED)])[0] in (16, 17)
    alone = survey(volume(), [body])
    assert best_planes(alone, [outline]) == (10, 15, 20)


def test_volumes_are_those_of_the_voxels():
    found = survey(volume(), [box((5, 15), (5, 25), (10, 30)), np.zeros(SHAPE, bool)])
    assert found.volumes_ml == [pytest.approx(10 * 20 * 20 * 3 * 1.5 * 1.5 / 1000), 0.0]
    written = {ml: sheet._volume(ml) for ml in (0.001, 0.08, 24.44, 1234.5)}
    assert list(written.values()) == ["< 0.01 ml", "0.08 ml", "24.4 ml", "1234 ml"]


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[tuple[object, str, tuple[float, ...]]]:
    """What is written while a sheet is drawn: the part of the sheet, the text, and the pixels it takes."""
    texts: list[tuple[object, str, tuple[float, ...]]] = []
    original = panels.write

    def write(draw, place, text, typeface, colour, anchor="ls"):
        texts.append((draw.im, text, draw.textbbox(place, text, typeface, anchor)))
        original(draw, place, text, typeface, colour, anchor)

    for module in (panels, sheet):
        monkeypatch.setattr(module, "write", write)
    return texts


SHAPES = st.tuples(st.integers(1, 60), st.integers(1, 60), st.integers(1, 60))
SPACINGS = st.tuples(*[st.floats(0.3, 12)] * 3)


@examples(25)
@given(SHAPES, SPACINGS, st.tuples(*[st.integers(-40, 40)] * 3), st.sampled_from([0, 1, 2, 12, 30]), st.randoms())
def test_no_text_lies_on_another_or_beyond_the_sheet(shape, spacing, turned, count, random):
    """Of volumes of every shape and orientation, with any number of structures anywhere."""
    masks = []
    for _ in range(count):
        place = [random.randrange(size) for size in shape]
        masks.append(box(*((one, one + random.randrange(1, 9)) for one in place), shape))
    image = volume(40.0, shape=shape, spacing=spacing, directions=rotation(*turned) @ SAR)
    words = Words("PATIENT · 2026-01-01", "Contoured by a model", ["Looked for, not found: liver."], ["Look here."] * 9)
    with pytest.MonkeyPatch.context() as patch:
        texts: list[tuple[object, str, tuple[float, ...]]] = []
        original = panels.write

        def write(draw, place, text, typeface, colour, anchor="ls"):
            texts.append((draw.im, text, draw.textbbox(place, text, typeface, anchor)))
            original(draw, place, text, typeface, colour, anchor)

        for module in (panels, sheet):
            patch.setattr(module, "write", write)
        patch.setattr(Drawing, "draw", lambda _self, _plane, _cuts, size: Image.new("RGB", size))  # not about it
        done = picture(image, masks, named(count), words)
    assert done.shape[1:] == (WIDTH, 3)
    assert texts[0][1] == NOTICE
    for part, text, area in texts:
        assert area[0] >= 0, text
        assert area[2] <= WIDTH, text
        assert area[3] <= part.size[1], text
    for (part, one, area), (other_part, other, there) in combinations(texts, 2):
        apart = area[2] <= there[0] or there[2] <= area[0] or area[3] <= there[1] or there[3] <= area[1]
        assert part is not other_part or apart, (one, other)


def test_letters_and_titles_have_room_of_their_own_around_the_image():
    """The image of a panel lies within its room: an inset on each side, and the title above."""
    values = np.full(SHAPE, 300, np.float32)
    values[0, 0, 0] = -1000
    image = volume(values)
    drawing = Drawing(image, [], survey(image, []))
    planes = [drawing.plane(axis, 5) for axis in range(3)]
    row = np.asarray(panels.row(drawing, planes, [[], [], []], None))
    bright = (row > 200).all(axis=-1) & (np.ptp(row, axis=-1) == 0)
    columns = np.flatnonzero(bright[TITLE_HEIGHT + INSET + 5])
    assert columns.min() >= MARGIN + INSET
    assert not bright[TITLE_HEIGHT + 2 : TITLE_HEIGHT + INSET - 2, columns.min() : columns.min() + 20].any()


@pytest.mark.long
@pytest.mark.parametrize("count", [0, 1, 2, 12, 30])
def test_every_structure_has_a_line_with_its_number_name_and_volume(count, written):
    masks = [box((2, 18), (5, 25), (place, place + 3)) for place in range(count)]
    picture(volume(40.0), masks, named(count))
    texts = [text for _, text, _ in written]
    for place in range(1, count + 1):
        assert f"region {place}" in texts
    assert texts.count("6.5 ml") == count
    assert ("No structure was found." in texts) == (count == 0)
    numbers = [text for text in texts if text.isdigit()]
    assert numbers == [str(place) for place in range(1, count + 1)] * (count > 1)


def test_what_is_shown_in_no_plane_is_said(written):
    """More structures far apart than there are planes."""
    shape = (60, 30, 40)
    masks = [
        box((place, place + 1), (place // 2, place // 2 + 1), (place // 2, place // 2 + 1), shape)
        for place in range(0, 56, 5)
    ]
    picture(volume(40.0, shape=shape), masks, named(len(masks)))
    unseen = [text for _, text, _ in written if text.endswith("(not shown)")]
    assert 0 < len(unseen) < len(masks)


def test_the_notice_what_is_missing_and_what_is_to_be_reviewed_are_written(written):
    words = Words("PATIENT", "Contoured by a model", ["Looked for, not found: liver."], ["The spleen lies in the air."])
    picture(volume(40.0), [], [], words)
    texts = [text for _, text, _ in written]
    for text in (NOTICE, "PATIENT", "Contoured by a model", "Looked for, not found: liver.", "No structure was found."):
        assert text in texts
    assert "To be reviewed: The spleen lies in the air." in texts


def places_of_numbers(masks, texts):
    """Where the numbers of masks bool (30, 40) stand on a picture of 400 x 300 pixels, by text."""
    seen: dict[str, tuple[float, float]] = {}

    class Recording(ImageDraw.ImageDraw):
        def text(self, xy, text, **_options):
            seen[text] = xy

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ImageDraw, "Draw", Recording)
        number(Image.new("RGB", (400, 300)), masks, texts, [RED] * len(masks))
    return seen


def test_the_number_of_a_structure_stands_beside_those_that_lie_in_it():
    outer, inner = np.zeros((2, 30, 40), bool)
    outer[4:26, 6:34], inner[12:18, 17:23] = True, True
    seen = places_of_numbers([outer, inner], ["1", "2"])
    assert seen["2"] == (pytest.approx(200, abs=10), pytest.approx(150, abs=10))
    x, y = seen["1"]
    assert 60 < x < 340
    assert 40 < y < 260
    assert abs(x - 200) > 40 or abs(y - 150) > 40, "and not on the contour of the inner one"


def test_two_numbers_never_read_as_one():
    one, other = np.zeros((2, 30, 40), bool)
    one[14:17, 20:22], other[14:17, 18:20] = True, True
    (x, y), (a, b) = places_of_numbers([one, other], ["1", "4"]).values()
    size = font(NUMBER_PIXELS, "semibold").getlength("0")
    assert abs(x - a) >= 2 * size or abs(y - b) >= NUMBER_PIXELS * 0.8


def test_numbers_stand_on_their_structures_and_none_on_another():
    large, thin, small = np.zeros((3, 30, 40), bool)
    large[5:25, 5:15], thin[10, 20:38], small[10:12, 8:10] = True, True, True
    seen = list(places_of_numbers([large, thin, small], ["1", "2", "3"]).values())
    (x, y), *others = seen  # the largest first; columns and rows are turned: index 10 of 40 lies at 300 of 400
    assert (x, y) == (pytest.approx(300, abs=20), pytest.approx(150, abs=60))
    assert len(seen) == 3
    assert all(abs(x - a) > 10 or abs(y - b) > 10 for a, b in others)


def test_text_is_cut_only_where_it_does_not_fit():
    typeface = font(24)
    assert fitting("left parotid gland", typeface, 400) == "left parotid gland"
    cut = fitting("left parotid gland " * 9, typeface, 400)
    assert cut.endswith("…")
    assert width(cut, typeface) <= 400
    lines = wrapped("word " * 200, typeface, 400, 3)
    assert len(lines) == 3
    assert lines[-1].endswith("…")
    assert all(width(line, typeface) <= 400 for line in lines)
    assert wrapped("one line", typeface, 400, 3) == ["one line"]
    assert wrapped("", typeface, 400, 3) == []


def test_names_in_latin_greek_and_cyrillic_script_can_be_written_others_are_noticed():
    for name in ("Großhirn, vergrößert", "rein gauche", "wątroba", "ήπαρ", "печень", "10 µm ± 3 %"):
        assert is_drawable(name), name
    for name in ("肝臓", "كبد", "leber 肝"):
        assert not is_drawable(name), name


def test_colours_of_numbers_can_be_read():
    assert _legible((250, 220, 90)) == (250, 220, 90)
    assert luminance(_legible((20, 20, 120))) > 120

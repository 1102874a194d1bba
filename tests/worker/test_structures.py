"""Structures: finished in their order, made of each other, named and coded as the protocol says."""

import numpy as np
import pytest
from numpy.typing import NDArray

from dicom_node.masks import postprocess
from dicom_node.masks.packed import Masks
from worker.job_spec import Derived, Finish, Prompt
from worker.results.structures import StructureError, finished, region_of, structures_of

Mask = NDArray[np.bool_]

SHAPE = (6, 20, 30)
AFFINE = np.diag([3.0, 1.0, 1.0, 1.0])[[2, 1, 0, 3]]  # slices along z, rows along y, columns along x


BODY = np.zeros(SHAPE, dtype=bool)
BODY[:, 1:19, 1:29] = True


def box(slices: tuple[int, int], rows: tuple[int, int], columns: tuple[int, int]) -> Mask:
    mask = np.zeros(SHAPE, dtype=bool)
    mask[slice(*slices), slice(*rows), slice(*columns)] = True
    return mask


def done(masks: list[Mask], prompts: list[Prompt], derived: tuple[Derived, ...] = ()) -> list[Mask]:
    return list(finished(Masks.of(np.stack(masks)), prompts, derived, AFFINE, lambda: BODY))


def test_a_mask_is_cropped_to_the_finished_one_whichever_comes_first() -> None:
    body = box((1, 5), (2, 18), (2, 28))
    body[3, 8:12, 8:12] = False  # a hole that finishing fills
    specks = body | box((0, 1), (0, 1), (0, 1))
    vessel = box((0, 6), (5, 15), (5, 25))
    prompts = [
        Prompt(text="vessel", finish=Finish(crop_to="body")),
        Prompt(text="body", finish=Finish(largest_component=True, fill_holes=True)),
    ]
    cropped, whole = done([vessel, specks], prompts)
    assert np.array_equal(whole, box((1, 5), (2, 18), (2, 28)))
    assert np.array_equal(cropped, vessel & whole)


def test_the_steps_are_those_of_the_protocol() -> None:
    mask = box((1, 4), (2, 12), (2, 12)) | box((5, 6), (18, 20), (28, 30))
    small = 4 * 3 / 1000  # ml of the second piece
    kept = done([mask], [Prompt(text="a", finish=Finish(min_volume_ml=2 * small))])[0]
    assert np.array_equal(kept, box((1, 4), (2, 12), (2, 12)))
    assert np.array_equal(done([mask], [Prompt(text="a")])[0], mask), "nothing is done that is not asked for"
    smooth = done([mask], [Prompt(text="a", finish=Finish(smooth_mm=2))])[0]
    assert 0 < smooth.sum() < mask.sum()


def test_structures_are_made_of_structures() -> None:
    left, right = box((1, 5), (5, 15), (2, 12)), box((1, 5), (5, 15), (18, 28))
    tumour, nothing = box((2, 4), (8, 12), (10, 20)), box((0, 0), (0, 0), (0, 0))
    prompts = [Prompt(text="left lung"), Prompt(text="right lung"), Prompt(text="tumor", name="GTV"), Prompt(text="x")]
    derived = (
        Derived(name="PTV", union=("CTV",), intersect=("Lungs",), margin_mm=0),
        Derived(name="CTV", union=("GTV",), margin_mm=2),
        Derived(name="Lungs", union=("left lung", "right lung")),
        Derived(name="Healthy", union=("Lungs",), subtract=("PTV",)),
        Derived(name="Core", union=("left lung",), margin_mm=-2),
        Derived(name="Of nothing", union=("x",), margin_mm=10),
        Derived(name="Boost", empty=True),
    )
    masks = done([left, right, tumour, nothing], prompts, derived)
    ptv, ctv, lungs, healthy, core, of_nothing, boost = masks[4:]
    assert np.array_equal(lungs, left | right)
    assert ctv[2, 8:12, 8:22].sum() == 4 * 14, "two millimetres are two columns"
    assert ctv[1].sum() == 0, "and less than a slice"
    assert np.array_equal(ptv, ctv & lungs)
    assert np.array_equal(healthy, lungs & ~ptv)
    assert np.array_equal(core, box((1, 5), (7, 13), (4, 10))), "slices are 3 mm apart: none is within 2 mm of the end"
    assert not of_nothing.any()
    assert not boost.any()
    made = structures_of(Masks.of(np.stack(masks)), prompts, derived, AFFINE)
    assert [one.label for one in made if one.asked and not one.extent] == ["x", "Of nothing"]
    assert made[4].extent is not None
    assert made[4].extent.volume_ml == pytest.approx(ptv.sum() * 3 / 1000)


def test_unions_intersections_and_differences_of_structures() -> None:
    one, two, three = box((0, 2), (0, 2), (0, 4)), box((0, 2), (1, 3), (0, 4)), box((0, 2), (0, 4), (0, 1))
    derived = (
        Derived(name="union", union=("one", "two")),
        Derived(name="intersection", union=("one",), intersect=("two", "three")),
        Derived(name="difference", union=("one",), subtract=("two", "three")),
        Derived(name="itself", union=("one",)),
        Derived(name="one in two", union=("one",), intersect=("two",)),
    )
    prompts = [Prompt(text=name) for name in ("one", "two", "three")]
    union, intersection, difference, itself, one_in_two = done([one, two, three], prompts, derived)[3:]
    assert union.sum() == 24
    assert intersection.sum() == 2
    assert difference.sum() == 6
    assert itself.sum() == 16
    cropped = done([one, two], [Prompt(text="one", finish=Finish(crop_to="two")), Prompt(text="two")])[0]
    assert np.array_equal(cropped, one_in_two)


def test_a_margin_grows_what_is_left_after_the_subtraction() -> None:
    """A PTV of a target without the cord reaches into the cord again by its margin; the other order keeps out of it."""
    target, cord = box((2, 3), (4, 6), (4, 20)), box((2, 3), (0, 10), (12, 30))
    derived = (Derived(name="PTV", union=("target",), subtract=("cord",), margin_mm=2),)
    ptv = done([target, cord], [Prompt(text="target"), Prompt(text="cord")], derived)[2]
    rest = postprocess.margin(target & ~cord, AFFINE, 2)
    assert np.array_equal(ptv, rest)
    assert (ptv & cord).any()


def test_circles_and_strangers_are_refused_by_name() -> None:
    mask = box((1, 2), (1, 2), (1, 2))
    round_about = [Prompt(text="a", finish=Finish(crop_to="b")), Prompt(text="b", finish=Finish(crop_to="a"))]
    with pytest.raises(StructureError, match=r"'a' needs 'b' needs 'a'|'b' needs 'a' needs 'b'"):
        done([mask, mask], round_about)
    with pytest.raises(StructureError, match="'c' needs 'gone'"):
        done([mask], [Prompt(text="a")], (Derived(name="c", union=("gone",)),))


def test_names_codes_colours_and_types_are_those_of_the_protocol() -> None:
    plain = region_of(Prompt(text="left kidney"))
    assert (plain.label, plain.tg263, plain.coded) == ("left kidney", "Kidney_L", True)
    named = region_of(
        Prompt(text="left kidney", name="Niere links", tg263="Kidney_Left", colour=(1, 2, 3), roi_type="AVOIDANCE")
    )
    assert (named.label, named.roi_name, named.colour) == ("Niere links", "Kidney_Left", (1, 2, 3))
    assert named.interpreted_type == "AVOIDANCE"
    assert named.prompt == "left kidney"
    assert (named.type, named.side) == (plain.type, "left")
    coded = region_of(Prompt(text="gizzard", code="10200004"))
    assert (coded.type.value, coded.coded) == ("10200004", True)
    assert coded.type.meaning.startswith("Liver"), "the dictionary knows what the number means"
    assert region_of(Prompt(text="gizzard", code="123456789")).type.meaning == "gizzard"


def test_what_is_cut_or_grown_is_not_called_by_the_organs_code() -> None:
    union = region_of(Derived(name="kidneys", union=("left kidney", "right kidney")))
    assert (union.type.meaning, union.side, union.coded) == ("Kidney", "both", True)
    assert union.prompt == "made of left kidney and right kidney"
    grown = region_of(Derived(name="kidneys", union=("a",), intersect=("b",), subtract=("c", "d"), margin_mm=5))
    assert (grown.coded, grown.type.meaning, grown.side) == (False, "Tissue", "")
    assert grown.prompt == "made of a, inside b, without c and d, margin +5 mm"
    empty = region_of(Derived(name="Boost", empty=True, roi_type="GTV"))
    assert (empty.placeholder, empty.interpreted_type, empty.label) == (True, "GTV", "Boost")


def test_the_body_is_a_structure_that_others_can_be_made_of() -> None:
    lesion = box((2, 4), (0, 12), (10, 20))
    prompts = [Prompt(text="lesion", finish=Finish(crop_to="BODY"))]
    derived = (
        Derived(name="BODY", body=True),
        Derived(name="rest", union=("BODY",), subtract=("lesion",)),
    )
    cropped, body, rest = done([lesion], prompts, derived)
    assert np.array_equal(body, BODY)
    assert np.array_equal(cropped, lesion & BODY)
    assert np.array_equal(rest, BODY & ~lesion)


def test_the_body_is_the_external_contour_and_no_work_of_a_network() -> None:
    region = region_of(Derived(name="BODY", body=True))
    assert (region.label, region.tg263, region.interpreted_type) == ("BODY", "External", "EXTERNAL")
    assert (region.by_network, region.prompt) == (False, "the patient's outline, found in the image by its values")
    named = region_of(Derived(name="skin", body=True, tg263="Body", roi_type="ORGAN"))
    assert (named.roi_name, named.interpreted_type) == ("Body", "ORGAN")
    assert region_of(Prompt(text="body")).by_network


def test_without_a_body_among_the_structures_none_is_looked_for() -> None:
    def looked() -> Mask:
        raise AssertionError("it was looked for")

    finished(Masks.of(box((1, 2), (1, 2), (1, 2))[None]), [Prompt(text="a")], (), AFFINE, looked)

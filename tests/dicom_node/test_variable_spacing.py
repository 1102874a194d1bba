"""A spacing that changes by design: refused with the true cause, or made even, and results lie on the source slices."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydicom import Dataset, dcmread

from dicom_node.errors import SeriesError
from dicom_node.images.frames import read_files
from dicom_node.images.grid import VariableSpacingError
from dicom_node.masks.measures import extent
from dicom_node.objects.result_set import ResultSet
from dicom_node.objects.rtstruct import contour_points
from dicom_node.ranking.facts import facts_of
from dicom_node.regions import region_for
from dicom_node.series import ImageSeries, header_volumes, read_series
from dicom_node.synthesis import ct_series
from dicom_node.volume import from_network, to_network
from tests.support.examples import examples
from tests.support.images import PROVENANCE, edit, result_errors

STEP = 1.0  # mm: the images are made on this grid, and slices are then left out
SHAPE = (12, 10)


def scan(folder: Path, depths: Sequence[float], *, lean: float = 0.0, shape: tuple[int, int] = SHAPE) -> list[Path]:
    """A CT with slices at these depths (mm), each with its depth as its value; `lean`: mm in plane per mm of depth."""
    paths = ct_series(np.zeros((len(depths), *shape)), (STEP, 2.0, 1.5), folder)
    first = [float(value) for value in dcmread(paths[0]).ImagePositionPatient]
    for path, depth in zip(paths, depths, strict=True):
        pixels = np.full(shape, round(depth * 10), np.int16)
        position = [first[0], round(first[1] + lean * depth, 6), first[2] + depth]
        edit(path, ImagePositionPatient=position, PixelData=pixels.tobytes(), RescaleSlope=1, RescaleIntercept=0)
    return paths


def depths_of(*parts: tuple[int, float]) -> list[float]:
    """Depths of parts of (gaps, spacing)."""
    return np.concatenate([[0.0], np.cumsum([mm for gaps, mm in parts for _ in range(gaps)])]).tolist()


PLANNED = depths_of((5, 3.0), (4, 6.0))


def test_without_being_asked_for_it_is_refused_with_the_cause(tmp_path: Path) -> None:
    with pytest.raises(
        VariableSpacingError, match=r"spacing changes from 3 to 6 mm at 0006.dcm at .*; a volume has one"
    ):
        read_series(scan(tmp_path, PLANNED))


def test_slices_are_added_between_the_others_and_interpolated(tmp_path: Path) -> None:
    series = read_series(scan(tmp_path, PLANNED), even=True)
    assert series.volume.spatial_shape == (14, *SHAPE)
    assert series.volume.spacing == pytest.approx((3.0, 2.0, 1.5))
    np.testing.assert_allclose(series.volume.array[:, 0, 0], np.arange(14) * 30)
    assert series.interpolated == {6, 8, 10, 12}
    assert len(series.references) == len(series.headers) == 10
    heights = series.positions[:, 2] - series.positions[0, 2]
    np.testing.assert_allclose(heights, np.arange(14) * 3.0, atol=1e-6)
    named = {place: reference.sop_uid for place, reference in series.reference_at.items()}
    assert [named[place] for place in (0, 5, 7, 13)] == [
        series.headers[number].SOPInstanceUID for number in (0, 5, 6, 9)
    ]
    (note,) = series.notes
    assert note == (
        "the spacing changes by design, up to 6 mm: 4 slices between the others were interpolated for the network, "
        "3 mm apart; results lie on the source slices"
    )


@pytest.mark.parametrize(
    ("parts", "step"),
    [
        ([(4, 3.0), (4, 6.0)], 3.0),
        ([(4, 6.0), (4, 3.0)], 3.0),
        ([(3, 3.0), (3, 5.0)], 1.0),
        ([(3, 2.5), (3, 4.0)], 0.5),
        ([(2, 2.0), (3, 3.0), (2, 2.0)], 1.0),
        ([(2, 1.0), (2, 2.0), (2, 4.0), (2, 8.0)], 1.0),
    ],
    ids=str,
)
def test_the_grid_is_the_coarsest_that_holds_every_slice(
    parts: list[tuple[int, float]], step: float, tmp_path: Path
) -> None:
    depths = depths_of(*parts)
    series = read_series(scan(tmp_path, depths), even=True)
    assert series.volume.spacing[0] == pytest.approx(step)
    np.testing.assert_allclose(
        series.volume.array[:, 0, 0], np.arange(round(depths[-1] / step) + 1) * step * 10, atol=1e-3
    )


@pytest.mark.parametrize(
    ("depths", "sentence"),
    [
        (depths_of((4, 3.0), (1, 6.0), (4, 3.0)), "a slice is missing between"),
        (depths_of((4, 3.0), (1, 6.0)), "a slice is missing between"),
        (depths_of((4, 3.0), (4, 3.77)), "no grid of reasonable size holds all slices"),
        (depths_of(*[(2, 1.0 + n) for n in range(5)]), "a slice is missing between"),
        ([0, 0.011, 0.022, 1000, 2000], "no grid of reasonable size holds all slices"),
        (depths_of((3, 1.0), (10, 40.0)), "no grid of reasonable size holds all slices"),
    ],
    ids=["a gap", "a gap at the end", "no common step", "no plan", "hundred thousand slices", "a grid of gaps"],
)
def test_what_is_no_plan_is_refused_all_the_same(depths: list[float], sentence: str, tmp_path: Path) -> None:
    with pytest.raises(SeriesError, match=sentence):
        read_series(scan(tmp_path, depths), even=True)


@pytest.mark.parametrize("lost", [{5, 7}, {7, 9}, {1, 3}], ids=["in the middle", "at the end", "at the beginning"])
def test_every_second_slice_lost_is_no_plan(lost: set[int], tmp_path: Path) -> None:
    paths = scan(tmp_path, depths_of((10, 3.0)))
    with pytest.raises(SeriesError, match=r"slices are missing: spacing changes .*, and the image numbers jump from"):
        read_series([path for place, path in enumerate(paths) if place not in lost], even=True)


def test_without_numbers_nobody_can_tell(tmp_path: Path) -> None:
    paths = scan(tmp_path, PLANNED)
    edit(paths[3], InstanceNumber=None)
    with pytest.raises(SeriesError, match="no Instance Number that would tell a plan from lost slices"):
        read_series(paths, even=True)


def test_an_even_series_is_read_as_before(tmp_path: Path) -> None:
    paths = scan(tmp_path, depths_of((8, 3.0)))
    one, other = read_series(paths), read_series(paths, even=True)
    np.testing.assert_array_equal(one.volume.array, other.volume.array)
    np.testing.assert_array_equal(one.positions, other.positions)
    assert (other.interpolated, other.notes) == (frozenset(), ())


def test_what_is_known_of_it_is_its_widest_spacing(tmp_path: Path) -> None:
    (outline,) = header_volumes(read_files(scan(tmp_path, PLANNED)))
    facts = facts_of(replace(outline, even=True))
    assert (facts.slices, facts.spacing_mm, facts.resampled_mm) == (10, pytest.approx(6.0), pytest.approx(3.0))
    assert facts.coverage_mm == pytest.approx(42.0)


# -- results


def written(series: ImageSeries, masks: NDArray[np.bool_], outputs: Sequence[str]) -> dict[str, Dataset]:
    """The objects of one liver, each verified when it is written."""
    extents = [extent(mask, series.affine) if mask.any() else None for mask in masks]
    return dict(ResultSet(series, masks, [region_for("liver")], PROVENANCE, outputs).written(extents))


@pytest.mark.parametrize("lean", [0.0, 0.2], ids=["upright", "tilted gantry"])
def test_results_lie_on_the_source_slices_alone(lean: float, tmp_path: Path) -> None:
    paths = scan(tmp_path / "ct", PLANNED, lean=lean)
    series = read_series(paths, even=True)
    network = to_network(series)
    seen = np.zeros((1, *network.spatial_shape), dtype=bool)
    seen[0, 2:12, 3:9, 2:6] = True
    masks = from_network(seen, network, series)
    assert masks.shape == (1, *series.volume.spatial_shape)
    objects = written(series, masks, ("seg", "rtstruct", "sr", "preview"))
    sources = {str(dcmread(path).SOPInstanceUID): dcmread(path) for path in paths}
    frames = objects["seg.dcm"].PerFrameFunctionalGroupsSequence
    held = [frame.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID for frame in frames]
    assert len(held) == len(set(held)) == sum(masks[0, place].any() for place in series.reference_at)
    for frame, uid in zip(frames, held, strict=True):
        assert frame.PlanePositionSequence[0].ImagePositionPatient == sources[uid].ImagePositionPatient
    for contour in objects["rtstruct.dcm"].ROIContourSequence[0].ContourSequence:
        image = sources[contour.ContourImageSequence[0].ReferencedSOPInstanceUID]
        assert {round(z, 3) for z in contour_points(contour)[:, 2]} == {round(float(image.ImagePositionPatient[2]), 3)}
    volume = f"{masks.sum() * 9.0 / 1000:.6g}"
    assert f"'{volume}'" in str(objects["sr.dcm"]), "the volume counts what lies between the slices"


@pytest.mark.peers
def test_the_objects_are_valid(tmp_path: Path) -> None:
    series = read_series(scan(tmp_path / "ct", PLANNED), even=True)
    masks = np.zeros((1, *series.volume.spatial_shape), dtype=bool)
    masks[0, 3:11, 2:8, 2:8] = True
    for dataset in written(series, masks, ("seg", "rtstruct", "sr", "preview")).values():
        assert result_errors(dataset, tmp_path) == []


@pytest.mark.long
@given(st.data())
@examples(25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_was_seen_on_a_source_slice_comes_back_on_it(tmp_path_factory, data: st.DataObject) -> None:
    parts = data.draw(
        st.lists(st.tuples(st.integers(2, 4), st.sampled_from([1.0, 2.0, 3.0, 4.0])), min_size=2, max_size=4)
    )
    depths = depths_of(*parts)
    series = read_series(scan(tmp_path_factory.mktemp("ct"), depths), even=True)
    network = to_network(series)
    seen = np.random.default_rng(data.draw(st.integers(0, 99))).random((1, *network.spatial_shape)) > 0.6
    (mask,) = from_network(seen, network, series)
    objects = written(series, mask[None], ("seg",))
    frames = objects["seg.dcm"].PerFrameFunctionalGroupsSequence
    pixels = np.unpackbits(np.frombuffer(objects["seg.dcm"].PixelData, np.uint8), bitorder="little")
    size = SHAPE[0] * SHAPE[1]
    by_uid = {reference.sop_uid: place for place, reference in series.reference_at.items()}
    for number, frame in enumerate(frames):
        uid = frame.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        plane = pixels[number * size : (number + 1) * size].reshape(SHAPE).astype(bool)
        np.testing.assert_array_equal(plane, mask[by_uid[uid]])
        depth = depths[[*series.reference_at].index(by_uid[uid])]
        assert series.volume.array[by_uid[uid], 0, 0] == pytest.approx(round(depth * 10))


@pytest.mark.parametrize("shape", [(13, 10), (11, 9), (63, 55)], ids=str)
def test_a_matrix_of_any_size_has_its_frames_on_source_slices(shape: tuple[int, int], tmp_path: Path) -> None:
    """An object of odd length is padded by an empty frame: that lies on a slice of the files, too."""
    series = read_series(scan(tmp_path, PLANNED, shape=shape), even=True)
    for last in (5, 6, 8, 10):
        masks = np.zeros((1, *series.volume.spatial_shape), dtype=bool)
        masks[0, 2:last, 3:9, 2:6] = True
        seg = written(series, masks, ("seg",))["seg.dcm"]
        assert "SpacingBetweenSlices" not in seg.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]

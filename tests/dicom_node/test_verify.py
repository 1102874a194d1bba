"""The node finds its own mistakes: mirrored, shifted, lost or grown results are not passed on."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset

from dicom_node.errors import ResultError
from dicom_node.masks.measures import Extent, extent, extent_of, joined
from dicom_node.objects.rtstruct import Holes, write_rtstruct
from dicom_node.objects.seg import write_seg
from dicom_node.objects.verify import _compare, check_rtstruct, check_seg, check_way_back
from dicom_node.regions import region_for
from dicom_node.series import ImageSeries, read_series
from dicom_node.synthesis import write_slices
from dicom_node.volume import from_network, to_network
from tests.support.images import PROVENANCE, affine_of, axis_orders, rotation, series_files

REGIONS = [region_for("left kidney"), region_for("liver")]


def results(series: ImageSeries) -> tuple[Dataset, Dataset, list[Extent]]:
    """A SEG and an RTSTRUCT of two boxes that were seen on the network's grid, and where they lay there."""
    network = to_network(series)
    masks = np.zeros((2, *network.spatial_shape), dtype=bool)
    a, b, c = (size // 4 for size in network.spatial_shape)
    masks[0, : 2 * a + 1, : b + 1, : c + 1] = True
    masks[0, 1, 1, 1] = False
    masks[1, a:, 2 * b :, 2 * c :] = True
    on_slices = from_network(masks, network, series)
    seg = write_seg(series, on_slices, REGIONS, PROVENANCE).dataset
    assert seg is not None
    if series.tilt_degrees:
        expected = [extent(mask, series.affine) for mask in on_slices]
    else:
        expected = [extent(mask, network.affine) for mask in masks]
    return seg, write_rtstruct(series, on_slices, REGIONS, PROVENANCE), expected


@pytest.fixture
def ct(tmp_path: Path) -> ImageSeries:
    affine = affine_of(rotation(10, 5, -8) @ np.eye(3)[:, ::-1], (3.0, 1.2, 0.9), (5, 6, 7))
    return read_series(write_slices(np.zeros((9, 11, 13)), affine, tmp_path))


@pytest.mark.long
def test_right_results_pass_in_every_axis_order(tmp_path: Path) -> None:
    for number, directions in enumerate(axis_orders()):
        affine = affine_of(directions, (3.0, 1.2, 0.9), (5, 6, 7))
        series = read_series(write_slices(np.zeros((5, 7, 9)), affine, tmp_path / str(number)))
        seg, structures, expected = results(series)
        check_seg(seg, expected, series.volume.spacing)
        check_rtstruct(structures, expected, series)


@pytest.mark.parametrize(
    "case",
    [
        "mr_enhanced/siemens_anat_8frames/dicom",
        "tiny_cases/failing__gantrytilting__001/dicom",
        "tiny_cases/philips__anatomical__001/dicom",
    ],
)
def test_right_results_pass_on_real_series(shared_data: Callable[..., Path], case: str) -> None:
    series = read_series(series_files(shared_data(case)))
    seg, structures, expected = results(series)
    check_seg(seg, expected, series.volume.spacing)
    check_rtstruct(structures, expected, series)


def test_a_mask_lies_on_the_slices_where_the_network_saw_it_also_under_a_tilted_gantry(tmp_path: Path) -> None:
    affine = affine_of(rotation(10, 5, -8) @ np.eye(3)[:, ::-1], (3.0, 1.2, 0.9), (5, 6, 7))
    for number, tilt in enumerate((0.0, 0.4)):
        sheared = affine.copy()
        sheared[:3, 0] += tilt * affine[:3, 1]
        series = read_series(write_slices(np.zeros((9, 11, 13)), sheared, tmp_path / str(number)))
        network = to_network(series)
        seen = np.zeros(network.spatial_shape, dtype=bool)
        seen[1:4, 2:5, 6:11] = True
        (mask,) = from_network(seen[None], network, series)
        check_way_back("liver", seen, network.get_geometry(), mask, series)
        for wrong in (mask[..., ::-1], np.roll(mask, 1, axis=0), np.roll(mask, 1, axis=1)):
            with pytest.raises(ResultError, match="liver does not lie where its mask lies"):
                check_way_back("liver", seen, network.get_geometry(), wrong, series)
        with pytest.raises(ResultError, match="was found"):
            check_way_back("liver", seen, network.get_geometry(), np.zeros_like(mask), series)


def test_a_label_map_is_held_against_its_masks(ct: ImageSeries) -> None:
    masks = np.zeros((2, *ct.volume.spatial_shape), dtype=bool)
    masks[0, 2:6, 1:5, 1:6], masks[1, 3:8, 6:9, 7:12] = True, True
    expected = [extent(mask, ct.affine) for mask in masks]
    labels = write_seg(ct, masks, REGIONS, PROVENANCE, "LABELMAP").dataset
    assert labels is not None
    check_seg(labels, expected, ct.volume.spacing)
    with pytest.raises(ResultError, match="segment 'left kidney' does not lie"):
        check_seg(labels, expected[::-1], ct.volume.spacing)
    values = np.frombuffer(labels.PixelData, dtype=np.uint8)
    labels.PixelData = np.where(values == 1, 2, values).astype(np.uint8).tobytes()
    with pytest.raises(ResultError, match="holds 1 segments where 2"):
        check_seg(labels, expected, ct.volume.spacing)


def test_a_mirrored_seg_is_not_passed_on(ct: ImageSeries) -> None:
    seg, _, expected = results(ct)
    orientation = seg.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0]
    orientation.ImageOrientationPatient = [-float(value) for value in orientation.ImageOrientationPatient]
    with pytest.raises(ResultError, match="segment 'left kidney' does not lie where its mask lies"):
        check_seg(seg, expected, ct.volume.spacing)


def chiral(shape: tuple[int, ...]) -> np.ndarray:
    """A mask whose middle is that of its bounding box, so that neither moves when it is mirrored in its place."""
    mask = np.zeros(shape, dtype=bool)
    a, b, c = (size // 2 for size in shape)
    mask[a - 2 : a + 1, b - 2 : b + 1, c - 2 : c + 1] = True
    mask[a : a + 3, b : b + 3, c : c + 3] = True
    return mask


@pytest.mark.parametrize("axis", range(3))
def test_a_mask_that_is_mirrored_in_its_place_is_not_passed_on(tmp_path: Path, axis: int) -> None:
    affine = affine_of(np.eye(3)[:, ::-1], (3.0, 1.2, 0.9), (5, 6, 7))
    ct = read_series(write_slices(np.zeros((9, 11, 13)), affine, tmp_path))
    mask = chiral(ct.volume.spatial_shape)
    places = [slice(places.min(), places.max() + 1) for places in np.nonzero(mask)]
    mirrored = np.zeros_like(mask)
    mirrored[tuple(places)] = np.flip(mask[tuple(places)], axis)
    seg = write_seg(ct, mirrored[None], REGIONS[:1], PROVENANCE).dataset
    assert seg is not None
    expected = [extent(mask, ct.affine)]
    with pytest.raises(ResultError, match="segment 'left kidney' is mirrored or turned in its place"):
        check_seg(seg, expected, ct.volume.spacing)
    with pytest.raises(ResultError, match="ROI 'Kidney_L' is mirrored or turned in its place"):
        check_rtstruct(write_rtstruct(ct, mirrored[None], REGIONS[:1], PROVENANCE), expected, ct)
    network = to_network(ct)
    seen = to_network(replace(ct, volume=ct.volume.with_array(mask.astype(np.uint8)))).array.astype(bool)
    check_way_back("kidney", seen, network, mask, ct)
    with pytest.raises(ResultError, match="kidney is mirrored or turned in its place"):
        check_way_back("kidney", seen, network, mirrored, ct)


@pytest.mark.parametrize("jitter", [0.01, 0.03, 0.05])
@pytest.mark.parametrize(("step", "pixel"), [(5.0, 0.5), (3.0, 0.5), (10.0, 0.5), (2.5, 0.7)])
def test_slices_that_jitter_as_much_as_the_reader_accepts_make_no_mask_a_mirrored_one(
    step: float, pixel: float, jitter: float
) -> None:
    """A lesion on few slices, whose outer ones lie apart in opposite directions."""
    rows, columns = np.ogrid[:40, :40]
    disc = (rows - 20) ** 2 + (columns - 20) ** 2 <= 3**2
    for slices in (2, 3, 5):
        mask = np.zeros((21, 40, 40), dtype=bool)
        mask[9 : 9 + slices] = disc
        places = np.arange(21) * step
        places[9] -= jitter * step
        places[8 + slices] += jitter * step
        down, across = np.nonzero(disc)
        parts = [
            extent_of(
                np.stack([across * pixel, down * pixel, np.full(len(down), places[place])], 1), step * pixel * pixel
            )
            for place in range(9, 9 + slices)
        ]
        affine = affine_of(np.eye(3)[:, ::-1], (step, pixel, pixel), (0, 0, 0))
        _compare("lesion", joined(parts), extent(mask, affine), (step, pixel, pixel))


def test_a_seg_shifted_by_one_voxel_on_any_axis_is_not_passed_on(ct: ImageSeries) -> None:
    for axis in range(3):
        seg, _, expected = results(ct)
        for frame in seg.PerFrameFunctionalGroupsSequence:
            position = frame.PlanePositionSequence[0]
            moved = np.array(position.ImagePositionPatient, dtype=float) + ct.affine[:3, axis]
            position["ImagePositionPatient"].value = [f"{value:.6f}" for value in moved]
        with pytest.raises(ResultError, match="does not lie where its mask lies"):
            check_seg(seg, expected, ct.volume.spacing)


def test_swapped_segments_and_lost_ones_are_not_passed_on(ct: ImageSeries) -> None:
    seg, structures, expected = results(ct)
    with pytest.raises(ResultError, match="'left kidney'"):
        check_seg(seg, expected[::-1], ct.volume.spacing)
    with pytest.raises(ResultError, match="holds 2 segments where 1 masks"):
        check_seg(seg, expected[:1], ct.volume.spacing)
    with pytest.raises(ResultError, match="holds 2 ROIs where 1 masks"):
        check_rtstruct(structures, expected[:1], ct)


def test_a_filled_hole_shows_in_the_volume(ct: ImageSeries) -> None:
    seg, _, expected = results(ct)
    voxels = np.frombuffer(seg.PixelData, dtype=np.uint8).copy()
    voxels[:] = 255
    seg.PixelData = voxels.tobytes()
    with pytest.raises(ResultError):
        check_seg(seg, expected, ct.volume.spacing)


def test_moved_contours_are_not_passed_on(ct: ImageSeries) -> None:
    _, structures, expected = results(ct)
    contours = structures.ROIContourSequence[1].ContourSequence
    for contour in contours:
        points = np.array(contour.ContourData, dtype=float).reshape(-1, 3) + ct.affine[:3, 2]
        contour.ContourData = [f"{value:.4f}" for value in points.ravel()]
    with pytest.raises(ResultError, match="ROI 'Liver' does not lie where its mask lies"):
        check_rtstruct(structures, expected, ct)
    points = np.array(contours[0].ContourData, dtype=float).reshape(-1, 3) + ct.affine[:3, 0] / 2
    contours[0].ContourData = [f"{value:.4f}" for value in points.ravel()]
    with pytest.raises(ResultError, match="slices off its image plane"):
        check_rtstruct(structures, expected, ct)


@pytest.mark.parametrize("holes", ["keyhole", "xor"])
def test_holes_count_in_both_forms(ct: ImageSeries, holes: Holes) -> None:
    masks = np.zeros((1, *ct.volume.spatial_shape), dtype=bool)
    masks[0, 2:6, 1:9, 1:11] = True
    masks[0, 2:6, 3:6, 4:8] = False
    structures = write_rtstruct(ct, masks, REGIONS[:1], PROVENANCE, holes=holes)
    check_rtstruct(structures, [extent(masks[0], ct.affine)], ct)
    masks[0, 2:6, 3:6, 4:8] = True
    with pytest.raises(ResultError, match=r"ml where its mask holds|does not lie"):
        check_rtstruct(structures, [extent(masks[0], ct.affine)], ct)

"""One sentence: a sphere at a known millimetre comes back at that millimetre."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from dicom_node.objects.seg import write_seg
from dicom_node.regions import region_for
from dicom_node.series import read_series
from dicom_node.synthesis import write_slices
from dicom_node.volume import from_network, to_network
from tests.support.images import PROVENANCE, affine_of, axis_orders, rotation, segment_points

SHAPE = (13, 18, 27)
SPACING = (2.0, 1.3, 0.8)  # millimetres between slices, rows, columns
RADIUS = 6.5  # millimetres


def _voxels(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """LPS millimetres (slices, rows, columns, 3) of every voxel."""
    indices = np.moveaxis(np.indices(SHAPE), 0, -1)
    return np.asarray(indices @ affine[:3, :3].T + affine[:3, 3])


def _there_and_back(affine: NDArray[np.float64], folder: Path) -> None:
    centre = (affine @ [*(np.array(SHAPE) / 2 + (0.3, -0.2, 1.4)), 1])[:3]
    inside = np.linalg.norm(_voxels(affine) - centre, axis=-1) < RADIUS
    files = write_slices(np.where(inside, 300.0, -500.0), affine, folder)
    np.random.default_rng(0).shuffle(files)
    series = read_series(files)
    network = to_network(series)
    masks = from_network((network.array > 0)[None], network, series)
    result = write_seg(series, masks, [region_for("sphere")], PROVENANCE)
    assert result.dataset is not None
    result.dataset.save_as(folder / "seg.dcm", enforce_file_format=True)

    points = segment_points(folder / "seg.dcm")
    assert len(points) == inside.sum()
    off = np.linalg.solve(affine[:3, :3], points.mean(axis=0) - centre)
    assert np.abs(off).max() < 0.1, f"{off} voxels off"
    assert np.linalg.norm(points - centre, axis=1).max() < RADIUS + 1e-3


@pytest.mark.long
@pytest.mark.parametrize("angles", [(0, 0, 0), (17, -23, 31)], ids=["straight", "oblique"])
def test_a_sphere_comes_back_where_it_was_in_all_48_axis_orders(tmp_path: Path, angles: tuple[float, ...]) -> None:
    for number, directions in enumerate(axis_orders()):
        affine = affine_of(rotation(*angles) @ directions, SPACING, (-31.0, 47.0, 1003.0))
        _there_and_back(affine, tmp_path / str(number))


@pytest.mark.parametrize("tilt", [-18.5, 14.0, 25.0])
def test_a_sphere_comes_back_where_it_was_under_a_tilted_gantry(tmp_path: Path, tilt: float) -> None:
    affine = affine_of(rotation(tilt, 0, 0) @ np.eye(3)[:, ::-1], SPACING, (-31.0, 47.0, 1003.0))
    affine[:3, 0] = (0, 0, SPACING[0])
    _there_and_back(affine, tmp_path)

"""The network's grid: nnU-Net's axes bit for bit, dcm2niix's grid and values, and masks that come back exactly."""

import hashlib
import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import highdicom
import nibabel
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from nnunetv2.imageio.nibabel_reader_writer import NibabelIOWithReorient

from dicom_node.errors import ResultError
from dicom_node.series import read_series
from dicom_node.synthesis import ct_series, write_slices
from dicom_node.volume import from_network, network_axes, to_network, write_nifti
from tests.support.examples import examples
from tests.support.images import affine_of, axis_orders, rotation, series_files, tool

Data = Callable[..., Path]
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
ANGLE = st.floats(-180, 180)

# Regular volumes whose stored values dcm2niix takes from the file as they are. Not in this list: the three Philips and
# MPR cases whose rescale it replaces by a private one, tilted gantries, and what is no volume.
CASES = (
    "ct_abdomen_crlm1004/dicom",
    "ct_totalseg_j2k/dicom",
    *(
        f"rtstruct_sts/{patient}/{kind}/dicom"
        for patient in ("STS_002", "STS_003", "STS_008")
        for kind in ("CT", "MR_T1")
    ),
    "mr_brain_t1sag/HFS/dicom",
    "mr_brain_t1sag/HFDR/dicom",
    "fruit_pacs/1001/20200705_182823_CT_SR/Kopf_nativ__5.0__H42s",
    "fruit_pacs/1001/20200705_182823_CT_SR/Kopf_nativ__2.0__H70h",
    "fruit_pacs/1005/20200705_165100_MR_SR/AAHead_Scout",
    "fruit_pacs/1005/20200705_165100_MR_SR/SWI_Images",
    "fruit_pacs/1005/20200705_165100_MR_SR/t2_tse_tra_5mm",
    "fruit_pacs/1005/20200705_165100_MR_SR/t1_mprage_tra_nativ",
    "mr_enhanced/siemens_anat_8frames/dicom",
    "mr_enhanced/hyperfine_anat_8frames/dicom",
    "tiny_cases/generic__anatomical__001/dicom",
    *(f"tiny_cases/generic__compressed{kind}__001/dicom" for kind in ("", "_j2k", "_jpeg", "_jpegls", "_rle")),
    "tiny_cases/ge__anatomical__001/dicom",
    "tiny_cases/siemens__anatomical__001/dicom",
    "tiny_cases/philips__anatomical__001/dicom",
    "tiny_cases/hitachi__anatomical__001/dicom",
    "tiny_cases/failing__slicecount__001/dicom",
)


@pytest.mark.long
@pytest.mark.parametrize("case", CASES)
def test_grid_and_values_are_those_that_dcm2niix_found(shared_data: Data, tmp_path: Path, case: str) -> None:
    expected = json.loads(shared_data("expected_dcm2niix.json").read_text())[case]["outputs"][0]
    write_nifti(to_network(read_series(series_files(shared_data(case)))), tmp_path / "volume.nii")
    ours = nibabel.load(tmp_path / "volume.nii")
    assert nibabel.aff2axcodes(ours.affine) == ("R", "A", "S")

    affine = np.array(expected["affine"])
    turn = nibabel.orientations.ornt_transform(nibabel.io_orientation(ours.affine), nibabel.io_orientation(affine))
    turned = ours.as_reoriented(turn)
    assert turned.shape == tuple(expected["shape"])
    assert np.allclose(turned.affine, affine, atol=1e-3)
    stored = (turned.get_fdata() - expected["scl_inter"]) / expected["scl_slope"]
    digest = hashlib.sha256(stored.astype(expected["stored_dtype"]).tobytes(order="F")).hexdigest()
    assert digest == expected["sha256_stored_F"]


@pytest.mark.peers
@pytest.mark.parametrize(
    "case",
    ["fruit_pacs/1005/20200705_165100_MR_SR/t2_tse_tra_5mm", "tiny_cases/generic__anatomical__002_non_isotropic/dicom"],
)
def test_the_network_sees_what_nnunet_reads_from_dcm2niix(shared_data: Data, tmp_path: Path, case: str) -> None:
    folder = shared_data(case)
    made = tool("dcm2niix", "-b", "n", "-f", "image", "-o", tmp_path, folder)
    assert (tmp_path / "image.nii").exists(), made.stdout
    theirs, properties = NibabelIOWithReorient().read_images([str(tmp_path / "image.nii")])
    network = to_network(read_series(series_files(folder)))
    assert np.allclose(network.array, theirs[0], rtol=1e-6)
    assert network.spacing == pytest.approx(properties["spacing"], rel=1e-4)


@given(angles=st.tuples(ANGLE, ANGLE, ANGLE))
def test_axes_follow_nibabel_at_every_angle(angles: tuple[float, float, float]) -> None:
    affine = affine_of(rotation(*angles), (3.0, 2.0, 1.0), (0, 0, 0))
    closeness = np.sort(np.abs(affine[:3, :3] / (3.0, 2.0, 1.0)).ravel())
    if np.diff(closeness).min() < 1e-6:
        return  # a tie has no right answer
    orientation = nibabel.io_orientation(LPS_TO_RAS @ affine)  # [array axis] -> (R, A or S, sign)
    order, flips = network_axes(affine)
    for target, axis, flip in zip((2, 1, 0), order, flips, strict=True):
        assert tuple(orientation[axis]) == (target, -1 if flip else 1)


@pytest.mark.long
def test_nnunet_reads_the_same_array_from_a_nifti_of_any_grid(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    image = np.rint(rng.normal(0, 300, (3, 4, 5))).astype(np.float32)
    for number, directions in enumerate(axis_orders()):
        affine = affine_of(rotation(20, -15, 30) @ directions, (3.0, 2.0, 1.0), (10, -20, 30))
        nibabel.save(nibabel.Nifti1Image(image, LPS_TO_RAS @ affine), tmp_path / "image.nii")
        theirs, _ = NibabelIOWithReorient().read_images([str(tmp_path / "image.nii")])
        series = read_series(write_slices(image, affine, tmp_path / str(number)))
        assert np.array_equal(to_network(series).array, theirs[0])


@pytest.mark.long
def test_masks_come_back_on_the_slices_they_were_seen_on(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    image = np.rint(rng.normal(0, 300, (3, 4, 5)))
    for number, directions in enumerate(axis_orders()):
        series = read_series(write_slices(image, affine_of(directions, (3, 2, 1), (0, 0, 0)), tmp_path / str(number)))
        network = to_network(series)
        masks = np.stack([network.array > 100, network.array < 0])
        back = from_network(masks, network, series)
        assert np.array_equal(back, np.stack([series.volume.array > 100, series.volume.array < 0]))


def test_masks_of_another_grid_are_refused(tmp_path: Path) -> None:
    image = np.zeros((4, 5, 6))
    series = read_series(ct_series(image, (1, 1, 1), tmp_path / "one"))
    other = read_series(ct_series(image, (1, 1, 1), tmp_path / "two", seed=1))
    network = to_network(series)
    masks = np.zeros((1, 4, 5, 6), dtype=bool)
    with pytest.raises(ResultError, match="do not lie on the series' grid"):
        from_network(masks[:, :3], network, series)
    with pytest.raises(ResultError, match="different frames of reference"):
        from_network(masks, to_network(other), series)
    moved = highdicom.Volume(network.array, affine_of(np.eye(3), (1, 1, 1), (0, 0, 0)), "PATIENT")
    moved._frame_of_reference_uid = network.frame_of_reference_uid
    with pytest.raises(ResultError, match="does not lie where the series lies"):
        from_network(masks, moved, series)


@pytest.mark.long
@given(
    tilt=st.floats(-30, 30).filter(lambda degrees: abs(degrees) > 2),
    turn=st.tuples(*[st.floats(-20, 20)] * 3),
    spacing=st.tuples(st.floats(1, 3), st.floats(0.5, 1.5), st.floats(0.5, 1.5)),
    axes=st.sampled_from(list(axis_orders())),
)
@example(tilt=26.375, turn=(0.0, 0.0, 0.0), spacing=(2.890625, 1.3828125, 1.0), axes=np.eye(3))
@examples(25)
def test_a_sphere_under_a_tilted_gantry_comes_back_to_its_place_and_is_round_when_straightened(
    tilt: float, turn: tuple[float, float, float], spacing: tuple[float, float, float], axes: np.ndarray
) -> None:
    shape, radius = (24, 40, 40), 8.0
    affine = affine_of(rotation(*turn) @ axes, spacing, (3.0, -7.0, 11.0))
    normal = affine[:3, 0] / spacing[0]
    along_column = affine[:3, 1] / spacing[1]
    affine[:3, 0] = spacing[0] * (normal + np.tan(np.radians(tilt)) * along_column)
    centre = affine[:3, :3] @ ((np.array(shape) - 1) / 2) + affine[:3, 3]
    points = np.moveaxis(np.indices(shape), 0, -1) @ affine[:3, :3].T + affine[:3, 3]
    sphere = np.linalg.norm(points - centre, axis=-1) < radius
    with tempfile.TemporaryDirectory() as folder:
        series = read_series(write_slices(np.where(sphere, 100.0, -1000.0), affine, Path(folder)))
    seen = {straighten: to_network(series, straighten=straighten) for straighten in (False, True)}
    for network in seen.values():
        assert np.array_equal(from_network(network.array[None] > 0, network, series)[0], series.volume.array > 0)
    network = seen[True]
    assert network.array.min() == -1000
    inside = np.argwhere(network.array > 0) @ network.affine[:3, :3].T + network.affine[:3, 3]
    # A slice moves by whole pixels: half of one may be off.
    assert np.linalg.norm(inside.mean(axis=0) - centre) < max(0.5, spacing[1] / 2)
    # Each point of a sphere has the mean square distance 3/5 r^2, a fifth along every axis.
    assert np.allclose(np.cov(inside.T), np.eye(3) * radius**2 / 5, atol=0.06 * radius**2)


def test_an_untilted_series_has_nothing_to_straighten(tmp_path: Path) -> None:
    series = read_series(ct_series(np.arange(60.0).reshape(3, 4, 5), (3, 1, 1), tmp_path))
    assert np.array_equal(to_network(series, straighten=True).array, to_network(series).array)


@pytest.mark.long
def test_the_straightened_gantry_of_a_real_scanner(shared_data: Data) -> None:
    """A plastic head: straightened it is higher by what its 54 slices lean, and its masks come back exactly."""
    series = read_series(series_files(shared_data("ct_gantry_tilt_phantom/S2010")))
    network = to_network(series, straighten=True)
    lean = 53 * 2.371 * np.tan(np.radians(18.5))
    assert network.spatial_shape[1] - 512 == pytest.approx(lean / 0.482, abs=2)
    head = network.array > -500
    back = from_network(head[None], network, series)[0]
    assert np.array_equal(back, series.volume.array > -500)

"""NIfTI files: one reader that refuses what could be read in two ways, and masks on the source's grid."""

import gzip
import itertools
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nnunetv2.imageio.nibabel_reader_writer import NibabelIOWithReorient

from tests.support.examples import examples
from tests.support.nifti_files import write_image
from voxtell import nifti
from voxtell.errors import FileError, OutOfMemoryError
from voxtell.nifti import ReadAs

AXES = ["".join(codes) for order in itertools.permutations(["RL", "AP", "SI"]) for codes in itertools.product(*order)]


@pytest.mark.parametrize("axes", AXES)
def test_masks_lie_on_the_grid_of_their_image_in_all_48_axis_orders(axes: str, tmp_path: Path) -> None:
    array = write_image(tmp_path / "case.nii.gz", axes)
    image = nifti.read_image(tmp_path / "case.nii.gz")
    np.testing.assert_array_equal(image.array, array.transpose(2, 1, 0))
    assert image.spacing == (3.0, 2.0, 1.0)
    nifti.write_mask(tmp_path / "mask.nii.gz", image.array > 60, image)
    source, mask = nibabel.load(tmp_path / "case.nii.gz"), nibabel.load(tmp_path / "mask.nii.gz")
    np.testing.assert_allclose(mask.affine, source.affine)
    np.testing.assert_array_equal(np.asarray(mask.dataobj), np.asarray(source.dataobj) > 60)


@pytest.mark.parametrize("axes", AXES)
@pytest.mark.parametrize("kind", [np.int16, np.float32, np.float64, np.uint8])
def test_it_reads_what_nnunet_reads(axes: str, kind: Any, tmp_path: Path) -> None:
    write_image(tmp_path / "case.nii.gz", axes, kind)
    theirs, properties = NibabelIOWithReorient().read_images((str(tmp_path / "case.nii.gz"),))
    ours = nifti.read_image(tmp_path / "case.nii.gz")
    np.testing.assert_array_equal(ours.array, theirs[0])
    assert ours.spacing == pytest.approx(tuple(properties["spacing"]))


def test_a_sheared_image_is_read_as_nnunet_reads_it(tmp_path: Path) -> None:
    sheared = np.array([[3, 0.06, 0, -90], [0, 3, 0.045, 11], [0, 0, 3, 94], [0, 0, 0, 1]])
    nibabel.save(nibabel.Nifti1Image(np.arange(60.0).reshape(3, 4, 5), sheared), tmp_path / "case.nii")
    theirs, properties = NibabelIOWithReorient().read_images((str(tmp_path / "case.nii"),))
    ours = nifti.read_image(tmp_path / "case.nii")
    np.testing.assert_array_equal(ours.array, theirs[0])
    assert ours.spacing == pytest.approx(tuple(properties["spacing"]), rel=1e-6)


@pytest.mark.parametrize("labels", [200, 70_000 // 256])
def test_it_writes_what_nnunet_writes(labels: int, tmp_path: Path) -> None:
    write_image(tmp_path / "case.nii.gz", "PIL")
    image = nifti.read_image(tmp_path / "case.nii.gz")
    values = np.arange(120).reshape(image.array.shape) * labels // 119
    _, properties = NibabelIOWithReorient().read_images((str(tmp_path / "case.nii.gz"),))
    NibabelIOWithReorient().write_seg(values, str(tmp_path / "theirs.nii.gz"), properties)
    nifti.write_mask(tmp_path / "ours.nii.gz", values, image)
    ours, theirs = (nibabel.load(tmp_path / f"{name}.nii.gz") for name in ("ours", "theirs"))
    np.testing.assert_array_equal(np.asarray(ours.dataobj), np.asarray(theirs.dataobj))
    assert ours.get_data_dtype() == theirs.get_data_dtype()
    np.testing.assert_allclose(ours.affine, theirs.affine)
    assert [int(ours.header[code]) for code in ("qform_code", "sform_code")] == [
        int(theirs.header[code]) for code in ("qform_code", "sform_code")
    ]


def saved(path: Path, array: np.ndarray | None = None, **fields: Any) -> None:
    """A NIfTI-1 file of 1 x 2 x 3 mm whose header fields are set by name, whatever sense that makes."""
    voxels = np.arange(60, dtype=np.int16).reshape(3, 4, 5) if array is None else array
    content = nibabel.Nifti1Image(voxels, np.diag([1.0, 2.0, 3.0, 1.0])).to_bytes()
    header = nibabel.Nifti1Header(content[:348], check=False)
    for name, value in fields.items():
        header[name] = value
    path.write_bytes(header.binaryblock + content[348:])


# -- left and right


def contradicting(path: Path) -> None:
    """sform RAS, qform LAS."""
    image = nibabel.Nifti1Image(np.arange(60, dtype=np.int16).reshape(3, 4, 5), np.eye(4))
    image.set_sform(np.diag([1.0, 2.0, 3.0, 1.0]), 2)
    image.set_qform(np.diag([-1.0, 2.0, 3.0, 1.0]), 1)
    nibabel.save(image, path)


def test_forms_that_contradict_each_other_are_refused_unless_one_is_named(tmp_path: Path) -> None:
    contradicting(tmp_path / "a.nii")
    with pytest.raises(FileError, match="RAS by the sform and LAS by the qform; say which is right"):
        nifti.read_image(tmp_path / "a.nii")
    by_sform = nifti.read_image(tmp_path / "a.nii", ReadAs("sform"))
    by_qform = nifti.read_image(tmp_path / "a.nii", ReadAs("qform"))
    np.testing.assert_array_equal(by_sform.array, by_qform.array[:, :, ::-1])
    nifti.write_mask(tmp_path / "mask.nii", by_qform.array > 30, by_qform)
    np.testing.assert_allclose(nibabel.load(tmp_path / "mask.nii").affine, np.diag([-1.0, 2.0, 3.0, 1.0]))


def test_a_file_without_orientation_is_refused_unless_its_axes_are_named(tmp_path: Path) -> None:
    saved(tmp_path / "a.nii", sform_code=0, qform_code=0)
    with pytest.raises(FileError, match="left and right are unknown"):
        nifti.read_image(tmp_path / "a.nii")
    ras, las, asl = (nifti.read_image(tmp_path / "a.nii", ReadAs(axes)) for axes in ("RAS", "las", "ASL"))
    np.testing.assert_array_equal(ras.array, las.array[:, :, ::-1])
    assert ras.spacing == (3.0, 2.0, 1.0)
    assert asl.spacing == (2.0, 1.0, 3.0)


@pytest.mark.parametrize("letters", ["RA", "RRS", "RLS", "XYZ", "sideways"])
def test_an_orientation_that_is_none_is_refused(letters: str, tmp_path: Path) -> None:
    saved(tmp_path / "a.nii", sform_code=0, qform_code=0)
    with pytest.raises(FileError, match="neither sform, qform nor three letters"):
        nifti.read_image(tmp_path / "a.nii", ReadAs(letters))


def test_a_form_that_is_not_there_cannot_be_taken(tmp_path: Path) -> None:
    saved(tmp_path / "a.nii", qform_code=0)
    with pytest.raises(FileError, match="has no qform; it has sform"):
        nifti.read_image(tmp_path / "a.nii", ReadAs("qform"))


@pytest.mark.parametrize("axes", AXES)
def test_letters_mean_the_directions_of_the_files_axes(axes: str, tmp_path: Path) -> None:
    write_image(tmp_path / "known.nii", axes)
    known = nibabel.load(tmp_path / "known.nii")
    stripped = nibabel.Nifti1Image(np.asarray(known.dataobj), None)
    stripped.header.set_zooms(known.header.get_zooms())
    nibabel.save(stripped, tmp_path / "stripped.nii")
    ours = nifti.read_image(tmp_path / "stripped.nii", ReadAs(axes))
    np.testing.assert_array_equal(ours.array, nifti.read_image(tmp_path / "known.nii").array)
    assert ours.spacing == (3.0, 2.0, 1.0)


@pytest.mark.parametrize(
    ("affine", "sentence"),
    [
        (np.diag([1.0, 0.0, 1.0, 1.0]), "an axis without direction or length"),
        (np.array([[1.0, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]), "lie in one plane"),
        (np.diag([1.0, np.nan, 1.0, 1.0]), "an axis without direction or length"),
    ],
)
def test_a_damaged_orientation_is_refused(affine: np.ndarray, sentence: str, tmp_path: Path) -> None:
    rows = {f"srow_{name}": affine[row] for row, name in enumerate("xyz")}
    saved(tmp_path / "a.nii", sform_code=2, **rows)
    with pytest.raises(FileError, match=sentence):
        nifti.read_image(tmp_path / "a.nii")


@pytest.mark.parametrize(("unit", "size"), [("meter", 0.003), ("micron", 3000.0), ("mm", 3.0), ("unknown", 3.0)])
def test_every_unit_of_length_becomes_millimetres(unit: str, size: float, tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(np.zeros((3, 4, 5), np.int16), np.diag([size, size, size, 1.0]))
    image.header.set_xyzt_units(unit)
    nibabel.save(image, tmp_path / "a.nii.gz")
    read = nifti.read_image(tmp_path / "a.nii.gz")
    assert read.spacing == pytest.approx((3.0, 3.0, 3.0))
    np.testing.assert_allclose(np.diag(read.grid.affine_mm), [3.0, 3.0, 3.0, 1.0], rtol=1e-6)
    nifti.write_mask(tmp_path / "mask.nii.gz", read.array > 0, read)
    assert nifti.read_image(tmp_path / "mask.nii.gz").spacing == pytest.approx((3.0, 3.0, 3.0))


# -- what is in the file


def test_trailing_axes_of_one_voxel_are_dropped_and_endings_may_be_in_capitals(tmp_path: Path) -> None:
    voxels = np.arange(60, dtype=np.int16).reshape(3, 4, 5, 1, 1)
    image = nibabel.Nifti1Image(voxels, np.eye(4))
    (tmp_path / "CT.NII.GZ").write_bytes(gzip.compress(image.to_bytes()))
    read = nifti.read_image(tmp_path / "CT.NII.GZ")
    np.testing.assert_array_equal(read.array, voxels[..., 0, 0].transpose(2, 1, 0))
    assert nifti.stem(tmp_path / "CT.NII.GZ") == "CT"
    nifti.write_mask(tmp_path / "mask.nii.gz", read.array > 30, read)
    assert nibabel.load(tmp_path / "mask.nii.gz").shape == (3, 4, 5)


@pytest.mark.parametrize(("slope", "inter"), [(0.0, 5.0), (2.0, -1024.0), (float("nan"), 1.0), (0.1, 0.0)])
def test_values_are_scaled_as_nibabel_does(slope: float, inter: float, tmp_path: Path) -> None:
    saved(tmp_path / "a.nii", scl_slope=slope, scl_inter=inter)
    expected = nibabel.load(tmp_path / "a.nii").get_fdata().astype(np.float32)
    np.testing.assert_array_equal(nifti.read_voxels(tmp_path / "a.nii")[0], expected)


def test_nan_is_refused_unless_its_value_is_named(tmp_path: Path) -> None:
    array = np.ones((3, 4, 5), np.float32)
    array[0, 0, :2] = np.nan
    saved(tmp_path / "a.nii", array=array)
    with pytest.raises(FileError, match="2 of 60 voxels are NaN"):
        nifti.read_image(tmp_path / "a.nii")
    read, _ = nifti.read_voxels(tmp_path / "a.nii", ReadAs(nan=-1024))
    assert read[0, 0].tolist() == [-1024, -1024, 1, 1, 1]
    array[0, 0, 0] = np.inf
    saved(tmp_path / "a.nii", array=array)
    with pytest.raises(FileError, match="infinite"):
        nifti.read_image(tmp_path / "a.nii", ReadAs(nan=0))


COLOUR = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])


def four_axes(path: Path) -> None:
    saved(path, array=np.zeros((2, 2, 2, 2), np.float32))


def two_axes(path: Path) -> None:
    saved(path, array=np.zeros((2, 2), np.float32))


def a_bomb(path: Path) -> None:
    """A few kilobytes that announce, and hold, more than may be read."""
    header = nibabel.Nifti1Header()
    header.set_data_dtype(np.uint8)
    header.set_data_shape((32767, 32767, 2))
    header["magic"], header["vox_offset"], header["sform_code"] = b"n+1", 352, 2
    path.write_bytes(gzip.compress(header.binaryblock + bytes(4) + bytes(2**22)))


def damaged(**fields: Any) -> Callable[[Path], None]:
    return lambda path: saved(path, **fields)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda path: None, "does not exist"),
        (lambda path: path.write_bytes(b"not an image"), "is no NIfTI file"),
        (lambda path: path.write_bytes(b""), "is no NIfTI file"),
        (lambda path: path.mkdir(), "cannot be read"),
        (lambda path: path.write_bytes(b"\x5c\x01\0\0" + bytes(200)), "cut off within its header"),
        (lambda path: path.write_bytes(b"\x1c\x02\0\0" + bytes(400)), "cut off within its header"),
        (four_axes, "4 axes"),
        (two_axes, "2 axes"),
        (lambda path: saved(path, array=np.zeros((2, 2, 2), np.complex64)), "holds complex64"),
        (lambda path: saved(path, array=np.zeros((2, 2, 2), COLOUR)), "holds colours"),
        (a_bomb, "announces a volume of"),
        (damaged(dim=[3, 3, 4, 6, 1, 1, 1, 1]), "is cut off: it holds 83 %"),
        (damaged(dim=[3, 3, 4, 4, 1, 1, 1, 1]), "holds more than the 48 voxels"),
        (damaged(dim=[3, 0, 4, 5, 1, 1, 1, 1]), "announces a volume of"),
        (damaged(vox_offset=-8), "voxels begin at byte -8"),
        (damaged(vox_offset=2**30), "voxels begin at byte"),
        (damaged(datatype=7), "cannot be read as NIfTI"),
        (damaged(scl_slope=3e38), "infinite"),
        (damaged(magic=b"ni1"), ".hdr/.img pair"),
    ],
)
def test_a_wrong_file_is_refused_in_one_sentence(make: Callable[[Path], object], sentence: str, tmp_path: Path) -> None:
    make(tmp_path / "a.nii")
    with pytest.raises(FileError, match=sentence):
        nifti.read_image(tmp_path / "a.nii")


def announcing(path: Path, size: int) -> Path:
    """A header of size x size x size float32 voxels, of which none follow."""
    header = nibabel.Nifti1Header()
    header.set_data_dtype(np.float32)
    header.set_data_shape((size, size, size))
    header["magic"], header["vox_offset"], header["sform_code"] = b"n+1", 352, 2
    header["srow_x"], header["srow_y"], header["srow_z"] = np.eye(4)[:3]
    path.write_bytes(header.binaryblock + bytes(4))
    return path


def test_a_volume_for_which_there_is_no_memory_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = announcing(tmp_path / "a.nii", 1000)
    monkeypatch.setattr(nifti, "free_host_bytes", lambda: 4 * 2**30)
    with pytest.raises(OutOfMemoryError, match=r"which take 9\.3 GiB of memory while they are read, and 4\.0 GiB are"):
        nifti.read_image(path)
    monkeypatch.setattr(nifti, "free_host_bytes", lambda: 16 * 2**30)
    with pytest.raises(FileError, match="holds 0 % of the voxels"):
        nifti.read_image(path)


READS_WITHIN = """
import resource, sys
from pathlib import Path
from voxtell import errors, nifti
most = int(Path("/proc/self/statm").read_text().split()[0]) * 4096 + 2**30
resource.setrlimit(resource.RLIMIT_AS, (most, most))
if sys.argv[2] == "unforeseen":
    nifti.free_host_bytes = lambda: 2**40
try:
    nifti.read_voxels(Path(sys.argv[1]))
except errors.OutOfMemoryError as error:
    print(error)
"""


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="limits on the address space are Linux's")
@pytest.mark.parametrize(("estimate", "sentence"), [("foreseen", "announces a volume"), ("unforeseen", "holds more")])
def test_in_a_process_with_little_memory_a_large_volume_is_a_sentence(
    other_programs: None, tmp_path: Path, estimate: str, sentence: str
) -> None:
    path = announcing(tmp_path / "a.nii", 900)  # 2.9 GB
    done = subprocess.run(
        [sys.executable, "-c", READS_WITHIN, str(path), estimate], capture_output=True, text=True, check=True
    )
    assert sentence in done.stdout
    assert "try again when other programs have ended" in done.stdout


@pytest.mark.long
@examples(200)
@given(data=st.data())
def test_no_cut_and_no_flipped_byte_of_a_compressed_file_passes_unseen(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Either the file is refused or every voxel is what it was: gzip's checksum is read to the end."""
    rng = np.random.default_rng(3)
    array = rng.integers(-1000, 1000, (6, 7, 8)).astype(np.int16)
    whole = gzip.compress(nibabel.Nifti1Image(array, np.eye(4)).to_bytes(), mtime=0)
    content = bytearray(whole)
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(whole) - 1)) :]
    else:
        content[data.draw(st.integers(0, len(whole) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    path = tmp_path_factory.mktemp("damaged") / "a.nii.gz"
    path.write_bytes(content)
    try:
        read, _ = nifti.read_voxels(path)
    except FileError:
        return
    np.testing.assert_array_equal(read, array)


@pytest.mark.long
@examples(300)
@given(at=st.integers(0, 347), value=st.integers(0, 255))
def test_no_byte_of_a_header_ends_in_anything_but_an_image_or_a_sentence(
    at: int, value: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    content = bytearray(nibabel.Nifti1Image(np.ones((3, 4, 5), np.int16), np.eye(4)).to_bytes())
    content[at] = value
    path = tmp_path_factory.mktemp("header") / "a.nii"
    path.write_bytes(content)
    try:
        read = nifti.read_image(path)
    except FileError:
        return
    assert np.isfinite(read.array).all()
    assert all(size > 0 for size in read.spacing)

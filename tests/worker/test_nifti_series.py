"""`nifti-to-dicom`: a NIfTI image becomes a series on the same grid, of a patient and study of its own."""

import itertools
from pathlib import Path

import nibabel
import numpy as np
import pytest
from pydicom import dcmread
from typer.testing import CliRunner

from dicom_node.errors import SeriesError
from dicom_node.series import read_series
from dicom_node.volume import to_network
from tests.support.images import iod_errors
from tests.support.nifti_files import write_image
from voxtell.errors import FileError
from voxtell.nifti import read_image
from worker.__main__ import app
from worker.steps.nifti_series import series_from_nifti

AXES = ["".join(codes) for order in itertools.permutations(["RL", "AP", "SI"]) for codes in itertools.product(*order)]


@pytest.mark.parametrize("axes", AXES)
def test_the_series_shows_the_network_what_the_file_shows_it(axes: str, tmp_path: Path) -> None:
    write_image(tmp_path / "case.nii.gz", axes)
    image = read_image(tmp_path / "case.nii.gz")
    seen = to_network(read_series(series_from_nifti(tmp_path / "case.nii.gz", tmp_path / "series")))
    np.testing.assert_array_equal(seen.array, image.array)
    assert seen.spacing == pytest.approx(image.spacing)


def test_each_image_is_a_patient_and_a_study_of_its_own_and_the_same_image_the_same(tmp_path: Path) -> None:
    headers = []
    for name, value in (("a", 0), ("b", 1), ("again", 0)):
        voxels = np.full((4, 5, 6), value, np.int16)
        nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), tmp_path / f"{name}.nii.gz")
        headers.append(dcmread(series_from_nifti(tmp_path / f"{name}.nii.gz", tmp_path / name)[0]))
    one, other, again = headers
    for keyword in ("PatientID", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID"):
        assert one[keyword].value != other[keyword].value
        assert one[keyword].value == again[keyword].value
    assert one.PatientName == "a"
    assert "BodyPartExamined" not in one


@pytest.mark.peers
def test_the_command_takes_who_and_what_it_is(tmp_path: Path) -> None:
    write_image(tmp_path / "t1.nii.gz")
    words = {
        "--patient-id": "P7",
        "--name": "Muster^Anna",
        "--accession": "A9",
        "--description": "Brain",
        "--body-part": "HEAD",
        "--modality": "MR",
    }
    command = ["nifti-to-dicom", str(tmp_path / "t1.nii.gz"), "-o", str(tmp_path / "out")]
    done = CliRunner().invoke(app, [*command, *itertools.chain(*words.items())], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    header = dcmread(next((tmp_path / "out").iterdir()))
    assert [header.PatientID, header.PatientName, header.AccessionNumber, header.StudyDescription] == [
        "P7",
        "Muster^Anna",
        "A9",
        "Brain",
    ]
    assert [header.BodyPartExamined, header.Modality] == ["HEAD", "MR"]
    assert iod_errors(header, tmp_path) == []


def test_images_of_one_patient_and_accession_are_one_study(tmp_path: Path) -> None:
    studies = []
    for name, value in (("a", 0), ("b", 1)):
        voxels = np.full((4, 5, 6), value, np.int16)
        nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), tmp_path / f"{name}.nii")
        command = ["nifti-to-dicom", str(tmp_path / f"{name}.nii"), "-o", str(tmp_path / name), "--patient-id", "P"]
        for extra in ([], ["--accession", "A"]):
            command[3] = str(tmp_path / f"{name}-{len(extra)}")
            CliRunner().invoke(app, [*command, *extra], catch_exceptions=False)
            studies.append(dcmread(next(Path(command[3]).iterdir())).StudyInstanceUID)
    alone_a, together_a, alone_b, together_b = studies
    assert together_a == together_b
    assert len({alone_a, alone_b, together_a}) == 3


def test_mr_values_that_are_no_whole_numbers_come_back(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    voxels = rng.uniform(0, 1, (6, 7, 8)).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), tmp_path / "t1.nii")
    command = ["nifti-to-dicom", str(tmp_path / "t1.nii"), "-o", str(tmp_path / "out"), "--modality", "MR"]
    CliRunner().invoke(app, command, catch_exceptions=False)
    seen = to_network(read_series(sorted((tmp_path / "out").iterdir())))
    np.testing.assert_allclose(seen.array, read_image(tmp_path / "t1.nii").array, atol=1 / 65535)


def sheared(path: Path) -> None:
    affine = np.array([[3, 0.06, 0, 0], [0, 3, 0, 0], [0, 0, 3, 0], [0, 0, 0, 1]])
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 5, 6), np.int16), affine), path)


def single_slice(path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 5, 1), np.int16), np.eye(4)), path)


def no_hounsfield_units(path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(np.full((4, 5, 6), 1e5, np.float32), np.eye(4)), path)


def cut_off(path: Path) -> None:
    write_image(path)
    path.write_bytes(path.read_bytes()[:-30])


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (sheared, "sheared: its rows and columns meet at 88.85 degrees"),
        (single_slice, "is a single slice"),
        (no_hounsfield_units, "values reach from 0 to 100000"),
        (cut_off, "is damaged or was cut off"),
    ],
)
def test_what_dicom_cannot_hold_is_refused_before_anything_is_written(make, sentence: str, tmp_path: Path) -> None:
    make(tmp_path / "a.nii.gz")
    with pytest.raises((FileError, SeriesError), match=sentence):
        series_from_nifti(tmp_path / "a.nii.gz", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_that_holds_files_is_left_alone(tmp_path: Path) -> None:
    write_image(tmp_path / "t1.nii.gz")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "other.dcm").touch()
    done = CliRunner().invoke(app, ["nifti-to-dicom", str(tmp_path / "t1.nii.gz"), "-o", str(tmp_path / "out")])
    assert done.exit_code == 2
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["other.dcm"]

"""NIfTI files from public bug reports: every command gives each the same, right outcome."""

from collections.abc import Callable, Sequence
from pathlib import Path

import nibabel
import numpy as np
import pytest

from dicom_node.errors import SeriesError
from dicom_node.series import read_series
from dicom_node.volume import to_network
from voxtell import predict
from voxtell.errors import FileError
from voxtell.nifti import ReadAs, read_image
from worker.steps.nifti_series import series_from_nifti

Case = Callable[..., Path]

SOUND = ("nifti-metre-units", "nifti-trailing-dimension", "nifti-uppercase-ending", "nifti-slope-zero")
"""One CT in four disguises: they are read alike."""


class FindsNothing:
    """An engine whose masks are empty."""

    def doubts(self, _image: np.ndarray) -> list[str]:
        return []

    def __call__(self, image: np.ndarray, prompts: Sequence[str], **_options: object) -> np.ndarray:
        return np.zeros((len(prompts), *image.shape), bool)


def file_of(case: Path) -> Path:
    (path,) = [path for path in case.iterdir() if path.name.lower() == "ct.nii.gz"]
    return path


@pytest.mark.parametrize("name", SOUND)
def test_a_sound_file_in_an_unusual_form_is_taken(name: str, shared_case: Case, tmp_path: Path) -> None:
    path = file_of(shared_case(name))
    read = read_image(path)
    assert read.array.shape == (30, 101, 122)
    assert read.spacing == pytest.approx((3, 3, 3))
    assert len(series_from_nifti(path, tmp_path / "series")) == 30
    (job,) = predict.jobs_for([path.parent], ["liver"])  # in a folder, too
    assert job.case.lower() == "ct"


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("nifti-nan-background", "voxels are NaN"),
        ("nifti-gz-truncated", "is damaged or was cut off"),
        ("nifti-complex", "holds complex64"),
        ("nifti-qform-sform-disagree", "contradicts itself: its axes run RAS by the sform and LAS by the qform"),
    ],
)
def test_a_file_that_says_no_one_thing_is_refused_by_every_command(
    name: str, sentence: str, shared_case: Case, tmp_path: Path
) -> None:
    path = file_of(shared_case(name))
    with pytest.raises(FileError, match=sentence):
        series_from_nifti(path, tmp_path / "series")
    (outcome,) = predict.predict_files(FindsNothing(), predict.jobs_for([path], ["liver"]), tmp_path / "masks")
    assert sentence in str(outcome.problem)
    assert [*tmp_path.iterdir()] == [tmp_path / "masks"]
    assert list((tmp_path / "masks").iterdir()) == []


def test_nan_may_be_given_a_value(shared_case: Case) -> None:
    path = file_of(shared_case("nifti-nan-background"))
    air = np.isnan(np.asarray(nibabel.load(path).dataobj))
    read = read_image(path, ReadAs(nan=-1024)).array
    assert (read[air.transpose(2, 1, 0)] == -1024).all()


@pytest.mark.long
@pytest.mark.parametrize("form", ["sform", "qform"])
def test_both_commands_see_the_same_side(form: str, shared_case: Case, tmp_path: Path) -> None:
    """With the form named, the phantom's left parotid lies where the form says, for either command."""
    folder = shared_case("nifti-qform-sform-disagree")
    parotid = np.load(folder / "left_parotid_xyz.npz")["m"]
    image = read_image(folder / "phantom.nii.gz", ReadAs(form))
    files = series_from_nifti(folder / "phantom.nii.gz", tmp_path / "series", read_as=ReadAs(form))
    np.testing.assert_array_equal(to_network(read_series(files)).array, image.array)
    centre = image.grid.affine_mm @ [*np.argwhere(parotid).mean(axis=0), 1]
    assert np.sign(centre[0]) == {"sform": -1, "qform": 1}[form]  # RAS: left is negative; only the sform is right here


def test_a_sheared_image_is_predicted_and_is_no_dicom_series(shared_case: Case, tmp_path: Path) -> None:
    path = file_of(shared_case("nifti-sheared-sform"))
    (outcome,) = predict.predict_files(FindsNothing(), predict.jobs_for([path], ["liver"]), tmp_path)
    assert outcome.problem is None
    with pytest.raises(SeriesError, match="sheared"):
        series_from_nifti(path, tmp_path / "series")


def test_one_slice_has_a_mask_and_is_no_dicom_series(shared_case: Case, tmp_path: Path) -> None:
    path = file_of(shared_case("nifti-one-slice"))
    (outcome,) = predict.predict_files(FindsNothing(), predict.jobs_for([path], ["liver"]), tmp_path)
    assert nibabel.load(outcome.files[0]).shape == (122, 101, 1)
    with pytest.raises(SeriesError, match="single slice"):
        series_from_nifti(path, tmp_path / "series")
    assert not (tmp_path / "series").exists()


def test_of_a_folder_with_one_bad_image_the_others_are_segmented(shared_case: Case, tmp_path: Path) -> None:
    jobs = predict.jobs_for([shared_case("nifti-batch-with-one-bad")], ["liver"])
    outcomes = list(predict.predict_files(FindsNothing(), jobs, tmp_path))
    assert [outcome.problem is None for outcome in outcomes] == [True, False, True]
    assert "b_nan.nii.gz" in str(outcomes[1].problem)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a_good_liver.nii.gz", "c_good_liver.nii.gz"]

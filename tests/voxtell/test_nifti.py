"""NIfTI files: upstream's names, the source's grid, whole files only."""

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

import nibabel
import numpy as np
import pytest

from voxtell import nifti
from voxtell.errors import FileError, PromptError
from voxtell.nifti import FileJob


class Threshold:
    """A segmenter for tests: the prompt is the grey value above which a voxel belongs to the mask."""

    def __init__(self) -> None:
        self.calls: list[tuple[Sequence[str], object]] = []

    def __call__(self, image, prompts, *, spacing=None, progress=None):
        self.calls.append((prompts, spacing))
        progress(1.0)
        return np.stack([image > float(prompt.split()[-1]) for prompt in prompts])


def write_image(path: Path, axes: str = "RAS") -> np.ndarray:
    """Voxels that tell their place, spacing 1, 2, 3 mm along patient R, A, S; returns the array (R, A, S)."""
    array = np.arange(4 * 5 * 6, dtype=np.float32).reshape(4, 5, 6)
    ras = nibabel.Nifti1Image(array, np.diag([1.0, 2.0, 3.0, 1.0]))
    to = nibabel.orientations.ornt_transform(
        nibabel.orientations.axcodes2ornt("RAS"), nibabel.orientations.axcodes2ornt(axes)
    )
    nibabel.save(ras.as_reoriented(to), path)
    return array


@pytest.mark.parametrize("prompt", ["right kidney", "Left-kidney (cyst), 2 cm", "ärm", "x" * 150])
def test_file_names_are_those_of_the_upstream_command(prompt: str) -> None:
    expected = {
        "right kidney": "right_kidney",
        "Left-kidney (cyst), 2 cm": "Left_kidney__cyst___2_cm",
        "ärm": "ärm",
        "x" * 150: "x" * 150,
    }
    assert nifti.file_safe(prompt) == expected[prompt]


def test_long_prompts_are_cut_and_told_apart_as_upstream_does() -> None:
    assert nifti.file_safe("x" * 300) == "x" * 141 + "_02fd6825"
    assert nifti.file_safe("Ab " * 100) == "Ab_" * 47 + "_c36a58c4"
    assert nifti.file_safe("ä" * 150) == "ä" * 70 + "_d3fe91f1"


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


def test_each_prompt_has_its_file(tmp_path: Path) -> None:
    write_image(tmp_path / "case.001.nii.gz", "LPI")
    segment, seen = Threshold(), []
    jobs = nifti.jobs_for([tmp_path], ["above 60", "above 100"])
    written = nifti.predict_files(segment, jobs, tmp_path / "out", progress=lambda job, done: seen.append(done))
    assert [path.name for path in written] == ["case.001_above_60.nii.gz", "case.001_above_100.nii.gz"]
    assert [int(np.asarray(nibabel.load(path).dataobj).sum()) for path in written] == [59, 19]
    assert segment.calls == [(("above 60", "above 100"), (3.0, 2.0, 1.0))]
    assert seen == [1.0]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(path.name for path in written)


def test_combined_masks_number_the_prompts_and_later_ones_win(tmp_path: Path) -> None:
    array = write_image(tmp_path / "case.nii")
    jobs = nifti.jobs_for([tmp_path / "case.nii"], ["above 60", "above 100"])
    (path,) = nifti.predict_files(Threshold(), jobs, tmp_path / "out", save_combined=True)
    assert path.name == "case.nii.gz"
    expected = (array > 60).astype(int) + (array > 100)
    np.testing.assert_array_equal(np.asarray(nibabel.load(path).dataobj), expected)


def test_without_overwriting_only_incomplete_cases_run(tmp_path: Path) -> None:
    write_image(tmp_path / "a.nii.gz")
    write_image(tmp_path / "b.nii.gz")
    segment, out = Threshold(), tmp_path / "out"
    jobs = nifti.jobs_for([tmp_path], ["above 60", "above 100"])
    nifti.predict_files(segment, jobs, out)
    (out / "b_above_60.nii.gz").unlink()
    nifti.predict_files(segment, jobs, out, overwrite=False)
    assert len(segment.calls) == 3
    assert (out / "b_above_60.nii.gz").exists()


def test_jobs_bind_prompts_to_images(tmp_path: Path) -> None:
    text = '[{"image": "a.nii.gz", "prompts": ["liver"]}, {"image": "b.nii", "prompts": ["spleen", "aorta"]}]'
    expected = [FileJob(Path("a.nii.gz"), ("liver",)), FileJob(Path("b.nii"), ("spleen", "aorta"))]
    (tmp_path / "jobs.json").write_text(text)
    assert nifti.read_jobs(text) == nifti.read_jobs(str(tmp_path / "jobs.json")) == expected


@pytest.mark.parametrize("text", ["[{}]", "[1]", "[", "nowhere.json"])
def test_jobs_that_make_no_sense_are_refused(text: str) -> None:
    with pytest.raises(FileError, match="jobs"):
        nifti.read_jobs(text)


def test_results_that_would_share_a_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(PromptError, match="'cyst!' and 'cyst\\?' would both write a_cyst_"):
        nifti.predict_files(Threshold(), [FileJob(tmp_path / "a.nii", ("cyst!", "cyst?"))], tmp_path)
    with pytest.raises(FileError, match=r"would both write a_liver\.nii\.gz"):
        nifti.predict_files(
            Threshold(), nifti.jobs_for([tmp_path / "x" / "a.nii", tmp_path / "y" / "a.nii.gz"], ["liver"]), tmp_path
        )


def four_axes(path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(np.zeros((2, 2, 2, 2), np.float32), np.eye(4)), path)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda path: None, "does not exist"),
        (lambda path: path.write_bytes(b"not an image"), "cannot be read as NIfTI"),
        (four_axes, "4 axes"),
    ],
)
def test_a_wrong_file_is_refused_in_one_sentence(make: Callable[[Path], object], sentence: str, tmp_path: Path) -> None:
    make(tmp_path / "a.nii")
    with pytest.raises(FileError, match=sentence):
        nifti.read_image(tmp_path / "a.nii")


def test_a_folder_without_images_and_a_file_of_another_kind_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"no \.nii or \.nii\.gz file"):
        nifti.jobs_for([tmp_path], ["liver"])
    with pytest.raises(FileError, match="is no NIfTI file"):
        nifti.predict_files(Threshold(), nifti.jobs_for([tmp_path / "a.dcm"], ["liver"]), tmp_path)

"""The upstream NIfTI command as a function: file names, label maps, an outcome for each image."""

from collections.abc import Sequence
from pathlib import Path

import nibabel
import numpy as np
import pytest

from tests.support.nifti_files import write_image
from voxtell import predict
from voxtell.errors import FileError, PromptError
from voxtell.predict import FileJob


class Threshold:
    """A segmenter for tests: the prompt is the grey value above which a voxel belongs to the mask."""

    def __init__(self) -> None:
        self.calls: list[tuple[Sequence[str], object]] = []

    def doubts(self, _image) -> list[str]:
        return []

    def __call__(self, image, prompts, *, spacing=None, progress=None):
        self.calls.append((prompts, spacing))
        progress(1.0)
        return np.stack([image > float(prompt.split()[-1]) for prompt in prompts])


@pytest.mark.parametrize("prompt", ["right kidney", "Left-kidney (cyst), 2 cm", "ärm", "x" * 150])
def test_file_names_are_those_of_the_upstream_command(prompt: str) -> None:
    expected = {
        "right kidney": "right_kidney",
        "Left-kidney (cyst), 2 cm": "Left_kidney__cyst___2_cm",
        "ärm": "ärm",
        "x" * 150: "x" * 150,
    }
    assert predict.file_safe(prompt) == expected[prompt]


def test_long_prompts_are_cut_and_told_apart_as_upstream_does() -> None:
    assert predict.file_safe("x" * 300) == "x" * 141 + "_02fd6825"
    assert predict.file_safe("Ab " * 100) == "Ab_" * 47 + "_c36a58c4"
    assert predict.file_safe("ä" * 150) == "ä" * 70 + "_d3fe91f1"


def test_each_prompt_has_its_file(tmp_path: Path) -> None:
    write_image(tmp_path / "case.001.nii.gz", "LPI")
    segment, seen = Threshold(), []
    jobs = predict.jobs_for([tmp_path], ["above 60", "above 100"])
    done = list(predict.predict_files(segment, jobs, tmp_path / "out", progress=lambda job, part: seen.append(part)))
    written = [path for outcome in done for path in outcome.files]
    assert [path.name for path in written] == ["case.001_above_60.nii.gz", "case.001_above_100.nii.gz"]
    assert [int(np.asarray(nibabel.load(path).dataobj).sum()) for path in written] == [59, 19]
    assert segment.calls == [(("above 60", "above 100"), (3.0, 2.0, 1.0))]
    assert seen == [1.0]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(path.name for path in written)


def test_combined_masks_number_the_prompts_and_later_ones_win(tmp_path: Path) -> None:
    array = write_image(tmp_path / "case.nii")
    jobs = predict.jobs_for([tmp_path / "case.nii"], ["above 60", "above 100"])
    ((path,),) = (one.files for one in predict.predict_files(Threshold(), jobs, tmp_path / "out", save_combined=True))
    assert path.name == "case.nii.gz"
    expected = (array > 60).astype(int) + (array > 100)
    np.testing.assert_array_equal(np.asarray(nibabel.load(path).dataobj), expected)


def test_without_overwriting_only_incomplete_cases_run(tmp_path: Path) -> None:
    write_image(tmp_path / "a.nii.gz")
    write_image(tmp_path / "b.nii.gz")
    segment, out = Threshold(), tmp_path / "out"
    jobs = predict.jobs_for([tmp_path], ["above 60", "above 100"])
    assert [outcome.kept for outcome in predict.predict_files(segment, jobs, out)] == [False, False]
    (out / "b_above_60.nii.gz").unlink()
    assert [outcome.kept for outcome in predict.predict_files(segment, jobs, out, overwrite=False)] == [True, False]
    assert len(segment.calls) == 3
    assert (out / "b_above_60.nii.gz").exists()


def test_jobs_bind_prompts_to_images(tmp_path: Path) -> None:
    text = '[{"image": "a.nii.gz", "prompts": ["liver"]}, {"image": "b.nii", "prompts": ["spleen", "aorta"]}]'
    expected = [FileJob(Path("a.nii.gz"), ("liver",)), FileJob(Path("b.nii"), ("spleen", "aorta"))]
    (tmp_path / "jobs.json").write_text(text)
    assert predict.read_jobs(text) == predict.read_jobs(str(tmp_path / "jobs.json")) == expected


@pytest.mark.parametrize("text", ["[{}]", "[1]", "[", "nowhere.json"])
def test_jobs_that_make_no_sense_are_refused(text: str) -> None:
    with pytest.raises(FileError, match="jobs"):
        predict.read_jobs(text)


def test_results_that_would_share_a_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(PromptError, match="'cyst!' and 'cyst\\?' would both write a_cyst_"):
        predict.predict_files(Threshold(), [FileJob(tmp_path / "a.nii", ("cyst!", "cyst?"))], tmp_path)
    with pytest.raises(FileError, match=r"would both write a_liver\.nii\.gz"):
        predict.predict_files(
            Threshold(), predict.jobs_for([tmp_path / "x" / "a.nii", tmp_path / "y" / "a.nii.gz"], ["liver"]), tmp_path
        )


def test_one_bad_image_is_named_and_the_others_are_segmented(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        write_image(tmp_path / f"{name}.nii.gz")
    (tmp_path / "b.nii.gz").write_bytes((tmp_path / "b.nii.gz").read_bytes()[:-20])
    first, second, third = predict.predict_files(
        Threshold(), predict.jobs_for([tmp_path], ["above 60"]), tmp_path / "out"
    )
    assert first.problem is third.problem is None
    assert [path.exists() for one in (first, third) for path in one.files] == [True, True]
    assert "b.nii.gz is damaged or was cut off" in str(second.problem)
    assert second.files == ()


def test_a_prompt_that_no_image_can_be_asked_for_ends_all(tmp_path: Path) -> None:
    write_image(tmp_path / "a.nii.gz")

    class Refusing(Threshold):
        def __call__(self, *_: object, **__: object) -> np.ndarray:
            raise PromptError("the prompt is empty")

    with pytest.raises(PromptError, match="empty"):
        list(predict.predict_files(Refusing(), predict.jobs_for([tmp_path], [" "]), tmp_path / "out"))


def test_a_folder_without_images_and_a_file_of_another_kind_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"no \.nii or \.nii\.gz file"):
        predict.jobs_for([tmp_path], ["liver"])
    with pytest.raises(FileError, match="is no NIfTI file"):
        predict.predict_files(Threshold(), predict.jobs_for([tmp_path / "a.dcm"], ["liver"]), tmp_path)

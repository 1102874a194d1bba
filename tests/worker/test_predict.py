"""`predict`: upstream's command line, word for word, on files."""

import errno
import json
import os
from pathlib import Path

import nibabel
import numpy as np
import pytest
from typer.testing import CliRunner, Result

from worker.__main__ import app
from worker.cli import predict as predict_command


class Stub:
    """A segmenter that finds for each prompt as many voxels as it has letters."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, ...]] = []

    def __call__(self, image: np.ndarray, prompts, *, spacing=None, progress=None) -> np.ndarray:
        self.asked.append(tuple(prompts))
        masks = np.zeros((len(prompts), image.size), bool)
        for mask, prompt in zip(masks, prompts, strict=True):
            mask[: len(prompt)] = True
        return masks.reshape(len(prompts), *image.shape)

    def doubts(self, _image) -> list[str]:
        return []

    def unlearnt(self, prompts) -> list[str]:
        return [prompt for prompt in prompts if prompt == "left knee"]


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Stub:
    """In the place of the model; what it was loaded with is in `stub.settings` and `stub.use_bank`."""
    made = Stub()

    def load_segmenter(settings, *, use_bank: bool = True) -> Stub:
        made.settings, made.use_bank = settings, use_bank
        return made

    monkeypatch.setattr(predict_command, "load_engine", load_segmenter)
    return made


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """A folder with two scans."""
    folder = tmp_path / "scans"
    folder.mkdir()
    for name in ("a", "b"):
        nibabel.save(nibabel.Nifti1Image(np.zeros((4, 5, 6), np.int16), np.eye(4)), folder / f"{name}.nii.gz")
    return folder


def predict(*words: object) -> Result:
    return CliRunner().invoke(app, ["predict", *map(str, words)], catch_exceptions=False)


def made_in(folder: Path) -> dict[str, int]:
    """Result file -> voxels that are not zero."""
    return {path.name: int(np.count_nonzero(nibabel.load(path).dataobj)) for path in sorted(folder.iterdir())}


def test_several_images_and_prompts_after_one_flag_each(stub: Stub, scans: Path, tmp_path: Path) -> None:
    done = predict(
        "-i", scans / "a.nii.gz", scans / "b.nii.gz", "-o", tmp_path / "out", "-p", "liver", "right kidney", "--verbose"
    )
    assert done.exit_code == 0, done.output
    expected = {f"{case}_{name}.nii.gz": len(name) for case in "ab" for name in ("liver", "right_kidney")}
    assert made_in(tmp_path / "out") == expected
    assert stub.asked == [("liver", "right kidney")] * 2
    assert "a.nii.gz: liver, right kidney" in done.stderr


def test_a_folder_of_images_and_one_file_for_all_prompts(stub: Stub, scans: Path, tmp_path: Path) -> None:
    predict("-i", scans, "-o", tmp_path / "out", "-p", "liver", "spine", "--save-combined")
    assert made_in(tmp_path / "out") == {"a.nii.gz": 5, "b.nii.gz": 5}  # later prompts over earlier ones


def test_images_as_arguments_and_a_flag_before_each_prompt(stub: Stub, scans: Path, tmp_path: Path) -> None:
    predict("-p", "liver", "-p", "spine", scans / "a.nii.gz", "-o", tmp_path / "out")
    assert stub.asked == [("liver", "spine")]


@pytest.mark.parametrize("as_file", [True, False])
def test_jobs_bind_prompts_to_images(stub: Stub, scans: Path, tmp_path: Path, as_file: bool) -> None:
    jobs = json.dumps([{"image": str(scans / "a.nii.gz"), "prompts": ["liver"]}])
    if as_file:
        (tmp_path / "jobs.json").write_text(jobs)
        jobs = str(tmp_path / "jobs.json")
    predict("-o", tmp_path / "out", "--jobs", jobs)
    assert made_in(tmp_path / "out") == {"a_liver.nii.gz": 5}


def test_what_the_model_was_never_taught_is_said(stub: Stub, scans: Path, tmp_path: Path) -> None:
    result = predict(scans, "-p", "liver", "-p", "left knee", "-o", tmp_path / "out")
    assert "left knee: not known to this model" in result.stderr
    assert "liver: not known" not in result.stderr


def test_results_that_exist_are_left(stub: Stub, scans: Path, tmp_path: Path) -> None:
    words = ("-i", scans, "-o", tmp_path / "out", "-p", "liver", "--no-overwrite")
    predict(*words)
    (tmp_path / "out" / "b_liver.nii.gz").unlink()
    predict(*words)
    assert len(stub.asked) == 3


def test_where_every_result_exists_nothing_need_be_writable(
    stub: Stub, scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("-i", scans, "-o", tmp_path / "out", "-p", "liver", "--no-overwrite")
    predict(*words)

    def read_only(**_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr("worker.results.writable.tempfile.TemporaryFile", read_only)
    assert predict(*words).exit_code == 0
    (tmp_path / "out" / "b_liver.nii.gz").unlink()
    with pytest.raises(OSError, match="Read-only") as refused:
        predict(*words)
    assert refused.value.filename == str(tmp_path / "out")
    assert len(stub.asked) == 2


def test_the_banks_prompts_are_listed_without_a_model(stub: Stub, tmp_path: Path) -> None:
    bank = tmp_path / "bank.npz"
    np.savez(bank, labels=np.array(["Liver", "left kidney"]), embeddings=np.zeros((2, 4), np.float16))
    assert predict("--list-embeddings", "--embeddings", bank).stdout.split("\n")[:2] == ["liver", "left kidney"]
    without = predict("--list-embeddings")
    assert without.exit_code == 2
    assert "no embedding bank" in without.stderr


def test_model_device_and_bank_are_passed_on(stub: Stub, scans: Path, tmp_path: Path) -> None:
    words = ("-i", scans, "-o", tmp_path / "out", "-p", "liver")
    predict(*words, "-m", tmp_path / "model", "--device", "cuda", "--gpu", 2, "--no-precomputed")
    assert (stub.settings.model, stub.settings.device, stub.use_bank) == (str(tmp_path / "model"), "cuda:2", False)
    predict(*words, "--embeddings", tmp_path / "bank.npz", "--device", "cpu", "--gpu", 0)
    assert (stub.settings.bank, stub.settings.device, stub.use_bank) == (tmp_path / "bank.npz", "cpu", True)


@pytest.mark.parametrize("words", [(), ("-p", "liver"), ("--jobs", "[]", "-p", "liver")])
def test_half_a_command_is_wrong_usage(stub: Stub, tmp_path: Path, words: tuple[str, ...]) -> None:
    done = predict("-o", tmp_path / "out", *words)
    assert done.exit_code == 2
    assert "give images and prompts" in done.stderr


@pytest.mark.parametrize("place", ["a file", "a file/below it", "/proc"])
def test_a_folder_that_cannot_be_written_is_found_before_the_model_is_loaded(
    stub: Stub, scans: Path, tmp_path: Path, place: str
) -> None:
    (tmp_path / "a file").write_text("a letter")
    with pytest.raises(OSError, match=r"Not a directory|No such file or directory") as refused:
        predict("-i", scans, "-o", tmp_path / place, "-p", "liver")
    assert refused.value.filename == str(tmp_path / place)
    assert not hasattr(stub, "settings")


def test_a_folder_for_results_must_be_named(stub: Stub, scans: Path) -> None:
    done = predict("-i", scans, "-p", "liver")
    assert done.exit_code == 2
    assert "-o FOLDER" in done.stderr

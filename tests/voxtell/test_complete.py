"""Completed data sets: what most models say stands in for contours that nobody drew, and for no others."""

import json
from collections.abc import Sequence
from pathlib import Path

import nibabel
import numpy as np
import pytest

from voxtell.nifti import read_image
from voxtell.predict import Masks
from voxtell.training.complete import complete
from voxtell.training.dataset import Contour, read_dataset

SHAPE = (4, 5, 6)
STRUCTURES = ("cord", "larynx", "liver", "mandible")


class Draws:
    """A model that finds in every image the voxel `place` of each structure but the liver, which it does not know."""

    def __init__(self, place: tuple[int, int, int]) -> None:
        self.place, self.asked = place, []

    def __call__(self, image: np.ndarray, prompts: Sequence[str], **_: object) -> Masks:
        self.asked.append(tuple(prompts))
        masks = np.zeros((len(prompts), *image.shape), bool)
        masks[(slice(None), *self.place)] = [prompt != "liver" for prompt in prompts]
        return masks


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A patient to learn from and one to measure, both with the cord contoured and without a mandible, in LPI."""
    affine = np.diag([-2.0, -2.0, -3.0, 1.0])
    for name in ("ct", "cord"):
        nibabel.save(nibabel.Nifti1Image(np.ones(SHAPE[::-1], np.int16), affine), tmp_path / f"{name}.nii.gz")
    case = {"image": "ct.nii.gz", "contours": {"cord": {"file": "cord.nii.gz", "value": 1}, "mandible": None}}
    document = {
        "structures": {name: {} for name in STRUCTURES},
        "cases": [{"case": split, "split": split, **case} for split in ("train", "validation")],
    }
    (tmp_path / "data.json").write_text(json.dumps(document))
    return tmp_path / "data.json"


def test_a_training_case_gets_what_most_models_found_and_the_rest_stays(data: Path, tmp_path: Path) -> None:
    models = [Draws((1, 2, 3)), Draws((1, 2, 3)), Draws((0, 0, 0))]
    learnt, measured = read_dataset(complete(data, models, tmp_path / "out")).cases
    assert models[0].asked == [("larynx", "liver")]
    assert set(measured.contours) == {"cord", "mandible"}
    assert learnt.contours["cord"] == measured.contours["cord"] == Contour(tmp_path / "cord.nii.gz", 1)
    assert learnt.contours["mandible"] is None
    assert "liver" not in learnt.contours, "an empty mask says nothing"
    assert np.argwhere(read_image(learnt.contours["larynx"].file).array).tolist() == [[1, 2, 3]]


def test_who_drew_a_contour_can_be_told(data: Path, tmp_path: Path) -> None:
    document = json.loads(complete(data, [Draws((1, 2, 3))], tmp_path / "out").read_text())
    contours = document["cases"][0]["contours"]
    assert {name: (entry or {}).get("drawn_by") for name, entry in contours.items()} == {
        "cord": None,
        "mandible": None,
        "larynx": "model",
    }


def test_a_killed_run_goes_on_where_it_was(data: Path, tmp_path: Path) -> None:
    complete(data, [Draws((1, 2, 3))], tmp_path / "out")
    again = Draws((0, 0, 0))
    learnt, _ = read_dataset(complete(data, [again], tmp_path / "out")).cases
    assert again.asked == []
    assert np.argwhere(read_image(learnt.contours["larynx"].file).array).tolist() == [[1, 2, 3]]


def test_a_contour_that_the_models_doubt_is_left_out_where_the_network_learns_and_said(
    data: Path, tmp_path: Path
) -> None:
    said: list[str] = []
    model = Draws((1, 2, 3))
    learnt, measured = read_dataset(complete(data, [model], tmp_path / "out", said.append, doubt=0.5)).cases
    assert set(learnt.contours) == {"mandible", "larynx"}, "one voxel of 120 is not the cord that was contoured"
    assert set(measured.contours) == {"cord", "mandible"}
    assert said == ["train: 2 of 4 structures; cord left out (Dice 0.02)"]


def test_a_contour_that_the_models_agree_with_stays(data: Path, tmp_path: Path) -> None:
    learnt, _ = read_dataset(complete(data, [Draws((1, 2, 3))], tmp_path / "out", doubt=0.01)).cases
    assert set(learnt.contours) == {"cord", "mandible", "larynx"}

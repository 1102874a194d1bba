"""An image that is not what the model knows is never answered by "looked for, not found"."""

import json
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from typer.testing import CliRunner, Result

import voxtell
from voxtell.phantom import head_and_neck
from worker.__main__ import app

Case = Callable[..., Path]
ABSENT = "right parotid gland"  # the network finds nothing in values that it never saw


def command(*words: object) -> Result:
    return CliRunner().invoke(app, [*map(str, words)], catch_exceptions=False)


@pytest.mark.long
def test_a_study_that_is_not_in_hounsfield_units_is_not_judged(shared_case: Case, tmp_path: Path) -> None:
    study = shared_case("ct-without-rescale-unsigned", "dicom")
    done = command("run", study, "-p", ABSENT, "-p", "mandible", "-o", tmp_path / "out", "--seg", "--sr", "--json")
    assert done.exit_code == 0, done.output
    (series,) = json.loads(done.stdout)
    assert series["not_found"] == []
    assert {*series["not_judged"], *(one["label"] for one in series["found"])} == {ABSENT, "mandible"}
    assert ABSENT in series["not_judged"]
    assert any("not Hounsfield units" in sentence for sentence in series["review"])
    for path in tmp_path.rglob("*.dcm"):  # SEG and SR say it too
        assert "ooked for, not found" not in str(dcmread(path)), path.name


@pytest.mark.long
def test_predict_says_it_of_the_file(shared_case: Case, tmp_path: Path) -> None:
    path = shared_case("nifti-normalised-0-1", "ct.nii.gz")
    done = command("predict", path, "-p", "mandible", "-o", tmp_path)
    assert done.exit_code == 0
    assert "ct.nii.gz: to be reviewed: The values reach from 0 to 1 and show neither air nor fat" in done.stderr


@pytest.mark.long
@pytest.mark.filterwarnings("ignore:Nothing was found")
def test_from_python_it_is_a_warning() -> None:
    segmenter, phantom = voxtell.load(), head_and_neck(0)
    small = phantom.image[20:60, 30:90, 60:120]
    with pytest.warns(voxtell.ImageWarning, match="not Hounsfield units"):
        segmenter(small + 1024, ["mandible"], spacing=phantom.spacing)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "Nothing was found")  # of so small a part, which is another doubt
        segmenter(small, ["mandible"], spacing=phantom.spacing)
    assert segmenter.doubts(np.zeros((4, 4, 4), np.float32))

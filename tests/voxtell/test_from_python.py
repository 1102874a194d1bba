"""What a person meets who calls `voxtell` from Python: reading, writing, what is said of things, and warnings."""

import warnings
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

import voxtell
from tests.support.nifti_files import write_image
from voxtell.inference.axes import axes_doubt
from voxtell.segmenter import Segmenter

OWN = (2.5, 4.0, 4.0)


@pytest.mark.parametrize("axes", ["RAS", "LPS", "PIL", "SAR"])
def test_a_file_is_read_in_the_order_of_the_network_whatever_its_own(axes: str, tmp_path: Path) -> None:
    values = write_image(tmp_path / "case.nii.gz", axes)
    image = voxtell.read(tmp_path / "case.nii.gz")
    array, spacing = image
    assert array is image.array
    np.testing.assert_array_equal(array, values.transpose(2, 1, 0))
    assert spacing == image.spacing == (3.0, 2.0, 1.0)
    voxtell.write(str(tmp_path / "mask.nii.gz"), array > 60, image)
    again = voxtell.read(str(tmp_path / "mask.nii.gz"))
    np.testing.assert_array_equal(again.array, array > 60)
    assert again.spacing == spacing


def test_a_mask_of_another_grid_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    write_image(tmp_path / "case.nii.gz", "RAS")
    image = voxtell.read(tmp_path / "case.nii.gz")
    for path, values, said in (
        ("mask.nii.gz", (image.array > 60).transpose(2, 1, 0), "does not lie on the grid of its image"),
        ("mask.nrrd", image.array > 60, "must end in .nii or .nii.gz"),
    ):
        with pytest.raises(voxtell.FileError, match=said):
            voxtell.write(tmp_path / path, values, image)
    assert [path.name for path in tmp_path.iterdir()] == ["case.nii.gz"]


def test_things_say_in_a_line_what_they_are(tmp_path: Path, segmenter: Segmenter) -> None:
    write_image(tmp_path / "case.nii.gz", "RAS")
    shown = repr(voxtell.read(tmp_path / "case.nii.gz"))
    assert shown == "<NiftiImage 6 x 5 x 4 voxels of 3 x 2 x 1 mm (S, A, R), values 0 to 119>"
    assert repr(segmenter).startswith(f"<Segmenter {segmenter.info.name} ")
    assert repr(segmenter).endswith(" on cpu: free text>")


@pytest.mark.parametrize(
    ("shape", "spacing", "own", "said"),
    [
        ((512, 512, 90), (1.0, 1.0, 3.0), OWN, "last axis, as in"),
        ((128, 128, 60), None, None, "last axis, as in"),
        ((60, 50, 50), (0.9, 0.9, 3.0), OWN, "last axis, as in"),
        ((90, 512, 512), None, OWN, "a voxel counted as 2.5 x 4 x 4 mm"),
        ((90, 512, 512), None, None, ""),
        ((90, 512, 512), (3.0, 1.0, 1.0), OWN, ""),
        ((64, 64, 64), (1.0, 1.0, 1.0), OWN, ""),
    ],
)
def test_what_may_be_wrong_with_the_axes_is_told_from_shape_and_spacing(shape, spacing, own, said: str) -> None:
    doubt = axes_doubt(shape, spacing, own)
    assert said in doubt
    assert bool(doubt) == bool(said)


def nothing(_self: Segmenter, _image: object, _texts: object, out: npt.NDArray[np.bool_], *_more: object) -> None:
    """A network that finds nothing."""
    out[:] = False


def test_zeros_by_a_wrong_order_are_warned_about(segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Segmenter, "_segment", nothing)
    image = np.zeros((20, 20, 8), np.float32)
    with pytest.warns(voxtell.ImageWarning, match="Nothing was found: every mask is empty. The slices seem to lie"):
        segmenter(image, ["liver"], spacing=(1.0, 1.0, 3.0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        segmenter(np.zeros((8, 20, 20), np.float32), ["liver"], spacing=(3.0, 1.0, 1.0))  # a model of free text


def test_the_bundled_model_warns_where_none_of_what_it_knows_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    bundled = voxtell.load()
    monkeypatch.setattr(Segmenter, "_segment", nothing)
    monkeypatch.setattr(Segmenter, "doubts", lambda _self, _image: [])
    image = np.zeros((8, 20, 20), np.float32)
    with pytest.warns(voxtell.ImageWarning, match="Check the image: axes are"):
        bundled(image, ["mandible", "liver"], spacing=(3.0, 1.0, 1.0))
    with pytest.warns(voxtell.ImageWarning, match="No spacing was given"):
        bundled(image, ["mandible"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        bundled(image, ["liver"], spacing=(3.0, 1.0, 1.0))  # not known: an empty mask is what it should give
    assert "voxtell-small-hn" in repr(bundled)
    assert "mandible" in repr(bundled)

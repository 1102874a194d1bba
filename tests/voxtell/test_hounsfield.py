"""Values that are not Hounsfield units are noticed; CTs of every kind are not suspected."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dicom_node.series import read_series
from voxtell.inference.hounsfield import hounsfield_doubt
from voxtell.nifti import read_image
from voxtell.phantom import head_and_neck

ERRORS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "stored without rescaling": lambda hu: hu + 1024,
    "stored without rescaling, unsigned": lambda hu: np.clip(hu + 1024, 0, None),
    "a window as 0 to 1": lambda hu: np.clip((hu + 160) / 400, 0, 1),
    "a window as 0 to 255": lambda hu: np.rint(np.clip((hu + 160) / 400, 0, 1) * 255),
    "all as 0 to 255": lambda hu: np.rint((hu - hu.min()) / np.ptp(hu) * 255),
    "rescaled twice": lambda hu: hu - 1024,
}
"""What becomes of HU in files that people bring."""


def openkbp(number: int) -> str:
    return f"validation_pt_{number}_ct.nii.gz"


@pytest.fixture(scope="module")
def images(shared_data: Callable[..., Path]) -> dict[str, np.ndarray]:
    """CTs of head, thorax and abdomen, as scanned, cropped and masked."""
    found = {f"openkbp {n}": read_image(shared_data("openkbp", openkbp(n))).array for n in (201, 204, 207)}
    found["abdomen and pelvis"] = read_image(shared_data("ct_totalseg_nifti", "ct.nii.gz")).array
    for name in ("ct_abdomen_crlm1004", "ct_totalseg_j2k"):
        files = sorted(shared_data(name, "dicom").glob("*.dcm"))
        found[name] = read_series(files).volume.array.astype(np.float32)
    found["inside the body"] = found["abdomen and pelvis"][40:70, 30:70, 35:85]
    for seed in range(3):
        found[f"phantom {seed}"] = head_and_neck(seed).image
    return found


@pytest.mark.long
def test_no_ct_is_suspected(images: dict[str, np.ndarray]) -> None:
    for name, image in images.items():
        assert hounsfield_doubt(image) == "", name


@pytest.mark.long
@pytest.mark.parametrize("error", ERRORS)
def test_every_ct_that_is_not_in_hounsfield_units_is_noticed(error: str, images: dict[str, np.ndarray]) -> None:
    for name, image in images.items():
        spoilt = ERRORS[error](image).astype(np.float32)
        assert "not Hounsfield units" in hounsfield_doubt(spoilt), name


@pytest.mark.long
def test_padding_outside_the_scanned_circle_is_no_air(images: dict[str, np.ndarray]) -> None:
    image = head_and_neck(0).image.copy()
    image[:, :20] = -3024
    assert hounsfield_doubt(image) == ""
    assert "many lie below those of air" in hounsfield_doubt(image - 1024)


@pytest.mark.parametrize("value", [0.0, -1000.0, 40.0, 3000.0])
def test_a_constant_image_has_an_answer(value: float) -> None:
    hounsfield_doubt(np.full((3, 4, 5), value, np.float32))

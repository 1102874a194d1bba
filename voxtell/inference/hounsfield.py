"""Judges whether the values of an image are Hounsfield units (HU), by the tissues that their histogram shows.

A model whose normalization clips to a window of HU sees noise or a blank in a CT that lacks its rescaling: HU + 1024,
grey values of 0 to 255, values scaled to 0 to 1. The limits below lie between what CTs of head, thorax and abdomen show
(full scans, crops, masked scans, phantoms) and what the same CTs show after such an error; tests hold both.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

SAMPLES: Final = 1_000_000  # voxels that are looked at, evenly spread; the shares below move by less than 0.1 %
AIR: Final = -500.0  # HU; air and lung lie below
FAT: Final = -30.0  # HU; fat lies below, water and muscle above
BODY: Final = -400.0  # HU; skin, fat and all denser tissues lie above
DENSE_BONE: Final = 700.0  # HU
BELOW_AIR: Final = -1200.0  # HU; vacuum is -1000, noise and reconstruction reach some 100 less

LEAST_AIR: Final = 0.001  # of all voxels; 0.24 in the CT with the least air
LEAST_FAT: Final = 0.01  # of all voxels, where there is no air: an image cropped inside the body has fat
MOST_BONE: Final = 0.25  # of the body; 0.16 in a skull of plastic, 0.09 in patients
MOST_BELOW_AIR: Final = 0.02  # of all voxels but padding
LEAST_BODY: Final = 0.05  # of all voxels but padding; 0.27 in the CT with the least


def hounsfield_doubt(image: npt.NDArray[np.float32]) -> str:
    """Returns one sentence that says why the values are not HU, or "" when nothing speaks against it.

    image: float32 (S, A, R), at any spacing. About `SAMPLES` voxels on an even lattice are looked at, so that the cost
    does not grow with the volume. The checks run in this order: neither air nor fat, too much bone, values below air,
    hardly any body.
    """
    step = max(1, round((image.size / SAMPLES) ** (1 / 3)))
    values = image[::step, ::step, ::step].ravel()
    low, high = (f"{float(edge):g}" for edge in np.percentile(values, (0.1, 99.9)))
    told = f"The values reach from {low} to {high}"
    if np.mean(values < AIR) < LEAST_AIR and np.mean(values < FAT) < LEAST_FAT:
        return f"{told} and show neither air nor fat: they are not Hounsfield units."
    body = values[values > BODY]
    if body.size and np.mean(body > DENSE_BONE) > MOST_BONE:
        return f"{told} and more than a quarter of the body is as dense as bone: they are not Hounsfield units."
    scanned = _without_padding(values)
    if np.count_nonzero(scanned < BELOW_AIR) > MOST_BELOW_AIR * scanned.size:
        return f"{told} and many lie below those of air: they are not Hounsfield units."
    if np.count_nonzero(scanned > BODY) < LEAST_BODY * scanned.size:
        return f"{told} and hardly any is as dense as a body: they are not Hounsfield units."
    return ""


def _without_padding(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Returns the values without the padding outside the scanner's field of view.

    Scanners fill it with one constant, the lowest value of the image; a lowest value denser than air is no padding.
    """
    lowest = values.min()
    return values[values > lowest] if lowest < AIR else values

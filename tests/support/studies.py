"""Small CT series of one study."""

import shutil
from pathlib import Path

import numpy as np
from pydicom import dcmread

from dicom_node.synthesis import Subject, ct_series
from tests.support.images import edit


def series(folder: Path, number: int, *, slices: int = 4, spacing: float = 3.0, **values: object) -> list[Path]:
    """A CT of the one study of these tests."""
    subject = Subject(series_number=number, series_description=f"recon {number}")
    image = np.full((slices, 8, 8), number, np.float32)
    paths = ct_series(image, (spacing, 1.0, 1.0), folder / str(number), subject=subject)
    if values:
        for path in paths:
            edit(path, Manufacturer="SIEMENS", **values)
    return paths


def echoes(folder: Path, *echo_times: str) -> list[Path]:
    """One series with the same slices at several echo times."""
    first = series(folder, 1)
    paths = []
    for n, echo_time in enumerate(echo_times):
        for path in first:
            copy = path.with_name(f"{path.stem}-{n}.dcm")
            shutil.copy(path, copy)
            pixels = (dcmread(path).pixel_array + 100 * n).tobytes()
            edit(copy, EchoTime=echo_time, PixelData=pixels, SOPInstanceUID=f"2.25.{n + 1}{path.stem}")
            paths.append(copy)
    for path in first:
        path.unlink()
    return paths

"""NIfTI files for tests."""

from pathlib import Path

import nibabel
import numpy as np


def write_image(path: Path, axes: str = "RAS", kind: type[np.number] = np.float32) -> np.ndarray:
    """Voxels that tell their place, spacing 1, 2, 3 mm along patient R, A, S; returns the array (R, A, S)."""
    array = np.arange(4 * 5 * 6, dtype=kind).reshape(4, 5, 6)
    ras = nibabel.Nifti1Image(array, np.diag([1.0, 2.0, 3.0, 1.0]))
    to = nibabel.orientations.ornt_transform(
        nibabel.orientations.axcodes2ornt("RAS"), nibabel.orientations.axcodes2ornt(axes)
    )
    nibabel.save(ras.as_reoriented(to), path)
    return array

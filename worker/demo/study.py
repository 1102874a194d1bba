"""CT series for the demo, with the contours that are known of them: the built-in phantom, or a NIfTI CT."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import highdicom
import numpy as np

from dicom_node.masks.packed import Mask
from dicom_node.regions import one_line, shortened
from dicom_node.synthesis import Subject, centred_affine, ct_series
from voxtell.nifti import stem
from worker.steps.nifti_series import NOBODY, series_from_nifti, slices_of

OPENKBP_LABELS = {
    "brainstem": 1,
    "spinal cord": 2,
    "right parotid": 3,
    "left parotid": 4,
    "esophagus": 5,
    "larynx": 6,
    "mandible": 7,
}
"""The value of each structure in a `*_oar.nii.gz` beside a `*_ct.nii.gz`, as the OpenKBP data set has them."""


@dataclass(frozen=True)
class DemoStudy:
    """A series on the disk, and the contours that are known, as volumes bool with their own geometry in LPS."""

    paths: tuple[Path, ...]
    truth: Mapping[str, highdicom.Volume]

    def truth_on(self, grid: highdicom.Volume) -> dict[str, Mask]:
        """Returns the known contours bool (slices, rows, columns) on the voxels of `grid`.

        `grid` is the grid of the contours in another axis order.
        """
        return {
            name: np.asarray(
                highdicom.Volume(known.array, known.affine, "PATIENT").match_geometry(_without_frame(grid)).array, bool
            )
            for name, known in self.truth.items()
        }


def phantom_study(folder: Path, seed: int = 0) -> DemoStudy:
    """Writes the built-in head and neck phantom as a CT series into `folder`; all its contours are known."""
    from voxtell.phantom import head_and_neck

    phantom = head_and_neck(seed)
    paths = ct_series(phantom.image, phantom.spacing, folder, subject=Subject(body_part="HEADNECK"), seed=seed)
    affine = centred_affine(phantom.image.shape, phantom.spacing)
    truth = {
        name: highdicom.Volume(np.ascontiguousarray(mask[:, ::-1, ::-1]), affine, "PATIENT")
        for name, mask in phantom.labels.items()
    }
    return DemoStudy(tuple(paths), truth)


def study_from_nifti(path: Path, folder: Path) -> DemoStudy:
    """Writes a NIfTI CT as a series into `folder`; contours are known if `*_oar.nii.gz` lies beside `*_ct.nii.gz`.

    Raises:
        FileError: when the image or its contours cannot be read.
        SeriesError: when a DICOM series cannot hold the image (see `series_from_nifti`).
    """
    subject = replace(NOBODY, series_description=shortened(one_line(stem(path)), 64), body_part="HEADNECK")
    paths = series_from_nifti(path, folder, subject)
    contours = path.with_name(path.name.replace("_ct.nii", "_oar.nii"))
    if contours == path or not contours.exists():
        return DemoStudy(tuple(paths), {})
    labels, affine = slices_of(contours)
    truth = {
        name: highdicom.Volume(labels == value, affine, "PATIENT")
        for name, value in OPENKBP_LABELS.items()
        if (labels == value).any()
    }
    return DemoStudy(tuple(paths), truth)


def _without_frame(grid: highdicom.Volume) -> highdicom.VolumeGeometry:
    """Returns the geometry without its Frame of Reference UID, which the known contours do not have."""
    return highdicom.VolumeGeometry(grid.affine, grid.spatial_shape, "PATIENT")

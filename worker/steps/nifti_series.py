"""NIfTI images as DICOM series, each with a study and patient of its own unless the caller names them.

`voxtell-dicom nifti-to-dicom` and the demo call it. Pure but for the files it reads and writes.
"""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from dicom_node.errors import SeriesError
from dicom_node.regions import one_line, shortened
from dicom_node.synthesis import Subject, write_slices
from voxtell.nifti import PLAIN, ReadAs, read_voxels, stem
from voxtell.orientation import NiftiGrid

NOBODY: Final = Subject(patient_id="", patient_name="", study_description="", series_description="From NIfTI")
"""A subject with no names of its own: patient and study follow from the file."""
LPS_FROM_RAS: Final = np.diag([-1.0, -1.0, 1.0, 1.0])
"""NIfTI's world axes point right, anterior, superior; DICOM's left, posterior, superior."""


def series_from_nifti(path: Path, folder: Path, subject: Subject | None = None, read_as: ReadAs = PLAIN) -> list[Path]:
    """Writes a NIfTI image as a series on the same grid in the same place; returns its files in slice order.

    Without a `subject` patient and study follow from the voxels: the same image is the same study, and no two images
    share a patient. A subject without patient ID or study key gets them in the same way.

    Raises:
        FileError: when the file cannot be read (see `voxtell.nifti`); nothing is written.
        OutOfMemoryError: when there is no memory for it; nothing is written.
        SeriesError: when a DICOM series cannot hold the image, such as a single slice; nothing is written.
    """
    image, affine = slices_of(path, read_as)
    if image.shape[0] < 2:
        raise SeriesError(f"{path} is a single slice {image.shape}; a series of DICOM images needs two to be a volume")
    return write_slices(image, affine, folder, subject=_named(subject or NOBODY, path, image, affine))


def slices_of(path: Path, read_as: ReadAs = PLAIN) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float64]]:
    """Reads the voxels float32 (slices, rows, columns) of a NIfTI file, and their affine (4, 4) to LPS in mm.

    Raises:
        FileError: when the file cannot be read (see `voxtell.nifti.read_voxels`).
        OutOfMemoryError: when there is no memory for it.
    """
    values, grid = read_voxels(path, read_as)
    return values.transpose(2, 1, 0), _affine(grid)


def _affine(grid: NiftiGrid) -> npt.NDArray[np.float64]:
    """Returns the affine (4, 4) from (slice, row, column) to LPS in mm; NIfTI's own counts (column, row, slice)."""
    return (LPS_FROM_RAS @ grid.affine_mm)[:, [2, 1, 0, 3]]


def _named(subject: Subject, path: Path, image: npt.NDArray[Any], affine: npt.NDArray[np.float64]) -> Subject:
    """Fills what the caller left open: patient ID and study key from a digest of the voxels, names from the file's."""
    voxels = hashlib.sha256(
        np.ascontiguousarray(image).data
    )  # as it lies there: a copy of the bytes may be one too many
    voxels.update(affine.tobytes())
    digest = voxels.hexdigest()
    name = shortened(one_line(stem(path)), 64)
    return replace(
        subject,
        patient_id=subject.patient_id or f"NIFTI-{digest[:12]}",
        patient_name=subject.patient_name or name.replace("^", " ").replace("=", " "),
        study_description=subject.study_description or name,
        study_key=subject.study_key or ("" if subject.accession_number else digest),
    )

"""Synthesis: a proper CT series from an array, for phantoms, for tests, and for images that exist only as NIfTI.

Every header holds what the CT Image IOD demands (PS3.3 A.3): the series may be sent, stored and judged like a real one.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pydicom.valuerep import format_number_as_ds

from dicom_node.uids import derived_uid


@dataclass(frozen=True)
class Subject:
    """Whose image it is and how the study calls itself; dates and times in DICOM's form."""

    patient_id: str = "PHANTOM"
    patient_name: str = "Phantom^Synthetic"
    patient_sex: str = "O"
    patient_birth_date: str = ""
    accession_number: str = ""
    study_id: str = "1"
    study_date: str = "20260101"
    study_time: str = "120000"
    study_description: str = "Synthetic CT"
    series_description: str = "Synthetic axial"
    series_number: int = 1
    body_part: str = ""  # Body Part Examined, PS3.16 annex L: "HEADNECK", "ABDOMEN"
    patient_position: str = "HFS"


def ct_series(
    image: NDArray[np.floating],
    spacing: tuple[float, float, float],
    folder: Path,
    *,
    subject: Subject | None = None,
    seed: int = 0,
) -> list[Path]:
    """Writes an axial, head first supine CT and returns its files, inferior slice first.

    `image` holds HU (S, A, R), rounded to whole HU; `spacing` is millimetres (S, A, R). The middle of the image lies at
    the origin of the frame of reference. The same image, subject and seed give the same files.
    """
    affine = centred_affine(image.shape, spacing)
    return write_slices(image[:, ::-1, ::-1], affine, folder, subject=subject, seed=seed)


def centred_affine(shape: tuple[int, ...], spacing: tuple[float, float, float]) -> NDArray[np.float64]:
    """(4, 4) from (slice, row, column) to LPS mm: axial, head first supine, the middle of the image at the origin."""
    extent = (np.array(shape) - 1) * spacing / 2
    affine = np.eye(4)
    affine[:3, :3] = np.array([[0, 0, 1], [0, 1, 0], [1, 0, 0]]) * spacing
    affine[:3, 3] = -extent[::-1]
    return affine


def write_slices(
    image: NDArray[np.floating],
    affine: NDArray[np.float64],
    folder: Path,
    *,
    subject: Subject | None = None,
    seed: int = 0,
) -> list[Path]:
    """Writes a CT with any orientation: `image` HU (slices, rows, columns), `affine` (4, 4) from indices to LPS mm.

    The axes of rows and columns must be perpendicular; the slice axis may lean, as with a tilted gantry.
    """
    subject = subject or Subject()
    digest = hashlib.sha256(
        np.ascontiguousarray(image, dtype="<f4").tobytes() + affine.astype("<f8").tobytes()
    ).hexdigest()
    study_uid = derived_uid("synthetic study", subject.patient_id, subject.accession_number, str(seed))
    series_uid = derived_uid("synthetic series", study_uid, digest, str(seed))
    stored = np.clip(np.rint(image), -32768, 32767).astype("<i2")
    spacings = np.linalg.norm(affine[:3, :3], axis=0)
    directions = affine[:3, :3] / spacings
    normal = np.cross(directions[:, 2], directions[:, 1])
    depth = abs(float(affine[:3, 0] @ normal))
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for index, pixels in enumerate(stored):
        header = _header(subject, study_uid, series_uid, derived_uid("synthetic slice", series_uid, str(index)))
        header.InstanceNumber = index + 1
        header.ImagePositionPatient = _decimals(affine[:3, 3] + index * affine[:3, 0])
        header.ImageOrientationPatient = _decimals([*directions[:, 2], *directions[:, 1]])
        header.PixelSpacing = _decimals(spacings[1:])
        header.SliceThickness = format_number_as_ds(depth)
        header.Rows, header.Columns = pixels.shape
        header.PixelData = pixels.tobytes()
        paths.append(folder / f"{index + 1:04d}.dcm")
        header.save_as(paths[-1], enforce_file_format=True)
    return paths


def _decimals(values: NDArray[np.float64] | list[float]) -> list[str]:
    """Decimal Strings of at most 16 characters, the nearest to the values (PS3.5 6.2)."""
    return [format_number_as_ds(float(value) + 0.0) for value in values]


def _header(subject: Subject, study_uid: str, series_uid: str, sop_uid: str) -> Dataset:
    header = Dataset()
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header.SOPClassUID = CTImageStorage
    header.SOPInstanceUID = sop_uid
    header.StudyInstanceUID = study_uid
    header.SeriesInstanceUID = series_uid
    header.FrameOfReferenceUID = derived_uid("synthetic frame of reference", series_uid)
    header.PositionReferenceIndicator = ""
    header.SpecificCharacterSet = "ISO_IR 192"
    header.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    header.Modality = "CT"
    header.Manufacturer = "voxtell-dicom"
    header.ManufacturerModelName = "synthesis"
    _describe(header, subject)
    header.AcquisitionNumber = 1
    header.KVP = "120"
    header.SamplesPerPixel = 1
    header.PhotometricInterpretation = "MONOCHROME2"
    header.BitsAllocated, header.BitsStored, header.HighBit = 16, 16, 15
    header.PixelRepresentation = 1
    header.RescaleSlope, header.RescaleIntercept, header.RescaleType = "1", "0", "HU"
    header.WindowCenter, header.WindowWidth = "40", "400"
    return header


def _describe(header: Dataset, subject: Subject) -> None:
    header.PatientID = subject.patient_id
    header.PatientName = subject.patient_name
    header.PatientSex = subject.patient_sex
    header.PatientBirthDate = subject.patient_birth_date
    header.PatientPosition = subject.patient_position
    header.AccessionNumber = subject.accession_number
    header.ReferringPhysicianName = ""
    header.StudyID = subject.study_id
    header.StudyDate = header.SeriesDate = header.AcquisitionDate = header.ContentDate = subject.study_date
    header.StudyTime = header.SeriesTime = header.AcquisitionTime = header.ContentTime = subject.study_time
    header.StudyDescription = subject.study_description
    header.SeriesDescription = subject.series_description
    header.SeriesNumber = subject.series_number
    if subject.body_part:
        header.BodyPartExamined = subject.body_part
    else:
        header.Laterality = ""

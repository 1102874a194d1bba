"""Writes a CT or MR series from an array: for phantoms, for tests, and for images that exist only as NIfTI.

Every header holds what the CT or MR Image IOD demands (PS3.3 A.3, A.4), so that the series may be sent, stored and
judged like a real one. UIDs derive from the content: the same image, subject and seed give the same files.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, MRImageStorage
from pydicom.valuerep import format_number_as_ds

from dicom_node.errors import SeriesError
from dicom_node.uids import derived_uid

SyntheticModality = Literal["CT", "MR"]
STORED: Final = (-32768, 32767)  # signed 16-bit pixels
LEAST_COSINE: Final = 1e-3  # of the angle between rows and columns; about 0.06 degrees from a right angle


@dataclass(frozen=True)
class Subject:
    """Holds patient and study attributes of a series to be written; dates and times are in DICOM's form."""

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
    modality: SyntheticModality = "CT"
    study_key: str = ""  # tells this study from others of the same patient and accession number
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

    image: HU (S, A, R), index 0 growing to superior, 1 to anterior, 2 to right; rounded to whole HU. spacing: mm per
    voxel (S, A, R). The middle of the image lies at the origin of the frame of reference.

    Raises:
        SeriesError: when a value is outside the range of a CT; nothing is written.
    """
    affine = centred_affine(image.shape, spacing)
    return write_slices(image[:, ::-1, ::-1], affine, folder, subject=subject, seed=seed)


def centred_affine(shape: tuple[int, ...], spacing: tuple[float, float, float]) -> NDArray[np.float64]:
    """Returns (4, 4) from (slice, row, column) to LPS mm: axial, head first supine, centred at the origin.

    shape, spacing: (S, A, R), spacing in mm per voxel.
    """
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
    """Writes a series of any orientation and returns its files in slice order.

    Args:
        image: (slices, rows, columns), HU for CT and rounded to whole HU. MR values that are not whole numbers of 16
            bits are stored with a Rescale Slope and Intercept.
        affine: (4, 4) from (slice, row, column) to LPS mm. Rows and columns must be perpendicular; the slice axis may
            lean, as with a tilted gantry.
        folder: created if needed; files are named 0001.dcm and so on.
        subject: patient and study; a phantom without.
        seed: gives another study and series of the same content.

    Raises:
        SeriesError: when DICOM cannot hold the grid or the values; nothing is written.
    """
    subject = subject or Subject()
    check_grid(affine)
    stored, slope, intercept = _stored(image, subject.modality)
    digest = hashlib.sha256(
        np.ascontiguousarray(image, dtype="<f4").tobytes() + affine.astype("<f8").tobytes()
    ).hexdigest()
    study_uid = derived_uid("synthetic study", *_study_identity(subject), str(seed))
    series_uid = derived_uid("synthetic series", study_uid, digest, str(seed))
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
        header.RescaleSlope, header.RescaleIntercept = (f"{x:g}" if x.is_integer() else x for x in (slope, intercept))
        header.PixelData = pixels.tobytes()
        paths.append(folder / f"{index + 1:04d}.dcm")
        header.save_as(paths[-1], enforce_file_format=True)
    return paths


def check_grid(affine: NDArray[np.float64]) -> None:
    """Checks that DICOM can hold a grid; `affine` (4, 4) maps (slice, row, column) to LPS mm.

    Raises:
        SeriesError: when rows and columns are not perpendicular (PS3.3 C.7.6.2.1.1).
    """
    rows, columns = (affine[:3, axis] / np.linalg.norm(affine[:3, axis]) for axis in (1, 2))
    cosine = abs(float(rows @ columns))
    if cosine > LEAST_COSINE:
        raise SeriesError(
            f"the grid is sheared: its rows and columns meet at {np.degrees(np.arccos(cosine)):.2f} degrees, and a "
            "DICOM image has 90; resample it to a grid with perpendicular axes"
        )


def _stored(image: NDArray[np.floating], modality: SyntheticModality) -> tuple[NDArray[np.int16], float, float]:
    """Returns pixels int16, and the slope and intercept that give the values back (PS3.3 C.11.1)."""
    low, high = float(image.min(initial=0)), float(image.max(initial=0))
    whole = modality == "CT" or bool((np.rint(image) == image).all())
    if whole and STORED[0] <= np.rint(low) and np.rint(high) <= STORED[1]:
        return np.rint(image).astype("<i2"), 1.0, 0.0
    if modality == "CT":
        raise SeriesError(
            f"the values reach from {low:g} to {high:g}, which no CT in Hounsfield units does; a DICOM CT holds "
            f"{STORED[0]} to {STORED[1]}"
        )
    slope = float(format_number_as_ds(max((high - low) / (STORED[1] - STORED[0]), float(np.finfo(np.float32).tiny))))
    intercept = float(format_number_as_ds(low - slope * STORED[0]))
    return np.clip(np.rint((image - intercept) / slope), *STORED).astype("<i2"), slope, intercept


def _study_identity(subject: Subject) -> tuple[str, ...]:
    """Returns the texts from which the Study Instance UID derives."""
    identity = (subject.patient_id, subject.accession_number)
    return (*identity, subject.study_key) if subject.study_key else identity


_NOTHING_MM: Final = 1e-10  # smaller ones come of rounding, and may need more than 16 characters


def _decimals(values: NDArray[np.float64] | list[float]) -> list[str]:
    """Returns Decimal Strings of at most 16 characters, the nearest to the values (PS3.5 6.2)."""
    return [format_number_as_ds(float(value) if abs(value) > _NOTHING_MM else 0.0) for value in values]


def _header(subject: Subject, study_uid: str, series_uid: str, sop_uid: str) -> Dataset:
    """Returns a header without position and pixels; modules of PS3.3 A.3 (CT) or A.4 (MR)."""
    header = Dataset()
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header.SOPClassUID = CTImageStorage if subject.modality == "CT" else MRImageStorage
    header.SOPInstanceUID = sop_uid
    header.StudyInstanceUID = study_uid
    header.SeriesInstanceUID = series_uid
    header.FrameOfReferenceUID = derived_uid("synthetic frame of reference", series_uid)
    header.PositionReferenceIndicator = ""
    header.SpecificCharacterSet = "ISO_IR 192"
    header.Modality = subject.modality
    header.Manufacturer = "voxtell-dicom"
    header.ManufacturerModelName = "synthesis"
    _describe(header, subject)
    header.AcquisitionNumber = 1
    if subject.modality == "CT":
        header.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        header.KVP = "120"
        header.WindowCenter, header.WindowWidth = "40", "400"
        header.RescaleType = "HU"
    else:  # PS3.3 C.8.3.1: how it was measured is not known
        header.ImageType = ["DERIVED", "SECONDARY", "OTHER"]
        header.ScanningSequence, header.SequenceVariant, header.ScanOptions = "RM", "NONE", ""
        header.MRAcquisitionType = header.EchoTime = header.EchoTrainLength = header.RepetitionTime = ""
        header.RescaleType = "US"
    header.SamplesPerPixel = 1
    header.PhotometricInterpretation = "MONOCHROME2"
    header.BitsAllocated, header.BitsStored, header.HighBit = 16, 16, 15
    header.PixelRepresentation = 1
    return header


def _describe(header: Dataset, subject: Subject) -> None:
    """Fills patient, study and series attributes from the subject."""
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

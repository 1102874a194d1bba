"""Reads the images of a series as one flat list of frames, single-frame files and enhanced multi-frame files alike.

A classic file is one frame, described at the top of its header (PS3.3 C.7.6.2). An enhanced file holds many; they are
described in its functional groups, per frame or shared by all (PS3.3 C.7.6.16). Positions and directions are in the
patient frame LPS: x grows to the left, y to posterior, z to the head (PS3.3 C.7.6.2.1.1).
"""

import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.multival import MultiValue

from dicom_node.errors import SeriesError
from dicom_node.images.character_sets import read_as_site
from dicom_node.images.header_limits import BoundedReader, LimitError
from dicom_node.images.headers import read_to_pixels
from dicom_node.images.pydicom_errors import PYDICOM_ERRORS, damage, unreadable

THREADS: Final = min(8, os.cpu_count() or 1)
# Orientations whose two directions are perpendicular to this (six decimals) are taken as they are.
ROUNDED_COSINE: Final = 2e-6

# What may distinguish volumes of one series, the most telling first: name, classic keyword, functional group and its
# keyword. PS3.3 C.8.13 (enhanced MR), C.8.15 (enhanced CT), C.7.6.16.2 (frame content, cardiac and temporal position).
_FACTS: Final = (
    ("DiffusionBValue", "DiffusionBValue", "MRDiffusionSequence", "DiffusionBValue"),
    ("EchoTime", "EchoTime", "MREchoSequence", "EffectiveEchoTime"),
    ("EchoNumber", "EchoNumbers", "", ""),
    ("InversionTime", "InversionTime", "MRModifierSequence", "InversionTimes"),
    ("FlipAngle", "FlipAngle", "MRTimingAndRelatedParametersSequence", "FlipAngle"),
    ("RepetitionTime", "RepetitionTime", "MRTimingAndRelatedParametersSequence", "RepetitionTime"),
    ("KVP", "KVP", "CTXRayDetailsSequence", "KVP"),
    ("ImageType", "ImageType", "MRImageFrameTypeSequence", "FrameType"),
    ("ImageType", "ImageType", "CTImageFrameTypeSequence", "FrameType"),
    ("ComplexImageComponent", "ComplexImageComponent", "MRImageFrameTypeSequence", "ComplexImageComponent"),
    ("TemporalPosition", "TemporalPositionIdentifier", "FrameContentSequence", "TemporalPositionIndex"),
    (
        "CardiacPhase",
        "NominalPercentageOfCardiacPhase",
        "CardiacSynchronizationSequence",
        "NominalPercentageOfCardiacPhase",
    ),
    ("TriggerTime", "TriggerTime", "CardiacSynchronizationSequence", "NominalCardiacTriggerDelayTime"),
    ("FrameReferenceTime", "FrameReferenceTime", "", ""),
    ("ConvolutionKernel", "ConvolutionKernel", "CTReconstructionSequence", "ConvolutionKernel"),
    ("SliceThickness", "SliceThickness", "PixelMeasuresSequence", "SliceThickness"),
    ("ContrastAgent", "ContrastBolusAgent", "", ""),
    ("AcquisitionNumber", "AcquisitionNumber", "FrameContentSequence", "FrameAcquisitionNumber"),
    ("StackID", "StackID", "FrameContentSequence", "StackID"),
    (
        "DiffusionDirection",
        "DiffusionGradientOrientation",
        "MRDiffusionSequence/DiffusionGradientDirectionSequence",
        "DiffusionGradientOrientation",
    ),
    ("SequenceName", "SequenceName", "", ""),
)
_TRANSFORMATION: Final = "PixelValueTransformationSequence"
_RESCALE: Final = ("RescaleSlope", "RescaleIntercept")
FACT_NAMES: Final = tuple(dict.fromkeys(name for name, *_ in _FACTS))


class NoPositionError(SeriesError):
    """The object says nowhere where it lies in the patient: it is no slice."""


@dataclass(frozen=True, eq=False)
class File:
    """Holds the header of a DICOM file, without pixels.

    header: values longer than `DEFERRED_BYTES` are read from the file when somebody asks for them. pixels_at: the byte
    where the Pixel Data element begins.
    """

    path: Path
    header: Dataset  # without pixels
    pixels_at: int

    @property
    def sop_class_uid(self) -> str:
        """SOP Class UID, or "" where the header has none."""
        return str(self.header.get("SOPClassUID") or "")

    @property
    def sop_uid(self) -> str:
        """SOP Instance UID, or "" where the header has none."""
        return str(self.header.get("SOPInstanceUID") or "")


@dataclass(frozen=True, eq=False)
class Frame:
    """Holds geometry, rescale and distinguishing facts of one image plane; lengths are millimetres in LPS."""

    file: File  # frames of one file share it
    number: int | None  # 1-based frame number in a multi-frame file, None in a single-frame file
    position: NDArray[np.float64]  # (3,) centre of the first pixel
    orientation: NDArray[np.float64]  # (2, 3) unit vectors: along a row (growing column), along a column (growing row)
    spacing: tuple[float, float]  # between rows, between columns
    size: tuple[int, int]  # rows, columns
    rescale: tuple[float, float]  # slope, intercept
    rescaled: bool  # whether the header gives both
    facts: dict[str, str]  # of FACT_NAMES, those that the header gives
    acquired: str  # date and time of acquisition as far as the header tells
    made: str  # Content Time, which is the time of the reconstruction
    instance_number: str

    @property
    def path(self) -> Path:
        """The file that holds the frame."""
        return self.file.path

    @property
    def header(self) -> Dataset:
        """The header of that file, shared by all its frames."""
        return self.file.header

    def __str__(self) -> str:
        """Returns file name, frame number and position, for messages."""
        frame = "" if self.number is None else f" frame {self.number}"
        place = ", ".join(f"{value:.2f}" for value in self.position)
        return f"{self.path.name}{frame} at ({place}) mm"


def read_files(paths: Iterable[Path], character_set: str = "") -> list[File]:
    """Reads the headers of all files, several at once, in the order of `paths`.

    character_set: of texts whose file declares none (see `character_sets`).

    Raises:
        SeriesError: when one is not a DICOM file, is damaged, or beyond a limit of `structure`; the first that fails.
        UnreadableError: when the disk does not give one out (retry: later).
    """
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(read_file, paths, repeat(character_set)))


def read_file(path: Path, character_set: str = "") -> File:
    """Reads the header of one file; `character_set` as for `read_files`.

    An empty SOP Class or SOP Instance UID is taken from the file meta information, which some anonymisers leave intact.

    Raises:
        SeriesError: when it is not a DICOM file, is damaged, or beyond a limit of `structure`.
        UnreadableError: when the disk does not give it out (retry: later).
    """
    try:
        with BoundedReader(path) as stream:
            header, pixels_at = read_to_pixels(stream)
        read_as_site(header, character_set)
        for keyword in ("SOPClassUID", "SOPInstanceUID"):  # an anonymiser may have emptied the header alone
            if not header.get(keyword) and (named := header.file_meta.get(f"MediaStorage{keyword}")):
                setattr(header, keyword, named)
        return File(path, header, pixels_at)
    except InvalidDicomError as error:
        raise SeriesError(f"{path.name} is not a readable DICOM file: it does not begin like one (PS3.10)") from error
    except LimitError as error:
        raise SeriesError(f"{path.name} is not read: {error}; ask its sender what it is") from error
    except PYDICOM_ERRORS as error:
        damaged = SeriesError(f"{path.name} is not a readable DICOM file ({damage(error)}); send it again")
        raise unreadable(path, error) or damaged from error


def frames_of(file: File) -> list[Frame]:
    """Returns the frames of one image file, in the order of the file.

    Per-frame functional groups win over shared ones (PS3.3 C.7.6.16).

    Raises:
        SeriesError: when a frame has no valid position, orientation, spacing, size or rescale; names the file and
            frame.
    """
    header = file.header
    groups = header.get("PerFrameFunctionalGroupsSequence") or ()
    said = int(header.get("NumberOfFrames") or 1)
    if said != max(1, len(groups)):
        raise SeriesError(f"{file.path.name} holds {said} frames and says of {len(groups)} where they lie")
    if not groups:
        return [_frame(file, None, (header,))]
    shared = tuple(header.get("SharedFunctionalGroupsSequence") or ())
    return [_frame(file, index, (group, *shared)) for index, group in enumerate(groups, start=1)]


def _frame(file: File, number: int | None, groups: tuple[Dataset, ...]) -> Frame:
    """Returns one frame. `groups` are the data sets in which its attributes are looked up, the most specific first."""
    name = file.path.name if number is None else f"{file.path.name} frame {number}"
    position = _numbers(groups, "PlanePositionSequence", "ImagePositionPatient", 3, name)
    orientation = _numbers(groups, "PlaneOrientationSequence", "ImageOrientationPatient", 6, name).reshape(2, 3)
    spacing = _numbers(groups, "PixelMeasuresSequence", "PixelSpacing", 2, name)
    lengths = np.linalg.norm(orientation, axis=1)
    if np.abs(lengths - 1).max() > 1e-2 or abs(orientation[0] @ orientation[1]) > 1e-2 or spacing.min() <= 0:
        raise SeriesError(
            f"{name} has no valid geometry: orientation {orientation.tolist()}, spacing {spacing.tolist()}"
        )
    header = groups[0]
    moment = _value(groups, "FrameContentSequence", "FrameAcquisitionDateTime")
    keys = ("AcquisitionDateTime", "AcquisitionDate", "AcquisitionTime")
    return Frame(
        file=file,
        number=number,
        position=position,
        orientation=_orthonormal(orientation / lengths[:, None]),
        spacing=(float(spacing[0]), float(spacing[1])),
        size=_size(file.header, name),
        rescale=_rescale(groups, name),
        rescaled=all(_value(groups, _TRANSFORMATION, keyword) is not None for keyword in _RESCALE),
        facts=_facts(groups),
        acquired="".join(text_of(header.get(key)) for key in keys) if moment is None else text_of(moment),
        made=text_of(header.get("ContentTime")),
        instance_number=text_of(header.get("InstanceNumber")),
    )


def _orthonormal(orientation: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns the perpendicular pair (2, 3) closest to directions that were rounded to a few decimals.

    A result repeats the orientation of its source, and readers reject one that is not orthogonal.
    """
    if abs(orientation[0] @ orientation[1]) <= ROUNDED_COSINE:
        return orientation
    left, _, right = np.linalg.svd(orientation, full_matrices=False)
    return np.asarray(left @ right)


def _size(header: Dataset, name: str) -> tuple[int, int]:
    """Returns (rows, columns), or raises `SeriesError`."""
    size = header.get("Rows"), header.get("Columns")
    if not all(isinstance(value, int) and 0 < value < 2**16 for value in size):
        raise SeriesError(f"{name} has no size: its Rows are {size[0]}, its Columns {size[1]}")
    return int(size[0]), int(size[1])


def _rescale(groups: Sequence[Dataset], name: str) -> tuple[float, float]:
    """Returns slope and intercept (PS3.3 C.11.1); absent ones are 1 and 0. Raises `SeriesError` for a slope of 0."""
    found = [_value(groups, _TRANSFORMATION, keyword) for keyword in _RESCALE]
    try:
        slope, intercept = (
            unset if value is None else float(value) for value, unset in zip(found, (1, 0), strict=True)
        )
    except (TypeError, ValueError):
        slope, intercept = 0.0, 0.0
    if not slope or not np.isfinite([slope, intercept]).all():
        raise SeriesError(f"{name} has no valid rescale: slope {text_of(found[0])}, intercept {text_of(found[1])}")
    return slope, intercept


def _facts(groups: Sequence[Dataset]) -> dict[str, str]:
    """Returns those of `FACT_NAMES` that the header gives, as text."""
    facts: dict[str, str] = {}
    for name, classic, sequence, keyword in _FACTS:
        value = _value(groups, sequence, keyword) if sequence else None
        if value is None:
            value = groups[0].get(classic)
        if value not in (None, "") and name not in facts:
            facts[name] = text_of(value)
    return facts


def text_of(value: Any) -> str:
    """Returns a value of a header as text, several values with a backslash between them; "" for none."""
    if isinstance(value, MultiValue):
        return "\\".join(map(str, value))
    return "" if value is None else str(value)


def _value(groups: Sequence[Dataset], sequences: str, keyword: str) -> Any:
    """Returns the first non-empty `keyword` under `sequences` ("Outer/Inner") or at the top level; None without one."""
    for group in groups:
        items = [group]
        for sequence in sequences.split("/"):
            items = [inner for item in items for inner in item.get(sequence) or ()]
        for item in (*items, group):
            value = item.get(keyword)
            if value is not None and value != "":
                return value
    return None


def _numbers(groups: Sequence[Dataset], sequence: str, keyword: str, count: int, name: str) -> NDArray[np.float64]:
    """Returns `count` finite numbers float64 of an attribute, or raises `SeriesError` that calls the frame `name`."""
    value = _value(groups, sequence, keyword)
    if value is None and keyword.endswith("Patient"):
        raise NoPositionError(f"{name} has no {keyword}: it is no slice of a volume")
    if not isinstance(value, MultiValue) or len(value) != count:
        raise SeriesError(f"{name} has no {keyword}: it is no slice of a volume")
    try:
        numbers = np.array(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise SeriesError(f"{name} has a {keyword} that is no number: {text_of(value)}") from error
    if not np.isfinite(numbers).all():
        raise SeriesError(f"{name} has a {keyword} that is not finite: {list(value)}")
    return numbers

"""What tests of images share: real cases, small CTs of any geometry, the judges' programs.

Every test may use them: `from tests.support.images import series_files, tool`.
"""

import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime
from itertools import permutations, product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread

from dicom_node.objects.provenance import Algorithm, Provenance
from tests.support.iods import JUDGED, violations

PROVENANCE = Provenance(
    Algorithm("VoxTell", "0.1", "sha256:" + "ab" * 32, "Not for diagnosis without review."),
    made=datetime(2026, 1, 2, 3, 4, 5),
    protocol="head and neck",
    protocol_digest="sha256:12",
    software_version="0.1.0",
)


def series_files(folder: Path) -> list[Path]:
    """The DICOM files of a folder of the test data, which also holds licences and reference images."""
    others = {".json", ".gz", ".nii", ".txt", ".md"}
    return [path for path in sorted(folder.iterdir()) if path.is_file() and path.suffix not in others | {""}] or [
        path for path in sorted(folder.iterdir()) if path.name.startswith("I")
    ]


def tool(name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Runs a judge that pip installed next to this Python; its output is text."""
    program = Path(sys.executable).parent / name
    return subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=120)


def iod_errors(dataset: Dataset, folder: Path) -> list[str]:
    """What dciodvfy calls an error in an object, and dicom-validator in those that it is asked about."""
    path = folder / f"{dataset.SOPInstanceUID}.dcm"
    dataset.save_as(path, enforce_file_format=True)
    errors = [line for line in tool("dciodvfy", path).stderr.splitlines() if line.startswith("Error")]
    return errors + (violations(dcmread(path)) if dataset.SOPClassUID in JUDGED else [])


def result_errors(dataset: Dataset, folder: Path) -> list[str]:
    """What dciodvfy finds wrong; it does not know yet that label maps are segmentations and have segment numbers."""
    return [line for line in iod_errors(dataset, folder) if "Referenced SOP Class that is not segmentation" not in line]


def axis_orders() -> Iterator[NDArray[np.float64]]:
    """The 48 directions (3, 3) whose columns are signed unit vectors of the patient's axes."""
    for order, signs in product(permutations(range(3)), product((1.0, -1.0), repeat=3)):
        yield np.eye(3)[:, order] * signs


def rotation(*degrees: float) -> NDArray[np.float64]:
    """Turns (3, 3) about x, then y, then z."""
    turned = np.eye(3)
    for axis, angle in enumerate(np.radians(degrees)):
        one, other = (axis + 1) % 3, (axis + 2) % 3
        turn = np.eye(3)
        turn[one, one] = turn[other, other] = np.cos(angle)
        turn[other, one], turn[one, other] = np.sin(angle), -np.sin(angle)
        turned = turn @ turned
    return turned


def affine_of(
    directions: NDArray[np.float64], spacing: tuple[float, float, float], origin: object
) -> NDArray[np.float64]:
    """(4, 4) from indices (slice, row, column) to LPS millimetres."""
    affine = np.eye(4)
    affine[:3, :3] = directions * spacing
    affine[:3, 3] = origin
    return affine


def edit(path: Path, **values: object) -> None:
    """Changes attributes of a file in place."""
    dataset = dcmread(path)
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.save_as(path, enforce_file_format=True)


def segment_points(path: Path) -> NDArray[np.float64]:
    """LPS millimetres (voxels, 3) of a one-segment SEG, from its own frame geometry and nothing else."""
    seg = dcmread(path)
    shared = seg.SharedFunctionalGroupsSequence[0]
    along_row, along_column = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, float).reshape(2, 3)
    between_rows, between_columns = map(float, shared.PixelMeasuresSequence[0].PixelSpacing)
    points = []
    for frame, pixels in zip(seg.PerFrameFunctionalGroupsSequence, seg.pixel_array, strict=True):
        rows, columns = np.nonzero(pixels)
        origin = np.array(frame.PlanePositionSequence[0].ImagePositionPatient, float)
        points.append(
            origin + rows[:, None] * between_rows * along_column + columns[:, None] * between_columns * along_row
        )
    return np.concatenate(points)

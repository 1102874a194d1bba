"""The series of a folder of files, as the protocols see them."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pydicom
import structlog

from worker.errors import WorkerError
from worker.protocols import Candidate
from worker.protocols.matching import DAMAGE

log = structlog.get_logger(__name__)


class FolderError(WorkerError):
    """The folder holds no DICOM series."""


@dataclass(frozen=True)
class FolderSeries:
    """The files of one series and their headers without pixel data, in the order of the file names."""

    paths: tuple[Path, ...]
    candidate: Candidate


def read_headers(paths: Sequence[Path]) -> tuple[list[Path], list[pydicom.Dataset]]:
    """The readable files and their data sets without pixel data; what is no DICOM is left out, and logged."""
    readable: list[Path] = []
    headers: list[pydicom.Dataset] = []
    for path in paths:
        try:
            header = pydicom.dcmread(path, stop_before_pixels=True)
            _ = header.SOPInstanceUID, header.SeriesInstanceUID  # what has none is a DICOMDIR, or damaged
        except DAMAGE as error:
            log.warning("not readable as DICOM", file=str(path), problem=str(error))
            continue
        headers.append(header)
        readable.append(path)
    return readable, headers


def series_in(folder: Path) -> list[FolderSeries]:
    """The series below a folder, whatever its layout, by Series Instance UID.

    Raises:
        FolderError: the folder cannot be read or holds no DICOM file.
    """
    if not folder.is_dir():
        raise FolderError(f"{folder} is not a folder that can be read; name a folder of DICOM files")
    found: dict[str, list[tuple[Path, pydicom.Dataset]]] = defaultdict(list)
    for path, header in zip(*read_headers(sorted(p for p in folder.rglob("*") if p.is_file())), strict=True):
        found[str(header.SeriesInstanceUID)].append((path, header))
    if not found:
        raise FolderError(f"{folder} holds no DICOM series; name a folder of DICOM files")
    return [
        FolderSeries(tuple(path for path, _ in pairs), Candidate([header for _, header in pairs]))
        for pairs in found.values()
    ]


def candidates_in(folder: Path) -> Iterator[Candidate]:
    """The series below a folder as the protocols see them; see `series_in`."""
    return (series.candidate for series in series_in(folder))

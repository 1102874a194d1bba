"""The series of a folder or of the store, and the volumes they hold, as the protocols see them."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pydicom
import structlog

from dicom_node.errors import SeriesError, UnreadableError
from dicom_node.images.frames import File, read_file
from dicom_node.origin import FROM_A_FOLDER, Origin
from dicom_node.ranking.facts import VolumeFacts, facts_of
from dicom_node.series import Outline, outlines
from worker.errors import WorkerError
from worker.identity import digest_of
from worker.protocols import Candidate
from worker.protocols.conditions import DAMAGE

log = structlog.get_logger(__name__)


class FolderError(WorkerError):
    """The folder holds no DICOM series."""


@dataclass(frozen=True)
class FolderSeries:
    """The readable files of one series, in the order of their names."""

    files: tuple[File, ...]

    @property
    def paths(self) -> tuple[Path, ...]:
        """Where the files lie."""
        return tuple(file.path for file in self.files)

    @cached_property
    def candidate(self) -> Candidate:
        """The whole series, whatever volumes it holds."""
        return Candidate([file.header for file in self.files])


@dataclass(frozen=True, eq=False)
class StudyVolume:
    """One volume of a study as far as its headers tell; or a series that holds none, and why."""

    study_uid: str
    series_uid: str
    name: str  # what tells it from the other volumes of its series ("EchoTime=90"); "" when it is the only one
    series_number: str
    label: str  # what people call it: "series 3 (Kopf nativ), EchoTime=90"
    files: tuple[File, ...]  # exactly those that hold its slices
    candidate: Candidate
    facts: VolumeFacts | None  # None if it is no regular volume
    problem: str = ""  # why it is none, with the slice
    frames: str | None = None  # digest of its frames, where a file of it holds frames of other volumes, too

    @property
    def instances(self) -> list[str]:
        """The SOP Instance UIDs of its files."""
        return [file.sop_uid for file in self.files]


def readable(paths: Sequence[Path]) -> list[File]:
    """The files that are DICOM instances of a series, without pixels. Others, and those that are gone, are left out.

    Raises:
        UnreadableError: the disk does not give a file just now; without it the series would be taken for a smaller one.
    """
    found: list[File] = []
    for path in paths:
        try:
            file = read_file(path)
            _ = file.header.SOPInstanceUID, file.header.SeriesInstanceUID  # what has none is a DICOMDIR, or damaged
        except (SeriesError, *DAMAGE) as error:
            if isinstance(error, UnreadableError) and not isinstance(error.__cause__, FileNotFoundError):
                raise
            log.warning("file_unreadable", file=str(path), problem=str(error))
            continue
        found.append(file)
    return found


def read_headers(paths: Sequence[Path]) -> tuple[list[Path], list[pydicom.Dataset]]:
    """The readable files and their data sets without pixel data; see `readable`."""
    found = readable(paths)
    return [file.path for file in found], [file.header for file in found]


def volumes_of(files: Sequence[File], origin: Origin = FROM_A_FOLDER) -> list[StudyVolume]:
    """The volumes of one series, in the order of their names; one entry that says why if it holds none.

    Their names and files come from the headers of all files: the order in which they arrived changes nothing.
    """
    try:
        found = outlines(files)
    except SeriesError as error:
        return [_volume(Outline("", ()), files, origin, str(error))]
    except DAMAGE as error:
        return [_volume(Outline("", ()), files, origin, f"a header is damaged: {error}")]
    return [_volume(outline, outline.files, origin, "") for outline in found]


def _volume(outline: Outline, files: Sequence[File], origin: Origin, problem: str) -> StudyVolume:
    facts: VolumeFacts | None = None
    if not problem:
        try:
            facts = facts_of(outline)
        except SeriesError as error:
            problem = str(error)
        except DAMAGE as error:
            problem = f"a header is damaged: {error}"
    first = files[0].header
    candidate = Candidate([file.header for file in files], origin.calling_ae, origin.called_ae, origin.address)
    number = _said(first, "SeriesNumber")
    words = _said(first, "SeriesDescription") or _said(first, "Modality")
    label = f"series {number or '?'}" + (f" ({words})" if words else "")
    return StudyVolume(
        study_uid=_said(first, "StudyInstanceUID"),
        series_uid=_said(first, "SeriesInstanceUID"),
        name=outline.name,
        series_number=number,
        label=f"{label}, {outline.name}" if outline.name else label,
        files=tuple(files),
        candidate=candidate,
        facts=facts,
        problem=problem,
        frames=_part_of_files(outline),
    )


def _part_of_files(outline: Outline) -> str | None:
    """Digest of the frames of a volume (SOP Instance UID, frame number); None when they are all that its files hold."""
    shown = sorted((frame.file.sop_uid, frame.number) for frame in outline.frames if frame.number is not None)
    files = {frame.file for frame in outline.frames if frame.number is not None}
    held = sum(int(file.header.get("NumberOfFrames") or 1) for file in files)
    return None if len(shown) == held else digest_of(shown)


def _said(header: pydicom.Dataset, keyword: str) -> str:
    try:
        return str(header.get(keyword) or "").strip()
    except DAMAGE:
        return ""


def series_in(folder: Path) -> list[FolderSeries]:
    """The series below a folder, whatever its layout, by Series Instance UID.

    Raises:
        FolderError: the folder cannot be read or holds no DICOM file.
    """
    if not folder.is_dir():
        raise FolderError(f"{folder} is not a folder that can be read; name a folder of DICOM files")
    found: dict[str, list[File]] = defaultdict(list)
    for file in readable(sorted(path for path in folder.rglob("*") if path.is_file())):
        found[str(file.header.SeriesInstanceUID)].append(file)
    if not found:
        raise FolderError(f"{folder} holds no DICOM series; name a folder of DICOM files")
    return [FolderSeries(tuple(files)) for files in found.values()]


def studies_in(folder: Path) -> list[list[StudyVolume]]:
    """The volumes of each study below a folder; see `series_in` and `volumes_of`."""
    studies: dict[str, list[StudyVolume]] = defaultdict(list)
    for series in series_in(folder):
        for volume in volumes_of(series.files):
            studies[volume.study_uid].append(volume)
    return list(studies.values())


def candidates_in(folder: Path) -> Iterator[Candidate]:
    """The series below a folder as the protocols see them; see `series_in`."""
    return (series.candidate for series in series_in(folder))

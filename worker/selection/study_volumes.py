"""Reads the headers of series, in a folder or in the store, and tells which volumes they hold.

No pixel is read: the geometry in the headers decides. The intake, `run`, `volume`, the demo and `protocols explain` use
it, so that all see the same volumes under the same names.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import pydicom

from dicom_node.errors import SeriesError, UnreadableError
from dicom_node.images.character_sets import undeclared_text
from dicom_node.images.frames import File, read_file
from dicom_node.images.grid import VariableSpacingError
from dicom_node.images.pydicom_errors import PYDICOM_ERRORS, damage
from dicom_node.origin import FROM_A_FOLDER, Origin
from dicom_node.ranking.facts import VolumeFacts, facts_of
from dicom_node.series import HeaderVolume, header_volumes
from dicom_node.uids import SeriesKey
from worker.errors import WorkerError
from worker.identity import digest_of
from worker.logs import get_logger
from worker.protocols import Candidate

log = get_logger(__name__)

SCATTERED = 3
"""From so many series of one file on that agree in `_ONE_SERIES` they are the slices of one."""
_ONE_SERIES = ("StudyInstanceUID", "SeriesNumber", "FrameOfReferenceUID", "SOPClassUID")


class FolderError(WorkerError):
    """The folder holds no DICOM series."""


@dataclass(frozen=True)
class FolderSeries:
    """The readable files of one series, in the order of their names."""

    files: tuple[File, ...]

    @property
    def paths(self) -> tuple[Path, ...]:
        """The paths of the files."""
        return tuple(file.path for file in self.files)

    @cached_property
    def candidate(self) -> Candidate:
        """The whole series as conditions see it, whatever volumes it holds."""
        return Candidate([file.header for file in self.files])


@dataclass(frozen=True, eq=False)
class StudyVolume:
    """One volume of a study as far as its headers tell; or a series without a volume, with the reason in `problem`."""

    study_uid: str
    series_uid: str
    name: str  # what tells it from the other volumes of its series ("EchoTime=90"); "" when it is the only one
    series_number: str
    label: str  # what people call it: "series 3 (Kopf nativ), EchoTime=90"
    files: tuple[File, ...]  # exactly those that hold its slices
    candidate: Candidate
    facts: VolumeFacts | None  # None if it is no regular volume
    problem: str = ""  # why it is none, with the slice
    resampled: VolumeFacts | None = None  # if it is none because its spacing changes by design: made even
    frames: str | None = None  # digest of its frames, where a file of it holds frames of other volumes, too
    instances: tuple[str, ...] = ()  # the SOP Instance UIDs of its files
    accession: str = ""
    patient_id: str = ""
    patient_name: str = ""
    study_date: str = ""
    study_description: str = ""

    def bare(self) -> "StudyVolume":
        """Returns the same volume without its headers, which may be large."""
        return replace(self, files=(), candidate=Candidate(()))


@dataclass(frozen=True)
class Unread:
    """A file that is no instance of a series, and why; `gone` when it is not there any more."""

    path: Path
    problem: str
    gone: bool


def readable(paths: Sequence[Path], character_set: str = "") -> list[File]:
    """Reads the DICOM instances among the files, without pixel data. Other files and missing ones are left out.

    character_set: of texts whose file declares none (`dicom_node.images.character_sets`).

    Raises:
        UnreadableError: when the disk does not give a file just now. Leaving it out would make the series look smaller.
    """
    found, unread = read_all(paths, character_set)
    log_unread(unread)
    return found


def log_unread(unread: Sequence[Unread]) -> None:
    """Logs the files that were left out."""
    for one in unread:
        log.warning("file_unreadable", file=str(one.path), problem=one.problem)


def read_all(paths: Sequence[Path], character_set: str = "") -> tuple[list[File], list[Unread]]:
    """Reads the files that are DICOM instances of a series, as `readable` does, and names those that are not.

    Raises:
        UnreadableError: when the disk does not give one just now.
    """
    found: list[File] = []
    unread: list[Unread] = []
    for path in paths:
        try:
            file = read_file(path, character_set)
            _ = file.header.SOPInstanceUID, file.header.SeriesInstanceUID  # what has none is a DICOMDIR, or damaged
        except (SeriesError, *PYDICOM_ERRORS) as error:
            if isinstance(error, UnreadableError) and not isinstance(error.__cause__, FileNotFoundError):
                raise
            unread.append(Unread(path, _problem(path, error), gone=isinstance(error.__cause__, FileNotFoundError)))
            continue
        found.append(file)
    return found, unread


def _problem(path: Path, error: Exception) -> str:
    """Says in one sentence why a file is no instance of a series."""
    if isinstance(error, AttributeError):
        return f"{path.name} names no series or no instance: it is a DICOMDIR, or was cut off"
    return (
        str(error) if isinstance(error, SeriesError) else f"the header of {path.name} cannot be read: {damage(error)}"
    )


def read_headers(paths: Sequence[Path]) -> tuple[list[Path], list[pydicom.Dataset]]:
    """Returns the paths of the readable files and, in the same order, their data sets without pixel data.

    Raises:
        UnreadableError: when the disk does not give one just now.
    """
    found = readable(paths)
    return [file.path for file in found], [file.header for file in found]


def volumes_of(files: Sequence[File], origin: Origin = FROM_A_FOLDER) -> list[StudyVolume]:
    """Returns the volumes of one series in the order of their names; one entry with a `problem` if it holds none.

    Names and files follow from the headers of all files, so the order in which these arrived changes nothing. Damaged
    headers raise nothing either: they are such a problem.
    """
    try:
        found = header_volumes(files)
    except SeriesError as error:
        return [_volume(HeaderVolume("", ()), files, origin, str(error))]
    except PYDICOM_ERRORS as error:
        return [_volume(HeaderVolume("", ()), files, origin, _damage(error, files))]
    return [_volume(outline, outline.files, origin, "") for outline in found]


def without_volume(series: SeriesKey, unread: Sequence[Unread]) -> list[StudyVolume]:
    """Returns one entry with the reason for a series of whose files none can be read; nothing where files are gone."""
    if not unread or any(one.gone for one in unread):
        return []
    problem = f"none of its {len(unread)} files can be read: {unread[0].problem}"
    return [StudyVolume(*series, "", "", f"series {series.series_uid}", (), Candidate(()), None, problem)]


def _volume(outline: HeaderVolume, files: Sequence[File], origin: Origin, problem: str) -> StudyVolume:
    """Describes one volume; a geometry that is not regular becomes its problem."""
    facts: VolumeFacts | None = None
    resampled: VolumeFacts | None = None
    if not problem:
        try:
            facts = facts_of(outline)
        except SeriesError as error:
            problem = str(error)
            if isinstance(error, VariableSpacingError):
                with suppress(SeriesError, *PYDICOM_ERRORS):
                    resampled = facts_of(replace(outline, even=True))
        except PYDICOM_ERRORS as error:
            problem = _damage(error, outline.files)
    first = files[0].header
    candidate = Candidate([file.header for file in files], origin)
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
        resampled=resampled,
        frames=_part_of_files(outline),
        instances=tuple(file.sop_uid for file in files),
        accession=_said(first, "AccessionNumber"),
        patient_id=_said(first, "PatientID"),
        patient_name=_said(first, "PatientName"),
        study_date=_said(first, "StudyDate"),
        study_description=_said(first, "StudyDescription"),
    )


def _damage(error: Exception, files: Sequence[File]) -> str:
    """Says which header is damaged, as far as one can tell, and in which attributes."""
    unnamed = damage(error)
    for file in files:
        if (named := damage(error, file.header)) != unnamed:
            return f"the header of {file.path.name} cannot be read: {named}"
    return f"a header cannot be read: {unnamed}"


def _part_of_files(outline: HeaderVolume) -> str | None:
    """Digests which frames make the volume; None when it has all the frames of its files.

    Several volumes may share one multi-frame image; their jobs differ only by this digest.
    """
    shown = sorted((frame.file.sop_uid, frame.number) for frame in outline.frames if frame.number is not None)
    files = {frame.file for frame in outline.frames if frame.number is not None}
    held = sum(int(file.header.get("NumberOfFrames") or 1) for file in files)
    return None if len(shown) == held else digest_of(shown)


def _said(header: pydicom.Dataset, keyword: str) -> str:
    """Returns an attribute as text; "" where it is missing, empty or damaged."""
    try:
        return str(undeclared_text(header, keyword) or header.get(keyword) or "").strip()
    except PYDICOM_ERRORS:
        return ""


def series_in(folder: Path, character_set: str = "") -> list[FolderSeries]:
    """Returns the series below a folder, whatever its layout; files are grouped by Series Instance UID.

    character_set: as for `readable`.

    Raises:
        FolderError: when the folder cannot be read or holds no DICOM file.
    """
    found, unread = files_in(folder, character_set)
    log_unread(unread)
    return found


def files_in(folder: Path, character_set: str = "") -> tuple[list[FolderSeries], list[Unread]]:
    """Returns the series below a folder as `series_in` does, and the files that are no instance of one.

    Raises:
        FolderError: when the folder cannot be read or holds no DICOM file.
    """
    if not folder.is_dir():
        raise FolderError(f"{folder} is not a folder that can be read; name a folder of DICOM files")
    files, unread = read_all(sorted(path for path in folder.rglob("*") if path.is_file()), character_set)
    found: dict[str, list[File]] = defaultdict(list)
    for file in files:
        found[str(file.header.SeriesInstanceUID)].append(file)
    if not found:
        first = f" ({unread[0].problem})" if unread else ""
        raise FolderError(f"{folder} holds no DICOM series{first}; name a folder of DICOM files")
    return [FolderSeries(tuple(one)) for one in found.values()], unread


def studies_in(folder: Path, character_set: str = "") -> list[list[StudyVolume]]:
    """Returns the volumes of each study below a folder; see `series_in` and `studies_of`."""
    return studies_of(series_in(folder, character_set))


def studies_of(series: Sequence[FolderSeries]) -> list[list[StudyVolume]]:
    """Returns the volumes of each study among these series; see `volumes_of`.

    Slices that an anonymiser gave a series each are one entry with a `problem`.
    """
    studies: dict[str, list[StudyVolume]] = defaultdict(list)
    for files in _gathered(series):
        apart = len({str(file.header.SeriesInstanceUID) for file in files})
        problem = (
            f"each of the {apart} files has a Series Instance UID of its own, as some anonymisers write: give them one"
        )
        found = volumes_of(files) if apart == 1 else [_volume(HeaderVolume("", ()), files, FROM_A_FOLDER, problem)]
        for volume in found:
            studies[volume.study_uid].append(volume)
    return list(studies.values())


def _gathered(found: Sequence[FolderSeries]) -> Iterator[tuple[File, ...]]:
    """Yields the files of each series; those of one file that agree in `_ONE_SERIES` come together."""
    apart: dict[tuple[str, ...], list[File]] = defaultdict(list)
    for series in found:
        said = tuple(_said(series.files[0].header, keyword) for keyword in _ONE_SERIES)
        if len(series.files) == 1 and all(said):
            apart[said].append(series.files[0])
        else:
            yield series.files
    for files in apart.values():
        if len(files) >= SCATTERED:
            yield tuple(files)
        else:
            yield from ((file,) for file in files)


def candidates_in(folder: Path) -> Iterator[Candidate]:
    """Yields each series below a folder as the protocols' conditions see it; see `series_in`."""
    return (series.candidate for series in series_in(folder))

"""Proves that a series is complete: compares what its headers promise with the images that are there. Pure functions.

A series that is not proved complete loses nothing: it is settled when it has been quiet for long enough. One that is
wrongly proved complete is segmented in part. So the proofs are narrow: the number of images must be promised, every
image must promise the same, and the images that are there must be that many and make regular volumes without a gap.

Promises, PS3.3 (and C.4.1.1.3 of PS3.4 for the first):
- NumberOfSeriesRelatedInstances: of the series, by whoever sent it.
- ImagesInAcquisition (C.7.6.1): of one acquisition; counts only where the whole series is one acquisition whose
  InstanceNumbers leave out none.
- NumberOfSlices (C.8.9.1, PET), times NumberOfTimeSlices if the series is dynamic; gated series promise nothing here.
- NumberOfTemporalPositions (C.7.6.1, C.8.3.1): each place of the grid must have so many images, which must be given
  together with one of the above.
- Enhanced images (C.7.6.16): one with all of its frames is a series; a concatenation is InConcatenationTotalNumber.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from pydicom import Dataset

from dicom_node.errors import SeriesError
from dicom_node.images.frames import File
from dicom_node.images.grid import levels_of
from dicom_node.series import header_volumes


def promised(header: Dataset) -> int | None:
    """Returns how many instances one header says its series has; None if it does not say."""
    if "PerFrameFunctionalGroupsSequence" in header:
        return _number(header, "InConcatenationTotalNumber") if "ConcatenationUID" in header else 1
    return (
        _number(header, "NumberOfSeriesRelatedInstances")
        or _slices_of_a_pet(header)
        or _number(header, "ImagesInAcquisition")
    )


def _slices_of_a_pet(header: Dataset) -> int | None:
    """Counts the images of a static or dynamic PET series by its PET Series module (PS3.3 C.8.9.1); else None."""
    slices = _number(header, "NumberOfSlices")
    kind = str(header.get("SeriesType") or "").upper()
    if header.get("Modality") != "PT" or slices is None or "GATED" in kind:
        return None
    return slices * (_number(header, "NumberOfTimeSlices") or 0) or None if "DYNAMIC" in kind else slices


def proof(files: Sequence[File], *, counted: int | None = None) -> str:
    """Says in a few words why these files are all of their series; "" if that is not proved.

    `counted` is how many instances an archive counts in the series; then the headers need not promise anything. An
    example: "120 images, as their headers say, without a gap".
    """
    headers = [file.header for file in files]
    if not files or _repeated(str(header.get("SOPInstanceUID")) for header in headers):
        return ""
    said = counted or _promised_by_all(headers)
    if said != len(files) or not _without_gaps(files):
        return ""
    return f"{said} images, as {'the archive counts' if counted else 'their headers say'}, without a gap"


def _promised_by_all(headers: Sequence[Dataset]) -> int | None:
    """Returns how many instances all headers promise alike; None where they differ or it does not count."""
    promises = {promised(header) for header in headers}
    if len(promises) != 1:
        return None
    (number,) = promises
    if "PerFrameFunctionalGroupsSequence" in headers[0]:
        return number if all(_has_all_frames(header) for header in headers) else None
    if _number(headers[0], "NumberOfSeriesRelatedInstances") or _slices_of_a_pet(headers[0]):
        return number
    return number if _is_one_acquisition(headers) else None


def _has_all_frames(header: Dataset) -> bool:
    """Whether an enhanced image describes as many frames as it says it has."""
    return _number(header, "NumberOfFrames") == len(header.PerFrameFunctionalGroupsSequence)


def _is_one_acquisition(headers: Sequence[Dataset]) -> bool:
    """Whether the images have one acquisition number, and instance numbers that follow each other without a gap."""
    numbers = sorted(_number(header, "InstanceNumber") or 0 for header in headers)
    consecutive = numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    return consecutive and len({header.get("AcquisitionNumber") for header in headers}) == 1


def _without_gaps(files: Sequence[File]) -> bool:
    """Whether each volume is regular, and each place has as many images as there are temporal positions."""
    try:
        found = header_volumes(files)
        grids = [outline.grid for outline in found]
    except SeriesError:
        return False
    if sum(len(outline.files) for outline in found) != len(files):
        return False  # some image is in no volume: a scout, or a slice that is there twice
    frames = [frame for grid in grids for frame in grid.frames]
    times = {_number(file.header, "NumberOfTemporalPositions") or 1 for file in files}
    if times == {1} or frames[0].number is not None:
        return True
    return len(times) == 1 and {len(level) for level in levels_of(frames)} == times


def _number(header: Dataset, keyword: str) -> int | None:
    """Reads a count from the header; None if it is missing, empty, multi-valued or not positive."""
    value: Any = header.get(keyword)
    try:
        number = int(value)
    except (TypeError, ValueError):
        return None
    return number if number > 0 else None


def _repeated(values: Iterable[str]) -> bool:
    """Whether a value occurs twice."""
    return any(count > 1 for count in Counter(values).values())

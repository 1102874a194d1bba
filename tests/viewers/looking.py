"""What a person sees of a study in OHIF: on which images each object lies, under which names and colours, and where."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dicom_node.objects.rtstruct import contour_points
from tests.viewers.ohif import StudyPage
from tests.viewers.studies import LookedAtStudy, Spot

_SECONDS: Final = 30.0  # until a picture is drawn, on a loaded machine
_LIKE: Final = 0.93  # cosine between two hues
_TINTED: Final = 6.0  # grey levels by which a colour must differ from grey
_MARK: Final = 100  # pixels of a line with its text
_DRAWN: Final = 0.85  # of the samples along an outline; labels and scroll bars may lie over some


NOT_SHOWN: Final = "not shown: OHIF goes on loading"


@dataclass
class Seen:
    """On which series (Modality) an object opened, and what was not right."""

    opened_on: str = "nothing"
    faults: list[str] = field(default_factory=list)


def look(page: StudyPage, study: LookedAtStudy, modality: str, pictures: Path) -> Seen:
    """Opens the SEG or RTSTRUCT of a study and compares what is shown; pictures are kept in a folder."""
    source = study.series.modality
    series = {str(study.series.series_uid): source}
    series |= {str(one.SeriesInstanceUID): str(one.Modality) for one in study.objects.values()}
    _until(lambda: page.series_under(modality))
    seen = Seen(series.get(page.series_under(modality), "nothing"))
    page.open(modality)
    if seen.opened_on != source:
        seen.faults.append(f"the {modality} lies on: {seen.opened_on}")
    elif not _until(lambda: len(page.structures()) >= len(study.spots) or page.errors):
        seen.faults.append(f"the {modality} has the structures {page.structures()}")
    elif page.errors:
        page.picture(pictures / f"{modality.lower()}-error.png")
        seen.faults.append(NOT_SHOWN if page.loads() else "; ".join(page.errors))
    else:
        seen.faults += _faults(page, study, modality, pictures)
    return seen


def look_at_report(page: StudyPage, study: LookedAtStudy, pictures: Path) -> list[str]:
    """Opens the SR; returns what is not right: it must show the source's images, with the diameters drawn on them."""
    page.open("SR")
    slices = {one.sop_uid for one in study.series.references}
    if not _until(lambda: any(map(page.shows, slices))):
        return ["the SR opens on no image of the source"]
    drawn = _until(lambda: _coloured(page.picture(pictures / "sr.png")) > _MARK)
    return [*page.errors, *([] if drawn else ["no diameter is drawn"])]


def _coloured(picture: Image.Image) -> int:
    """The number of pixels of the image in view, without the rim of the page, that have a strong colour."""
    width, height = picture.size
    inner = np.asarray(picture.crop((width * 3 // 10, height // 8, width * 9 // 10, height * 9 // 10)), dtype=int)
    return int((inner.max(axis=2) - inner.min(axis=2) > 100).sum())


def _faults(page: StudyPage, study: LookedAtStudy, modality: str, pictures: Path) -> list[str]:
    """What is not right in the structures over the image in view."""
    faults = []
    for spot in study.spots:
        name = spot.segment if modality == "SEG" else spot.roi
        colour = page.structures().get(name)
        if colour is None or max(abs(np.subtract(colour, spot.colour))) > 2:
            faults.append(f"{name} of {spot.colour} is shown as {page.structures()}")
        page.go_to(spot.slice.sop_uid, spot.slice.frame_number)
        path = pictures / f"{modality.lower()}-{spot.roi}.png"
        if not _until(lambda spot=spot, path=path: _is_drawn(page, study, modality, spot, path)):
            faults.append(f"{name} is not where it should be: {path.name}")
    return faults + page.errors


def _is_drawn(page: StudyPage, study: LookedAtStudy, modality: str, spot: Spot, path: Path) -> bool:
    """Whether the slice in view has a structure's colour where the structure is."""
    picture = page.picture(path)
    if modality == "SEG":
        ((column, row),) = page.places([spot.point])
        return _likeness(_around(picture, column, row, 1).mean(axis=(0, 1)), spot.colour) > _LIKE
    samples = _outline(study, spot)
    near = [_around(picture, column, row, 2) for column, row in page.places(samples)]
    drawn = [max(_likeness(pixel, spot.colour) for pixel in pixels.reshape(-1, 3)) > _LIKE for pixels in near]
    return sum(drawn) >= _DRAWN * len(drawn)


def _outline(study: LookedAtStudy, spot: Spot) -> list[list[float]]:
    """The middles of the edges of a structure's contour on the slice of its spot, LPS millimetres."""
    dataset = study.objects["rtstruct.dcm"]
    (number,) = (roi.ROINumber for roi in dataset.StructureSetROISequence if roi.ROIName == spot.roi)
    (structure,) = (one for one in dataset.ROIContourSequence if one.ReferencedROINumber == number)
    for contour in structure.ContourSequence:
        image = contour.ContourImageSequence[0]
        if (image.ReferencedSOPInstanceUID, image.get("ReferencedFrameNumber")) == (
            spot.slice.sop_uid,
            spot.slice.frame_number,
        ):
            points = contour_points(contour)
            return ((points + np.roll(points, -1, axis=0)) / 2).tolist()
    raise AssertionError(f"{spot.roi} has no contour on its own slice")


def _around(picture: Image.Image, column: float, row: float, reach: int) -> NDArray[np.float64]:
    """The pixels (rows, columns, RGB) around a place on the page."""
    x, y = round(column), round(row)
    return np.asarray(picture.crop((x - reach, y - reach, x + reach + 1, y + reach + 1)), dtype=float)


def _likeness(pixel: NDArray[np.float64], colour: Sequence[int]) -> float:
    """The cosine between the hues of a pixel and a colour; 0 where the pixel is grey."""
    here, there = pixel - pixel.mean(), np.subtract(colour, np.mean(colour))
    if np.abs(here).max() < _TINTED:
        return 0.0
    return float(here @ there / np.linalg.norm(here) / np.linalg.norm(there))


def _until(condition: Callable[[], object]) -> bool:
    """Waits for a condition; whether it came true."""
    deadline = time.monotonic() + _SECONDS
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True

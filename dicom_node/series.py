"""Reads the files of one DICOM series into one exact grid of values, or refuses with a sentence that names the slice.

What is handled exactly: any order of files, CT, MR and PET (rescale per slice), every orientation, non-square pixels,
enhanced multi-frame files, compressed pixels, gantry tilt, doubled files, jitter of positions within the tolerances of
`dicom_node.images.grid`; where it is asked for, a spacing that changes by design. What is left out of a series is
written into `ImageSeries.notes`: localizers, secondary captures and other objects. That cannot hide a slice, because
what remains must be one gapless regular grid.

Coordinates are millimetres in LPS: x grows to the left, y to posterior, z to the head (PS3.3 C.7.6.2.1.1).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Final

import highdicom
import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.config import disable_value_validation
from pydicom.uid import UID

from dicom_node.errors import SeriesError
from dicom_node.images.frames import File, Frame, NoPositionError, frames_of, read_files, text_of
from dicom_node.images.grid import Grid, arrange, require_one_rescale, require_places, require_uniform
from dicom_node.images.pixels import decode
from dicom_node.images.pydicom_errors import PYDICOM_ERRORS, damage, unreadable
from dicom_node.images.volumes_of_series import separate, stacks, without_doubles
from dicom_node.modalities import is_image, labels

_MOSAICS: Final = frozenset(("MOSAIC", "VFRAME"))  # of Image Type: many slices side by side in one image

# Orientations rounded to three decimals turn a normal by up to this; a real gantry tilt is larger.
ROUNDING_DEGREES: Final = 0.1
_IDENTITY: Final = ("PatientID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "Modality")


@dataclass(frozen=True)
class FrameReference:
    """Names the source frame of one slice (PS3.3 10.3, Image SOP Instance Reference Macro)."""

    sop_class_uid: str
    sop_uid: str
    frame_number: int | None  # 1-based in a multi-frame image, None otherwise


@dataclass(frozen=True, eq=False)
class ImageSeries:
    """Holds one volume of a series; slices lie in order along the normal (row direction x column direction).

    volume: float32 (slices, rows, columns) in rescaled units (HU for CT) with its LPS affine. It cannot hold the shear
    of a tilted gantry: there it is the same array on the grid made upright, which is what the network sees.
    affine: (4, 4), maps (slice, row, column) to LPS millimetres, including the shear. Without tilt it equals that of
    `volume`.
    """

    study_uid: str
    series_uid: str
    modality: str
    frame_of_reference_uid: str
    headers: list[Dataset]  # without pixels, one per file in slice order: a multi-frame image has one for its slices
    references: list[FrameReference]  # one per slice that a file holds, in slice order
    volume: highdicom.Volume
    affine: NDArray[np.float64]
    positions: NDArray[np.float64]  # (slices, 3) LPS mm: centre of each slice's first pixel, as its own header says
    orientation: NDArray[np.float64]  # (2, 3) unit vectors in LPS: along a row, along a column
    tilt_degrees: float = 0.0
    name: str = ""  # what distinguishes this volume in its series ("EchoTime=90"); "" when it is the only one
    notes: tuple[str, ...] = ()
    interpolated: frozenset[int] = frozenset()  # slices that no file holds, where the spacing of the files changes

    @cached_property
    def reference_at(self) -> dict[int, FrameReference]:
        """The source frame of each slice that a file holds, by its index."""
        places = (place for place in range(len(self.positions)) if place not in self.interpolated)
        return dict(zip(places, self.references, strict=True))

    @property
    def is_tilted(self) -> bool:
        """Whether the slices lean over each other, as under a tilted gantry; not by what rounding explains."""
        return self.tilt_degrees >= ROUNDING_DEGREES


def read_series(paths: Sequence[Path], *, even: bool = False, character_set: str = "") -> ImageSeries:
    """Returns the one volume that the files of a series hold. Memory: four bytes per voxel.

    even: where the spacing changes by design, add slices between the others, so that all lie on one regular grid.
    character_set: of texts whose file declares none (`dicom_node.images.character_sets`).

    Raises:
        SeriesError: when they hold none or several, or slices are missing, uneven, or do not belong together.
        UnreadableError: when the disk does not give a file out (retry: later).
    """
    volumes = header_volumes(read_files(paths, character_set))
    if len(volumes) > 1:
        names = "; ".join(f"{volume.name}: {len(volume.frames)} slices" for volume in volumes)
        raise SeriesError(f"the series holds {len(volumes)} volumes ({names}); name one of them")
    return _series(replace(volumes[0], even=even))


def split_series(paths: Sequence[Path]) -> list[ImageSeries]:
    """Returns every volume of a series of several phases, echoes or b-values, each named by what distinguishes it.

    All grids are checked before any pixels are decoded.

    Raises:
        SeriesError: when one of the volumes is not a regular grid, as when a slice is missing in one phase.
        UnreadableError: when the disk does not give a file out (retry: later).
    """
    volumes = header_volumes(read_files(paths))
    for volume in volumes:
        _ = volume.grid  # refused before any pixels are decoded
    return [_series(volume) for volume in volumes]


def read_volume(paths: Sequence[Path], name: str, *, even: bool = False, character_set: str = "") -> ImageSeries:
    """Returns the volume called `name` among those that the files hold; see `HeaderVolume.name` and `read_series`.

    `paths` may be the whole series or only the files of this volume. The latter have in common what distinguished them
    in the whole series, so a shorter name that is part of `name` is the same volume.

    Raises:
        SeriesError: when there is no such volume, or its slices are missing, uneven, or do not belong together.
        UnreadableError: when the disk does not give a file out (retry: later).
    """
    volumes = header_volumes(read_files(paths, character_set))
    wanted = _parts(name)
    named = [volume for volume in volumes if _parts(volume.name) <= wanted]
    if len(named) != 1:
        raise SeriesError(
            f"the files hold no volume '{name}', but {'; '.join(volume.name or 'one' for volume in volumes)}; "
            "name one that is there"
        )
    return _series(replace(named[0], name=name, even=even))


def _parts(name: str) -> set[str]:
    """Returns the facts of a volume's name, such as "EchoTime=90"."""
    return set(name.split(", ")) - {""}


@dataclass(frozen=True, eq=False)
class HeaderVolume:
    """Describes one volume of a series by its headers: what a node decides on before it decodes pixels."""

    name: str  # what distinguishes it from the other volumes ("EchoTime=90"); "" when it is the only one
    frames: tuple[Frame, ...]  # its slices
    notes: tuple[str, ...] = ()  # what was left out of the series
    even: bool = False  # whether a spacing that changes by design is made even

    @cached_property
    def grid(self) -> Grid:
        """The regular grid of its slices, computed once.

        Raises:
            SeriesError: when there is none; names the slice that forbids it, and what was left out of the series.
        """
        try:
            require_one_rescale(self.frames)
            return arrange(self.frames, even=self.even)
        except SeriesError as error:
            raise type(error)("; ".join([str(error), *_few(self.notes)])) from error

    @property
    def files(self) -> list[File]:
        """The files that hold its slices."""
        return list(dict.fromkeys(frame.file for frame in self.frames))


def header_volumes(files: Sequence[File]) -> list[HeaderVolume]:
    """Returns the volumes that the files of one series hold, in the order of their names' values.

    The names come from the headers of all files, never from their order. Pixels are compared only where two files lie
    at one place.

    Raises:
        SeriesError: when no file is a slice of a volume, or the files do not belong together; names the slice.
        UnreadableError: when the disk does not give a file out (retry: later).
    """
    frames, notes = _images(files)
    found: list[tuple[str, list[Frame]]] = []
    for name, stack in stacks(frames):
        require_uniform(stack)
        require_places(stack)
        found += separate(without_doubles(stack, notes), name)
    return [HeaderVolume(name, tuple(part), tuple(notes)) for name, part in found]


def _series(outline: HeaderVolume) -> ImageSeries:
    """Decodes the pixels of a volume and returns it with notes on tilt and jitter."""
    grid = outline.grid
    first = grid.frames[0].header
    notes = list(outline.notes)
    if grid.tilt_degrees >= ROUNDING_DEGREES:
        notes.append(f"gantry tilt {grid.tilt_degrees:.2f} degrees: the slices lean over each other")
    elif grid.tilt_degrees:
        notes.append(f"the slices lean by {grid.tilt_degrees:.3f} degrees, as their rounded orientation makes them")
    if grid.jitter_mm > 0.01:
        notes.append(f"slice positions jitter by up to {grid.jitter_mm:.3f} mm around a regular grid")
    slices = grid.places[-1] + 1
    interpolated = frozenset(range(slices)) - frozenset(grid.places)
    if interpolated:
        notes.append(
            f"the spacing changes by design, up to {grid.widest_mm:.3g} mm: {len(interpolated)} slices between the "
            f"others were interpolated for the network, {grid.step_mm:.3g} mm apart; results lie on the source slices"
        )
    positions = grid.affine[:3, 3] + np.arange(slices)[:, None] * grid.affine[:3, 0]
    positions[list(grid.places)] = [frame.position for frame in grid.frames]
    frame_of_reference = str(first.get("FrameOfReferenceUID") or "")
    return ImageSeries(
        study_uid=str(first.get("StudyInstanceUID", "")),
        series_uid=str(first.get("SeriesInstanceUID", "")),
        modality=str(first.get("Modality", "")),
        frame_of_reference_uid=frame_of_reference,
        headers=[file.header for file in dict.fromkeys(frame.file for frame in grid.frames)],
        references=[
            FrameReference(frame.file.sop_class_uid, frame.file.sop_uid, frame.number) for frame in grid.frames
        ],
        volume=highdicom.Volume(
            _filled(decode(grid.frames), grid.places),
            grid.upright,
            "PATIENT",
            frame_of_reference_uid=frame_of_reference or None,
        ),
        affine=grid.affine,
        positions=positions,
        orientation=grid.orientation,
        tilt_degrees=grid.tilt_degrees,
        name=outline.name,
        notes=tuple(notes),
        interpolated=interpolated,
    )


def _filled(slices: NDArray[np.float32], places: Sequence[int]) -> NDArray[np.float32]:
    """Returns float32 (indices, rows, columns) with each slice at its place, those between interpolated linearly."""
    if places[-1] + 1 == len(slices):
        return slices
    filled = np.empty((places[-1] + 1, *slices.shape[1:]), dtype=np.float32)
    filled[list(places)] = slices
    for before, after in pairwise(places):
        for place in range(before + 1, after):
            part = np.float32((place - before) / (after - before))
            filled[place] = (1 - part) * filled[before] + part * filled[after]
    return filled


def _images(files: Sequence[File]) -> tuple[list[Frame], list[str]]:
    """Returns the frames that may be slices, and a note for each file that is not one."""
    if not files:
        raise SeriesError("the series has no files")
    frames: list[Frame] = []
    notes: list[str] = []
    uids: set[str] = set()
    nowhere: list[NoPositionError] = []
    for file in files:
        try:
            if reason := _no_slice(file):
                notes.append(f"{file.path.name} is left out: it is {reason}")
                continue
            for keyword in _IDENTITY:
                file.header.get(keyword)  # pydicom converts it here, where an error can still name the file
            uids.add(str(file.header.get("SeriesInstanceUID", "")))
            with disable_value_validation():  # a Decimal String of 17 characters is still a number
                frames += frames_of(file)
        except NoPositionError as error:
            nowhere.append(error)
            notes.append(f"{error}, and is left out")
        except PYDICOM_ERRORS as error:
            damaged = SeriesError(f"the header of {file.path.name} cannot be read: {damage(error, file.header)}")
            raise unreadable(file.path, error) or damaged from error
    if len(nowhere) > len(frames):  # slices whose place was lost, and no picture beside them
        raise nowhere[0]
    if not frames:
        raise SeriesError(f"no file of the series is a slice of a volume: {''.join(_few(notes))}")
    if len(uids) > 1:
        raise SeriesError(f"the files belong to {len(uids)} series: {', '.join(sorted(uids))}")
    return frames, notes


def _few(notes: Sequence[str]) -> list[str]:
    """Returns the first of the notes, with the number of the others."""
    return [notes[0] + (f" (and {len(notes) - 1} more files)" if len(notes) > 1 else "")] if notes else []


def _no_slice(file: File) -> str:
    """Returns why an object is not a slice of a volume; "" if it may be one."""
    header, sop_class = file.header, UID(file.sop_class_uid)
    if not is_image(sop_class):
        return f"a {sop_class.name.removesuffix(' Storage')} object, no {labels()} image"
    colours = text_of(header.get("PhotometricInterpretation"))
    if (header.get("SamplesPerPixel") or 1) != 1 or colours == "PALETTE COLOR":
        return f"a colour image ({colours})"
    kinds = text_of(header.get("ImageType")).upper().split("\\")
    if "LOCALIZER" in kinds:
        return "a localizer"
    if mosaic := " ".join(_MOSAICS.intersection(kinds)):
        return f"a Siemens mosaic ({mosaic}): its slices are tiles of one image; export single or enhanced images"
    if header.get("ModalityLUTSequence"):
        return "an image whose values need a Modality LUT"
    return ""

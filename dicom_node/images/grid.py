"""Arranges slices in order and decides whether they form one regular grid, and where it lies.

Every decision looks at all frames, so that a lone wrong slice is named wherever it stands in the list. Coordinates are
millimetres in LPS: x grows to the left, y to posterior, z to the head (PS3.3 C.7.6.2.1.1). Rows and columns are array
axes: index (slice, row, column).
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dicom_node.errors import SeriesError
from dicom_node.images.frames import Frame, text_of

# Orientation cosines of one series agree to rounding; 1e-3 is 0.06 degrees, 0.25 mm at the rim of a 500 mm field.
COSINE_TOLERANCE: Final = 1e-3
# Pixel spacings agree when they place the last pixel of an image equally, to within this fraction of a pixel.
SPACING_PART: Final = 0.1
# A slice may lie off the regular grid by this fraction of the slice spacing: half of the tenth of a voxel by which a
# mask may be off. Positions rounded to 0.01 mm are always accepted.
JITTER_PART: Final = 0.05
JITTER_MM: Final = 0.01
# A gap of at least this many spacings is a missing slice, not jitter.
GAP_SPACINGS: Final = 1.5
# So many parts of different spacing are a plan; more are slices that lie anywhere.
MOST_STEPS: Final = 4
# The finest grid that slices of different spacing are put on, in parts of the smallest one.
FINEST_PART: Final = 5
# A grid that is so fine, has so many slices for each slice of the files, or so many in one gap, is nobody's plan, and
# its volume might not fit in memory.
FINEST_MM: Final = 0.2
MOST_SLICES: Final = 8
MOST_IN_GAP: Final = 10
# Two frames closer than this lie at the same place.
SAME_PLACE_MM: Final = 0.01


class VariableSpacingError(SeriesError):
    """The spacing changes from one part of the series to the next, and no slice is missing."""


@dataclass(frozen=True, eq=False)
class Grid:
    """Holds frames in slice order, along the normal (row direction x column direction), and their common geometry.

    affine: (4, 4) float64, maps (slice, row, column) to LPS millimetres, including the shear of a tilted gantry.
    upright: the same with the slice axis along the normal. It equals `affine` for an untilted series; libraries that
    know no shear need it.
    places: the slice index of each frame; there is none at some indices where the spacing changes.
    """

    frames: tuple[Frame, ...]
    places: tuple[int, ...]
    affine: NDArray[np.float64]
    upright: NDArray[np.float64]
    orientation: NDArray[np.float64]  # (2, 3) of most frames
    tilt_degrees: float  # between the slice axis and the normal: the gantry tilt; 0.0 if below what positions resolve
    jitter_mm: float  # the largest distance of a slice from its place on the grid

    @property
    def step_mm(self) -> float:
        """Between two neighbouring slice indices, along the normal."""
        return float(np.linalg.norm(self.upright[:3, 0]))

    @property
    def widest_mm(self) -> float:
        """Between the two neighbouring frames that lie farthest apart; the spacing where that does not change."""
        return self.step_mm * int(np.diff(self.places).max())


def require_uniform(frames: Sequence[Frame]) -> None:
    """Checks that all frames agree in patient, study, SOP class, frame of reference, orientation, size and spacing.

    Raises:
        SeriesError: when a slice differs from the majority; names the slice and in what it differs, never a patient.
    """
    patients = [text_of(frame.header.get("PatientID")) for frame in frames]
    (most, _), *_ = Counter(patients).most_common()
    # Patient IDs must not get into logs.
    _require_same(frames, "patients", ["one Patient ID" if one == most else "another Patient ID" for one in patients])
    for what, keyword in (
        ("study", "StudyInstanceUID"),
        ("kind of image", "SOPClassUID"),
        ("frame of reference", "FrameOfReferenceUID"),
    ):
        _require_same(frames, what, [text_of(frame.header.get(keyword)) or "none" for frame in frames])
    usual = _usual_orientation(frames)
    for frame in frames:
        if not _is_along(frame, usual):
            ours, theirs = (np.round(cosines, 4).tolist() for cosines in (frame.orientation, usual))
            raise SeriesError(f"mixed orientations: {frame} has {ours}, most slices have {theirs}")
    _require_same(frames, "size (rows, columns)", [frame.size for frame in frames])
    _require_one_spacing(frames)


def require_places(frames: Sequence[Frame]) -> None:
    """Checks that slices which say different Slice Locations do not all say one position.

    Raises:
        SeriesError: when they do: their positions were overwritten.
    """
    said = {text_of(frame.header.get("SliceLocation")) for frame in frames if frame.number is None} - {""}
    if len(said) > 1 and len(levels_of(frames)) == 1:
        place = ", ".join(f"{value:.2f}" for value in frames[0].position)
        raise SeriesError(
            f"all {len(frames)} slices say the same position, ({place}) mm, and {len(said)} different Slice Locations: "
            "their Image Position (Patient) was overwritten; send the series as the scanner made it"
        )


def _require_one_spacing(frames: Sequence[Frame]) -> None:
    """Checks that pixel spacings differ by rounding only: they move no pixel by `SPACING_PART` of a pixel."""
    usual = _usual_spacing(frames)
    for frame in frames:
        if (np.abs(np.subtract(frame.spacing, usual)) * frame.size > np.multiply(SPACING_PART, usual)).any():
            raise SeriesError(f"mixed pixel spacing: {frame} has {frame.spacing}, most slices have {usual}")


def require_one_rescale(frames: Sequence[Frame]) -> None:
    """Checks that, if any frame needs Rescale Slope and Intercept, every frame has both.

    Raises:
        SeriesError: when a frame lacks them; names its slice.
    """
    if any(frame.rescale != (1.0, 0.0) for frame in frames):
        _require_same(frames, "rescale slope and intercept", ["both" if one.rescaled else "not both" for one in frames])


def one_orientation(frames: Sequence[Frame]) -> bool:
    """Whether all frames have the orientation of the majority, within `COSINE_TOLERANCE`."""
    usual = _usual_orientation(frames)
    return all(_is_along(frame, usual) for frame in frames)


def _is_along(frame: Frame, orientation: NDArray[np.float64]) -> bool:
    return bool(np.abs(frame.orientation - orientation).max() <= COSINE_TOLERANCE)


def levels_of(frames: Sequence[Frame]) -> list[list[Frame]]:
    """Returns the frames sorted along the normal, those at the same place together in one list."""
    normal = _normal(_usual_orientation(frames))
    ordered = sorted(frames, key=lambda frame: (float(frame.position @ normal), frame.file.sop_uid, frame.number or 0))
    levels: list[list[Frame]] = []
    for frame in ordered:
        if levels and np.linalg.norm(frame.position - levels[-1][0].position) < SAME_PLACE_MM:
            levels[-1].append(frame)
        else:
            levels.append([frame])
    return levels


def arrange(frames: Sequence[Frame], *, even: bool = False) -> Grid:
    """Returns the regular grid of uniform frames, of which no two lie at one place.

    A line is fitted to the positions by least squares; each slice may lie off it by `JITTER_PART` of the spacing. A
    drift of the slices within their plane that exceeds the tolerance is the tilt of the gantry.

    even: where the spacing changes by design, take the coarsest grid on which every slice has a place.

    Raises:
        VariableSpacingError: when the spacing changes by design, and `even` is not set or there is no such grid.
        SeriesError: when there is one slice only, a slice is missing, or one lies off the grid; names slice and figure.
    """
    if len(frames) < 2:
        raise SeriesError(f"a single slice is no volume: {frames[0]}")
    orientation = _usual_orientation(frames)
    between_rows, between_columns = _usual_spacing(frames)
    normal = _normal(orientation)
    ordered = tuple(sorted(frames, key=lambda frame: float(frame.position @ normal)))
    positions = np.array([frame.position for frame in ordered])
    depths = positions @ normal
    count = _places(ordered, depths, even=even)
    step, origin = np.polyfit(count, positions, 1)
    spacing = float(step @ normal)
    off = np.linalg.norm(positions - (origin + count[:, None] * step), axis=1)
    worst = int(off.argmax())
    allowed = max(JITTER_MM, JITTER_PART * spacing)
    if off[worst] > allowed:
        raise SeriesError(
            f"uneven spacing: {ordered[worst]} lies {off[worst]:.3f} mm off the regular grid of {spacing:.3f} mm; "
            f"{allowed:.3f} mm is accepted"
        )
    drift = step - spacing * normal
    tilted = np.linalg.norm(drift) * count[-1] > max(JITTER_MM, JITTER_PART * min(between_rows, between_columns))
    upright = np.eye(4)
    upright[:3, 0] = spacing * normal
    upright[:3, 1] = np.cross(normal, orientation[0]) * between_rows
    upright[:3, 2] = orientation[0] * between_columns
    upright[:3, 3] = origin
    affine = upright.copy()
    if tilted:
        affine[:3, 0] = step
    tilt = float(np.degrees(np.arctan2(np.linalg.norm(drift), spacing))) if tilted else 0.0
    return Grid(ordered, tuple(count.tolist()), affine, upright, orientation, tilt, float(off[worst]))


def _places(ordered: Sequence[Frame], depths: NDArray[np.float64], *, even: bool) -> NDArray[np.int_]:
    """Returns the slice index of each frame, from 0; `depths` are millimetres along the normal in ascending order.

    They are consecutive unless the spacing changes from one part of the series to the next, as some scans are planned.
    A part is at least two gaps of one size: a single wide gap is a missing slice.
    """
    runs: list[list[float]] = []
    for gap in np.diff(depths).tolist():
        if runs and abs(gap - runs[-1][0]) <= max(JITTER_MM, JITTER_PART * runs[-1][0]):
            runs[-1].append(gap)
        else:
            runs.append([gap])
    if not 2 <= len(runs) <= MOST_STEPS or any(len(run) < 2 or run[0] < SAME_PLACE_MM for run in runs):
        _require_no_gap(ordered, depths)
        return np.arange(len(ordered))
    means = [float(np.mean(run)) for run in runs]
    said = f"spacing changes from {means[0]:.3g} to {means[1]:.3g} mm at {ordered[len(runs[0])]}"
    _require_all_images(ordered, depths, said)
    if not even:
        raise VariableSpacingError(f"{said}; a volume has one spacing: send a reconstruction with one")
    for part in range(1, FINEST_PART + 1):
        step = min(means) / part
        exact = (depths - depths[0]) / step
        if step < FINEST_MM or exact[-1] > MOST_SLICES * len(ordered) or max(means) > MOST_IN_GAP * step:
            break
        if np.abs(exact - np.rint(exact)).max() * step <= max(JITTER_MM, JITTER_PART * step):
            places: NDArray[np.int_] = np.rint(exact).astype(np.int_)
            return places
    raise VariableSpacingError(
        f"{said}; no grid of reasonable size holds all slices: send a reconstruction with one spacing"
    )


def _require_all_images(ordered: Sequence[Frame], depths: NDArray[np.float64], said: str) -> None:
    """Checks that the images' numbers go on evenly where the spacing changes: lost slices leave wider gaps, too.

    Raises:
        SeriesError: when the numbers jump; names the images around the first jump.
    """
    try:
        numbers = np.array([int(frame.instance_number) for frame in ordered])
    except ValueError:
        raise SeriesError(
            f"{said}, and the images have no Instance Number that would tell a plan from lost slices; send a "
            "reconstruction with one spacing"
        ) from None
    steps = np.diff(numbers)
    usual = steps[np.diff(depths).argmin()]
    if (jumps := np.flatnonzero(steps != usual)).size:
        at = int(jumps[0])
        raise SeriesError(
            f"slices are missing: {said}, and the image numbers jump from {numbers[at]} to {numbers[at + 1]} between "
            f"{ordered[at]} and {ordered[at + 1]}; send the whole series again"
        )


def _require_no_gap(ordered: Sequence[Frame], depths: NDArray[np.float64]) -> None:
    """Checks `depths`, millimetres along the normal in ascending order, for doubled and missing slices."""
    gaps = np.diff(depths)
    usual = float(np.sort(gaps)[(len(gaps) - 1) // 2])
    widest, narrowest = int(gaps.argmax()), int(gaps.argmin())
    if gaps[narrowest] < SAME_PLACE_MM:
        raise SeriesError(f"two slices at one depth: {ordered[narrowest]} and {ordered[narrowest + 1]}")
    if gaps[widest] >= GAP_SPACINGS * usual:
        raise SeriesError(
            f"a slice is missing between {ordered[widest]} and {ordered[widest + 1]}: the gap is "
            f"{gaps[widest]:.3f} mm where it is usually {usual:.3f} mm; send the whole series again"
        )


def _require_same(frames: Sequence[Frame], what: str, values: Sequence[Any]) -> None:
    """Raises `SeriesError` unless all values are equal; names a frame with the rarest one, and `what` it is."""
    counts = Counter(values)
    (usual, _), *others = counts.most_common()
    if others:
        frame = frames[values.index(others[-1][0])]
        raise SeriesError(f"mixed {what}: {frame} has {others[-1][0]}, {counts[usual]} of {len(frames)} have {usual}")


def _normal(orientation: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns the unit vector (3,) across the image plane: row direction x column direction (PS3.3 C.7.6.2.1.1)."""
    normal = np.cross(*orientation)
    return np.asarray(normal / np.linalg.norm(normal), dtype=np.float64)


def _usual_orientation(frames: Sequence[Frame]) -> NDArray[np.float64]:
    """Returns the orientation (2, 3) of the majority, grouped by three decimals and returned unrounded."""
    keys = [tuple(np.round(frame.orientation, 3).ravel() + 0.0) for frame in frames]
    usual, _ = Counter(keys).most_common(1)[0]
    return frames[keys.index(usual)].orientation


def _usual_spacing(frames: Sequence[Frame]) -> tuple[float, float]:
    """Returns the pixel spacing of the majority: between rows, between columns."""
    return Counter(frame.spacing for frame in frames).most_common(1)[0][0]

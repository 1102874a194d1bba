"""Verifies the node's own results: each is decoded again and must lie where its mask lies, in patient space.

Centroid, extent on each patient axis, covariance (so that a mask which is mirrored in its place is noticed, too) and
volume are compared, in two steps: each
mask on the slices must lie where the network saw it, and each object must lie where the post-processed masks on the
slices lie. Coordinates are LPS millimetres; (S, A, R) are the network's axes (see `dicom_node.volume`).
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import numpy as np
from highdicom import VolumeGeometry
from numpy.typing import NDArray
from pydicom import Dataset

from dicom_node.errors import ResultError
from dicom_node.masks.contours import filled
from dicom_node.masks.measures import Extent, extent, extent_of, joined
from dicom_node.objects.rtstruct import contour_points
from dicom_node.series import ImageSeries

# Half the least voxel side: a shift by one voxel on any axis is beyond it. Slices may jitter by a twentieth of their
# spacing, which is accepted even where pixels are far smaller than that.
TOLERANCE_VOXELS: Final = 0.5
TOLERANCE_SPACINGS: Final = 0.06
TOLERANCE_VOLUME: Final = 0.01
TOLERANCE_SPREAD: Final = 0.05  # of a covariance, as a share of the deviations on its two axes: a coefficient
_DIAGONAL: Final = [0, 3, 5]  # of `Extent.spread`


def check_way_back(
    name: str, seen: NDArray[np.bool_], network: VolumeGeometry, mask: NDArray[np.bool_], series: ImageSeries
) -> None:
    """Checks that a mask on the slices lies where the network saw it.

    Args:
        name: what messages call the mask.
        seen: bool (S, A, R), as the network saw it; network: its geometry.
        mask: the same bool (slices, rows, columns) on the slices of `series`.

    Both are measured on the upright grid that a tilted series shows the network. Where its slices were straightened for
    the network, they are measured in the patient to half a pixel, and only masks that no slice cuts off.

    Raises:
        ResultError: when they differ; names the figure.
    """
    straightened = sorted(network.spatial_shape) != sorted(series.volume.spatial_shape)
    if straightened and seen.sum() != mask.sum():
        return
    held = bool(seen.any()), bool(mask.any())
    if held[0] != held[1]:
        raise ResultError(
            f"{name} was {'found' if held[0] else 'not found'}, and its mask on the slices says otherwise; "
            "it is not sent"
        )
    if held[0]:
        found = extent(mask, series.affine if straightened else series.volume.affine)
        slack = max(series.volume.spacing[1:]) / 2 if straightened else 0.0
        _compare(name, found, extent(seen, network.affine), series.volume.spacing, slack)


def check_seg(dataset: Dataset, expected: Sequence[Extent], spacing: Sequence[float]) -> None:
    """Decodes a Segmentation by the geometry of its own frames and compares its segments with their masks.

    expected: where the masks lie, in segment order. spacing: mm per voxel (slices, rows, columns).

    Raises:
        ResultError: when one differs; names the segment and the figure.
    """
    found = _decoded(dataset, spacing[0])
    labels = [segment.SegmentLabel for segment in dataset.SegmentSequence if segment.SegmentNumber]
    _require_count("segments", len(found), len(expected))
    for number, (label, wanted) in enumerate(zip(labels, expected, strict=True), start=1):
        _compare(f"segment {label!r}", found[number], wanted, spacing)


def check_rtstruct(dataset: Dataset, expected: Sequence[Extent], series: ImageSeries) -> None:
    """Fills the contours of a structure set on the source's planes and compares the ROIs with their masks.

    expected: where the masks lie, in the order of the ROIs that have contours.

    Raises:
        ResultError: when one differs, or a contour is off its plane; names the ROI, and the figure or the contour.
    """
    names = {roi.ROINumber: str(roi.ROIName) for roi in dataset.StructureSetROISequence}
    drawn = [structure for structure in dataset.ROIContourSequence if "ContourSequence" in structure]
    _require_count("ROIs", len(drawn), len(expected))
    for structure, wanted in zip(drawn, expected, strict=True):
        name = f"ROI {names[structure.ReferencedROINumber]!r}"
        found = extent(_filled(structure, series, name), series.affine)
        _compare(name, found, wanted, series.volume.spacing)


def _decoded(dataset: Dataset, step_mm: float) -> dict[int, Extent]:
    """Returns where the voxels of each segment number lie, by their frames' geometry, one frame at a time.

    step_mm: between slices, where the object says none since its frames lie unevenly.
    """
    shared = dataset.SharedFunctionalGroupsSequence[0]
    across, down = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, dtype=float).reshape(2, 3)
    measures = shared.PixelMeasuresSequence[0]
    row_mm, column_mm = (float(value) for value in measures.PixelSpacing)
    voxel_mm3 = float(measures.get("SpacingBetweenSlices") or step_mm) * row_mm * column_mm
    parts: defaultdict[int, list[Extent]] = defaultdict(list)
    for frame, planes in zip(dataset.PerFrameFunctionalGroupsSequence, _planes(dataset), strict=True):
        origin = np.array(frame.PlanePositionSequence[0].ImagePositionPatient, dtype=float)
        for number, plane in planes:
            rows, columns = np.nonzero(plane)
            if not len(rows):  # an empty frame, see `dicom_node.objects.seg`
                continue
            points = origin + rows[:, None] * row_mm * down + columns[:, None] * column_mm * across
            parts[number].append(extent_of(points, voxel_mm3))
    return {number: joined(frames) for number, frames in parts.items()}


def _planes(dataset: Dataset) -> Iterator[list[tuple[int, NDArray[np.bool_]]]]:
    """Yields for each frame the segment numbers that it holds, each with its plane bool (rows, columns)."""
    shape = int(dataset.Rows), int(dataset.Columns)
    size = shape[0] * shape[1]
    if dataset.SegmentationType == "LABELMAP":
        values = np.frombuffer(dataset.PixelData, dtype=f"<u{dataset.BitsAllocated // 8}")
        for index in range(int(dataset.NumberOfFrames)):
            plane = values[index * size : (index + 1) * size].reshape(shape)
            yield [(number, plane == number) for number in np.unique(plane).tolist() if number]
        return
    packed = np.frombuffer(dataset.PixelData, dtype=np.uint8)
    for index, frame in enumerate(dataset.PerFrameFunctionalGroupsSequence):
        start = index * size
        bits = np.unpackbits(packed[start // 8 : (start + size + 7) // 8], bitorder="little")[start % 8 :][:size]
        number = int(frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
        yield [(number, bits.view(bool).reshape(shape))]


def _filled(structure: Dataset, series: ImageSeries, name: str) -> NDArray[np.bool_]:
    """Returns the mask bool (slices, rows, columns) that the contours of an ROI enclose."""
    places = {(one.sop_uid, one.frame_number): place for place, one in series.reference_at.items()}
    inverse = np.linalg.inv(series.affine[:3, :3])
    rings: defaultdict[int, list[NDArray[np.float64]]] = defaultdict(list)
    for contour in structure.ContourSequence:
        image = contour.ContourImageSequence[0]
        place = places[image.ReferencedSOPInstanceUID, image.get("ReferencedFrameNumber")]
        points = contour_points(contour)
        indices = (points - series.positions[place]) @ inverse.T
        if np.abs(indices[:, 0]).max() > 0.01:
            raise ResultError(
                f"{name} has a contour {np.abs(indices[:, 0]).max():.3f} slices off its image plane; it is not sent"
            )
        rings[place].append(indices[:, 1:])
    mask = np.zeros(series.volume.spatial_shape, dtype=bool)
    for place, drawn in rings.items():
        mask[place] = filled(drawn, mask[place].shape)
    return mask


def _compare(name: str, found: Extent, wanted: Extent, spacing: Sequence[float], slack_mm: float = 0.0) -> None:
    """Raises `ResultError` when two extents differ by more than tolerated; positions may differ by `slack_mm` more."""
    allowed = max(TOLERANCE_VOXELS * min(spacing), TOLERANCE_SPACINGS * max(spacing)) + slack_mm
    for what in ("centroid", "lowest", "highest"):
        here, there = getattr(found, what), getattr(wanted, what)
        off = float(np.abs(np.subtract(here, there)).max())
        if off > allowed:
            raise ResultError(
                f"{name} does not lie where its mask lies: {what} is {_place(here)}, not {_place(there)}, "
                f"{off:.2f} mm off where {allowed:.2f} mm is accepted; the result is not sent"
            )
    if abs(found.volume_ml - wanted.volume_ml) > TOLERANCE_VOLUME * wanted.volume_ml:
        raise ResultError(
            f"{name} holds {found.volume_ml:.3f} ml where its mask holds {wanted.volume_ml:.3f} ml; it is not sent"
        )
    here, there = np.array(found.spread), np.array(wanted.spread)
    deviations = np.sqrt(np.maximum(there[_DIAGONAL], 0))
    # What may lie `allowed` off changes the covariance of two axes by as much times the deviations on both.
    shares = TOLERANCE_SPREAD * np.outer(deviations, deviations) + allowed * np.add.outer(deviations, deviations)
    if (np.abs(here - there) - shares[np.triu_indices(3)]).max() > allowed**2:
        raise ResultError(
            f"{name} is mirrored or turned in its place: the covariances of its coordinates are {_figures(here)}, not "
            f"{_figures(there)} mm2; the result is not sent"
        )


def _require_count(what: str, found: int, wanted: int) -> None:
    """Raises `ResultError` unless there are as many objects as masks that are not empty."""
    if found != wanted:
        raise ResultError(f"the result holds {found} {what} where {wanted} masks are not empty; it is not sent")


def _place(point: tuple[float, float, float]) -> str:
    """Returns a position for messages."""
    return f"{_figures(point)} mm"


def _figures(values: Iterable[float]) -> str:
    """Returns figures for messages: "(1.00, -2.50)"."""
    return "(" + ", ".join(f"{value:.2f}" for value in values) + ")"

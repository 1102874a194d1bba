"""Reads the masks of a SEG that came back, on the voxels of the series that it was made from. The demo shows them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pydicom
from highdicom.seg import Segmentation
from pydicom.uid import SegmentationStorage

from dicom_node.masks.packed import Mask
from dicom_node.series import ImageSeries


def masks_received(paths: Sequence[Path], series: ImageSeries) -> dict[str, Mask]:
    """Returns the masks bool (slices, rows, columns) of every SEG among the files, by segment label.

    A frame belongs to the slice whose SOP Instance UID (and frame number) it refers to, whatever the order of frames.
    """
    place = {(ref.sop_uid, ref.frame_number): index for index, ref in series.reference_at.items()}
    masks: dict[str, Mask] = {}
    for path in paths:
        dataset = pydicom.dcmread(path)
        if dataset.SOPClassUID != SegmentationStorage:
            continue
        seg = Segmentation.from_dataset(dataset, copy=False)
        labels = {item.SegmentNumber: str(item.SegmentLabel) for item in seg.SegmentSequence}
        frames = seg.pixel_array.reshape(-1, seg.Rows, seg.Columns)
        for frame, facts in zip(frames, seg.PerFrameFunctionalGroupsSequence, strict=True):
            source = facts.DerivationImageSequence[0].SourceImageSequence[0]
            number = source.get("ReferencedFrameNumber")
            index = place[str(source.ReferencedSOPInstanceUID), int(number) if number is not None else None]
            label = labels[facts.SegmentIdentificationSequence[0].ReferencedSegmentNumber]
            mask = masks.setdefault(label, np.zeros(series.volume.spatial_shape, bool))
            mask[index] |= frame.astype(bool)
    return masks

"""Writes a preview: what was found, as one picture that any viewer shows. A Secondary Capture (PS3.3 A.8.1).

It is one frame in true colour: every PACS takes it and every viewer shows it, which is not so of the multi-frame
kinds. Its planes are parts of one sheet, so that none is seen without the legend and the notice. Patient ID and study
date are burned in, because such a picture travels alone; Burned In Annotation says so (C.7.6.1).
"""

from collections.abc import Sequence
from typing import overload

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import SecondaryCaptureImageStorage

from dicom_node.errors import ResultError
from dicom_node.masks.packed import Mask, Masks
from dicom_node.masks.picture import Rgb, picture
from dicom_node.objects.common import (
    coded,
    describe,
    masks_of,
    refer_to_others,
    refer_to_predecessor,
    refer_to_source,
    reference_item,
    result_dataset,
    titled,
)
from dicom_node.objects.provenance import Provenance
from dicom_node.regions import Region, label_of
from dicom_node.series import ImageSeries
from dicom_node.volume import network_axes, to_network


def write_preview(
    series: ImageSeries, masks: Masks | NDArray[np.bool_], regions: Sequence[Region], provenance: Provenance
) -> Dataset:
    """Returns a Secondary Capture with three planes through the masks.

    masks: bool (P, slices, rows, columns) on the slices of `series`, one region each. Empty masks are left out of the
    legend. The frame is uint8 RGB; its size depends on the extent of the volume in millimetres.

    Raises:
        ResultError: when masks, regions and slices do not match, or no mask holds a voxel.
    """
    packed = masks_of(series, masks, regions)
    found = [index for index, mask in enumerate(packed.packed) if len(mask.held)]
    if not found:
        raise ResultError("no mask holds a voxel: there is nothing to show")
    reference = provenance.reference("preview", SecondaryCaptureImageStorage, series, regions)
    dataset = result_dataset(series, provenance, reference, "OT")
    pixels = drawn(
        series,
        Masks(packed.packed[index] for index in found),
        [label_of(regions[index].label) for index in found],
        [regions[index].colour for index in found],
        caption=f"{dataset.PatientID}, {dataset.StudyDate}".strip(", "),
    )
    dataset.SeriesDescription = titled("Preview, UNAPPROVED, not for diagnosis", series)
    dataset.ConversionType = "WSD"
    dataset.ImageType = ["DERIVED", "SECONDARY"]
    dataset.PatientOrientation = ""  # three planes have no common orientation
    dataset.Laterality = ""
    dataset.BurnedInAnnotation = "YES"
    dataset.ImageComments = describe(provenance)
    dataset.DerivationDescription = "Contours of an automatic segmentation on three planes of the image"
    dataset.ContentDate, dataset.ContentTime = f"{provenance.made:%Y%m%d}", f"{provenance.made:%H%M%S}"
    dataset.LossyImageCompression = "01" if any(_is_lossy(header) for header in series.headers) else "00"
    refer_to_source(dataset, series)
    refer_to_others(dataset, provenance.others(reference))
    refer_to_predecessor(dataset, series, provenance)
    sources = dict.fromkeys((one.sop_class_uid, one.sop_uid) for one in series.references)
    dataset.SourceImageSequence = [reference_item(*source) for source in sources]
    dataset.DerivationCodeSequence = [coded(codes.DCM.SegmentationImageDerivation)]
    dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = pixels.shape
    dataset.PhotometricInterpretation = "RGB"
    dataset.PlanarConfiguration = 0
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8, 8, 7
    dataset.PixelRepresentation = 0
    dataset.PixelData = pixels.tobytes() + b"\x00" * (pixels.size % 2)
    dataset["PixelData"].VR = "OB"
    return dataset


def drawn(
    series: ImageSeries, masks: Masks, labels: Sequence[str], colours: Sequence[Rgb], caption: str = ""
) -> NDArray[np.uint8]:
    """Returns the sheet of `masks.picture` for masks on the slices of a series: uint8 (rows, columns, RGB)."""
    return picture(to_network(series), _Turned(masks, series), labels, colours, caption)


def _is_lossy(header: Dataset) -> bool:
    """Whether an image was ever compressed with loss (PS3.3 C.7.6.1.1.5)."""
    return bool(header.get("LossyImageCompression") == "01")


class _Turned(Sequence[Mask]):
    """Holds masks on the slices and returns each on the network's axes (S, A, R) when it is asked for."""

    def __init__(self, masks: Masks, series: ImageSeries) -> None:
        self._masks = masks
        self._order, flips = network_axes(series.volume.affine)
        self._flips = tuple(slice(None, None, -1 if flip else 1) for flip in flips)

    def __len__(self) -> int:
        return len(self._masks)

    @overload
    def __getitem__(self, index: int) -> Mask: ...
    @overload
    def __getitem__(self, index: slice) -> list[Mask]: ...
    def __getitem__(self, index: int | slice) -> Mask | list[Mask]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        return self._masks[index].transpose(self._order)[self._flips]

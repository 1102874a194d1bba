"""Writes a preview: what was found, as one picture that any viewer shows. A Secondary Capture (PS3.3 A.8.1).

It is one frame in true colour: every PACS takes it and every viewer shows it, which is not so of the multi-frame
kinds. Its planes are parts of one sheet, so that none is seen without the legend and the notice. Patient ID and study
date are burned in, because such a picture travels alone; Burned In Annotation says so (C.7.6.1).
"""

from collections.abc import Sequence
from typing import Final, overload

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import SecondaryCaptureImageStorage

from dicom_node.errors import ResultError
from dicom_node.masks.packed import Mask, Masks
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
from dicom_node.objects.provenance import ObjectKind, Provenance
from dicom_node.picture.lettering import is_drawable
from dicom_node.picture.planes import Pictured
from dicom_node.picture.sheet import Words, picture
from dicom_node.regions import EmptyMask, Region, label_of, one_line
from dicom_node.series import ImageSeries
from dicom_node.volume import network_axes, to_network

PREVIEW_KIND: Final = ObjectKind("preview", SecondaryCaptureImageStorage, codes.DCM.IllustrationOfROI)


def write_preview(
    series: ImageSeries, masks: Masks | NDArray[np.bool_], regions: Sequence[Region], provenance: Provenance
) -> Dataset:
    """Returns a Secondary Capture with three planes through the masks.

    masks: bool (P, slices, rows, columns) on the slices of `series`, one region each; an empty mask is named among what
    was not found. The frame is uint8 RGB.

    Raises:
        ResultError: when masks, regions and slices do not match, or no mask holds a voxel.
    """
    packed = masks_of(series, masks, regions)
    if not any(len(mask.held) for mask in packed.packed):
        raise ResultError("no mask holds a voxel: there is nothing to show")
    reference = provenance.reference(PREVIEW_KIND, series, regions)
    dataset = result_dataset(series, provenance, reference, "OT")
    pixels = drawn(series, packed, regions, provenance)
    dataset.SeriesDescription = titled("Preview, UNAPPROVED, not for diagnosis", series)
    dataset.ConversionType = "WSD"
    dataset.ImageType = ["DERIVED", "SECONDARY"]
    dataset.PatientOrientation = ""  # three planes have no common orientation
    dataset.Laterality = ""
    dataset.BurnedInAnnotation = "YES"
    dataset.ImageComments = describe(provenance, series)
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


def drawn(series: ImageSeries, masks: Masks, regions: Sequence[Region], provenance: Provenance) -> NDArray[np.uint8]:
    """Returns the sheet of `dicom_node.picture` for masks on the slices of a series: uint8 (rows, columns, RGB)."""
    algorithm = provenance.algorithm
    made_by = [f"Contoured by {algorithm.name} {algorithm.version}"]
    made_by += [f"protocol {provenance.protocol}"] if provenance.protocol else []
    words = Words(
        heading=_heading(series),
        model=", ".join(made_by),
        notes=_empty(masks, regions),
        reviews=[reason.sentence for reason in provenance.review],
    )
    structures = [Pictured(_name(one), one.colour, filled=one.interpreted_type != "EXTERNAL") for one in regions]
    return picture(to_network(series), _Turned(masks, series), structures, words, ct=series.modality == "CT")


def _heading(series: ImageSeries) -> str:
    """Returns whose image it is and which: Patient ID, study date, series description."""
    header = series.headers[0]
    date = str(header.get("StudyDate") or "")
    if len(date) == 8 and date.isdigit():
        date = f"{date[:4]}-{date[4:6]}-{date[6:]}"
    facts = (str(header.get("PatientID") or ""), date, str(header.get("SeriesDescription") or ""), series.name)
    return " · ".join(filter(None, map(one_line, facts)))


_MEANS: Final[dict[EmptyMask, str]] = {
    "not found": "Looked for, not found",
    "not known": "Not known to this model",
    "not judged": "Not judged",
}


def _empty(masks: Masks, regions: Sequence[Region]) -> list[str]:
    """Returns one sentence per meaning of an empty mask, with the structures. What a person is to draw has none."""
    sentences = []
    for meaning, words in _MEANS.items():
        names = [
            _name(region)
            for mask, region in zip(masks.packed, regions, strict=True)
            if not len(mask.held) and region.empty_means == meaning and not region.placeholder
        ]
        sentences += [f"{words}: {', '.join(names)}."] if names else []
    return sentences


def _name(region: Region) -> str:
    """Returns the label, or the prompt (English) or TG-263 name where the picture's typeface lacks its characters."""
    names = (label_of(region.label), label_of(region.prompt), region.tg263)
    return next((name for name in names if name and is_drawable(name)), label_of(region.label))


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

"""Objects: everything that one set of masks becomes, planned before it is written so that each can name the others.

| file | object | made for |
|---|---|---|
| `seg.dcm` | Segmentation, BINARY | "seg", and "sr", which measures its segments |
| `seg-labelmap.dcm` | the same as LABELMAP | where it is asked for and no segments overlap |
| `sr.dcm`, `sr-labelmap.dcm` | TID 1500 report on the segments of either | "sr" |
| `rtstruct.dcm` | RT Structure Set | "rtstruct" |
| `preview.dcm` | Secondary Capture | "preview" |
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from dicom_node.errors import ResultError
from dicom_node.masks.measures import Extent
from dicom_node.masks.packed import Masks
from dicom_node.objects.common import masks_of
from dicom_node.objects.preview import write_preview
from dicom_node.objects.provenance import ObjectReference, Provenance
from dicom_node.objects.rtstruct import Holes, rtstruct_reference, write_rtstruct
from dicom_node.objects.seg import Form, overlapping, write_seg
from dicom_node.objects.sr import write_sr
from dicom_node.objects.verify import check_rtstruct, check_seg
from dicom_node.regions import Region
from dicom_node.series import ImageSeries

_FORMS: Final[tuple[tuple[str, str, Form], ...]] = (
    ("seg.dcm", "sr.dcm", "BINARY"),
    ("seg-labelmap.dcm", "sr-labelmap.dcm", "LABELMAP"),
)

KINDS: Final[dict[str, tuple[str, Literal["binary", "labelmap"] | None]]] = {
    "seg.dcm": ("seg", "binary"),
    "seg-labelmap.dcm": ("seg", "labelmap"),
    "rtstruct.dcm": ("rtstruct", None),
    "sr.dcm": ("sr", "binary"),
    "sr-labelmap.dcm": ("sr", "labelmap"),
    "preview.dcm": ("preview", None),
}
"""Of each file the output that asks for it, and the form of its SEG or of the SEG that it measures."""


class ResultSet:
    """The objects of the `outputs` that are asked for; nothing of a kind that would hold nothing."""

    def __init__(
        self,
        series: ImageSeries,
        masks: Masks | NDArray[np.bool_],
        regions: Sequence[Region],
        provenance: Provenance,
        outputs: Collection[str],
        *,
        label_map: bool = False,
        holes: Holes = "keyhole",
        name_length: int = 64,
    ) -> None:
        """Masks (P, slices, rows, columns) on the slices of `series`, one region each; `holes` and `name_length` as in
        `write_rtstruct`.
        """
        self._series, self._masks, self._regions = series, masks_of(series, masks, regions), regions
        self._holes, self._name_length = holes, name_length
        self.notes: list[str] = []  # what could not be as it was asked for
        self.references = self._identities(provenance, set(outputs), label_map)
        made = tuple(self.references.values())
        # The same work may come as another job, as when the model's folder is moved: nothing replaces itself.
        replaced = tuple(one for one in provenance.predecessors if one not in made)
        self._provenance = replace(provenance, siblings=made, predecessors=replaced)

    def _identities(self, provenance: Provenance, wanted: set[str], label_map: bool) -> dict[str, ObjectReference]:
        """File name and identity of every object that will be written."""
        series, regions = self._series, self._regions
        found = [mask for mask in self._masks.packed if len(mask.held)]
        planned: dict[str, ObjectReference] = {}
        if found and wanted & {"seg", "sr"}:
            planned["seg.dcm"] = provenance.reference("SEG", series, regions)
            if label_map and overlapping(found):
                self.notes.append("segments overlap: there is no label map, and who asks for one gets a BINARY SEG")
            elif label_map:
                planned["seg-labelmap.dcm"] = provenance.reference("SEG labelmap", series, regions)
        if "rtstruct" in wanted and (found or any(region.placeholder for region in regions)):
            planned["rtstruct.dcm"] = rtstruct_reference(
                series, regions, provenance, holes=self._holes, name_length=self._name_length
            )
        if found and "sr" in wanted:
            planned["sr.dcm"] = provenance.reference("SR", series, regions)
            if "seg-labelmap.dcm" in planned:
                planned["sr-labelmap.dcm"] = provenance.reference("SR labelmap", series, regions)
        if found and "preview" in wanted:
            planned["preview.dcm"] = provenance.reference("preview", series, regions)
        return planned

    def written(self, extents: Sequence[Extent | None]) -> Iterator[tuple[str, Dataset]]:
        """File name and object, one in memory at a time, each decoded again and held against `extents` of its masks.

        ResultError: an object does not lie where its mask lies.
        """
        series, masks, regions, provenance = self._series, self._masks, self._regions, self._provenance
        expected = [one for one in extents if one]
        for seg_name, sr_name, form in _FORMS:
            if seg_name not in self.references:
                continue
            segmentation = write_seg(series, masks, regions, provenance, form)
            if segmentation.dataset is None:
                raise ResultError("masks were found, but the SEG holds none of them; it is not sent")
            check_seg(segmentation.dataset, expected, series.volume.spacing)
            yield seg_name, segmentation.dataset
            if sr_name in self.references and (report := write_sr(series, masks, segmentation, provenance)) is not None:
                yield sr_name, report
        if "rtstruct.dcm" in self.references:
            structures = write_rtstruct(
                series, masks, regions, provenance, holes=self._holes, name_length=self._name_length
            )
            check_rtstruct(structures, expected, series)
            yield "rtstruct.dcm", structures
        if "preview.dcm" in self.references:
            yield "preview.dcm", write_preview(series, masks, regions, provenance)

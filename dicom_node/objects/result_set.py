"""Plans all objects made from one set of masks before any is written, so that the report and the preview can name them.

Which objects there are, and their file names, is listed in `dicom_node.objects.kinds`.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from dicom_node.masks.measures import Extent, extent
from dicom_node.masks.packed import Masks
from dicom_node.objects.common import masks_of
from dicom_node.objects.kinds import KINDS, Content, with_brought
from dicom_node.objects.provenance import Provenance
from dicom_node.objects.rtstruct import SET_LABEL, Holes
from dicom_node.objects.seg import overlapping
from dicom_node.regions import Region
from dicom_node.series import ImageSeries


class ResultSet:
    """Plans and writes the objects of the `outputs` asked for; an object that would hold nothing is left out.

    `references` has file name and identity of every object that will be written, `notes` what could not be as asked
    for.
    """

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
        set_label: str = SET_LABEL,
    ) -> None:
        """Plans the objects.

        Args:
            series: the volume on whose slices the masks lie.
            masks: bool (P, slices, rows, columns).
            regions: one per mask.
            provenance: what the objects say about the job.
            outputs: words of a protocol, such as "seg"; what comes along with them is added.
            label_map: also make the LABELMAP forms, unless segments overlap.
            holes, name_length, set_label: as in `write_rtstruct`.

        Raises:
            ResultError: when masks, regions and slices do not match.
        """
        packed = masks_of(series, masks, regions)
        self.notes: list[str] = []
        asked = with_brought(frozenset(outputs))
        label_map = label_map and "seg" in asked
        if label_map and overlapping([mask for mask in packed.packed if len(mask.held)]):
            self.notes.append("segments overlap: there is no label map, and who asks for one gets a BINARY SEG")
            label_map = False
        content = Content(series, packed, regions, provenance, asked, label_map, holes, name_length, set_label)
        self.references = {file: kind.reference(content) for file, kind in KINDS.items() if kind.is_made_of(content)}
        made = tuple(self.references.values())
        # The same work may come as another job, as when the model's folder is moved: nothing replaces itself.
        replaced = tuple(one for one in provenance.predecessors if one not in made)
        self._content = replace(content, provenance=replace(provenance, siblings=made, predecessors=replaced))

    def written(self, extents: Sequence[Extent | None]) -> Iterator[tuple[str, Dataset]]:
        """Yields file name and object, one in memory at a time, each decoded again and compared with its masks.

        extents: where each mask lies, None for an empty one.

        Raises:
            ResultError: when an object does not lie where its mask lies.
        """
        series = self._content.series
        if series.interpolated:  # objects hold what lies on the slices of the files alone
            masks = self._content.masks.without(series.interpolated).packed
            extents = [extent(mask.mask(), series.affine) if len(mask.held) else None for mask in masks]
        content = replace(self._content, expected=[one for one in extents if one], measured={})
        for file in self.references:
            yield file, KINDS[file].write(content)

"""Lists the kinds of output: every DICOM object that a result may have, and all that others ask about it.

A kind is one row of `KINDS`. What is planned, written and listed, under which file name, what other objects call it,
what a destination is asked for and how a PACS may get it: all of it is read here. docs/contributing.md has the recipe
for a new kind.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

from pydicom import Dataset
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from dicom_node.errors import ResultError
from dicom_node.masks.measures import Extent
from dicom_node.masks.packed import Masks
from dicom_node.objects import Form
from dicom_node.objects.preview import PREVIEW_KIND, write_preview
from dicom_node.objects.provenance import ObjectKind, ObjectReference, Provenance
from dicom_node.objects.rtstruct import RTSTRUCT_KIND, Holes, uid_options, write_rtstruct
from dicom_node.objects.seg import SEG_KINDS, Segmentation, SegmentationType, write_seg
from dicom_node.objects.sr import SR_KINDS, write_sr
from dicom_node.objects.verify import check_rtstruct, check_seg
from dicom_node.regions import Region
from dicom_node.series import ImageSeries


@dataclass
class Content:
    """Holds what the objects of one result are made of: masks (P, slices, rows, columns), one region each.

    It is passed to the writers one after another; `measured` hands each SEG on to the report that measures it.
    """

    series: ImageSeries
    masks: Masks
    regions: Sequence[Region]
    provenance: Provenance
    outputs: frozenset[str]  # what was asked for, with what comes along
    label_map: bool  # whether objects are made in this form too
    holes: Holes
    name_length: int
    set_label: str
    expected: Sequence[Extent] = ()  # where each mask that is not empty lies
    measured: dict[Form, Segmentation] = field(default_factory=dict)  # SEGs until their report is written

    @cached_property
    def found(self) -> bool:
        """Whether any mask holds a voxel."""
        return any(len(mask.held) for mask in self.masks.packed)


def _found(content: Content) -> bool:
    """Tells the kinds that hold only what was found whether there is anything to write."""
    return content.found


def _looked_for(content: Content) -> bool:
    """Whether there is anything to report: what was found, or what was looked for and not found."""
    return content.found or any(not region.placeholder for region in content.regions)


def _nothing(_content: Content) -> tuple[str, ...]:
    """Stands for kinds whose UIDs depend on no options."""
    return ()


@dataclass(frozen=True)
class OutputKind:
    """Describes one kind of object. An output that exists in several forms has one kind per form.

    `write` makes the object from a `Content` and returns it verified; it raises `ResultError` where the object does not
    lie where its masks lie. `holds` decides beforehand whether there is anything to write. The name of `identity` and
    what `uid_options` returns go into the UIDs, so a change of either gives every future object of this kind others.
    """

    output: str  # the word of a protocol that asks for it
    stem: str  # of its file in the results folder
    identity: ObjectKind  # its name in UIDs, its SOP class, and what it is to other objects
    write: Callable[[Content], Dataset]  # makes and verifies it
    form: Form | None = None  # None: there is one only
    brings: tuple[str, ...] = ()  # outputs that come along with it
    syntaxes: tuple[UID, ...] = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)  # in which it can be sent
    whole_bytes: bool = False  # whether its pixels are whole bytes, which RLE needs
    holds: Callable[[Content], bool] = _found  # whether there is anything to write
    uid_options: Callable[[Content], tuple[str, ...]] = _nothing  # what else its UIDs depend on

    @property
    def file(self) -> str:
        """The name of its file in the results folder."""
        return f"{self.stem}.dcm"

    @property
    def sop_class(self) -> UID:
        """The SOP class of the object."""
        return self.identity.sop_class

    def is_made_of(self, content: Content) -> bool:
        """Whether it is asked for, in this form, and would hold anything."""
        in_form = self.form != "labelmap" or content.label_map
        return self.output in content.outputs and in_form and self.holds(content)

    def reference(self, content: Content) -> ObjectReference:
        """Returns its identity, which is known before it is written."""
        series, regions, options = content.series, content.regions, self.uid_options(content)
        return content.provenance.reference(self.identity, series, regions, *options)


def _segmentation(form: Form, kind: SegmentationType) -> Callable[[Content], Dataset]:
    """Returns the writer of a SEG in one form; it checks the object, and keeps it for its report.

    The writer raises `ResultError` when the SEG does not lie where its masks lie.
    """

    def write(content: Content) -> Dataset:
        made = write_seg(content.series, content.masks, content.regions, content.provenance, kind)
        if made.dataset is None:
            raise ResultError("masks were found, but the SEG holds none of them; it is not sent")
        check_seg(made.dataset, content.expected, content.series.volume.spacing)
        if "sr" in content.outputs:
            content.measured[form] = made
        return made.dataset

    return write


def _report(form: Form) -> Callable[[Content], Dataset]:
    """Returns the writer of the SR on the SEG in one form; where nothing was found, on what was looked for."""

    def write(content: Content) -> Dataset:
        regions = tuple(content.regions)
        made = content.measured.pop(form) if content.found else Segmentation(None, regions, (), regions)
        return write_sr(content.series, content.masks, made, content.provenance)

    return write


def _structure_set(content: Content) -> Dataset:
    """Writes and checks the RTSTRUCT."""
    structures = write_rtstruct(
        content.series,
        content.masks,
        content.regions,
        content.provenance,
        holes=content.holes,
        name_length=content.name_length,
        set_label=content.set_label,
    )
    check_rtstruct(structures, content.expected, content.series)
    return structures


def _preview(content: Content) -> Dataset:
    """Writes the preview."""
    return write_preview(content.series, content.masks, content.regions, content.provenance)


KINDS: Final[dict[str, OutputKind]] = {
    kind.file: kind
    for kind in (
        OutputKind(
            output="seg",
            form="binary",
            stem="seg",
            identity=SEG_KINDS["BINARY"],
            write=_segmentation("binary", "BINARY"),
        ),
        OutputKind(
            output="sr",
            form="binary",
            stem="sr",
            identity=SR_KINDS["binary"],
            brings=("seg",),  # it measures the segments of that object
            holds=_looked_for,
            write=_report("binary"),
        ),
        OutputKind(
            output="seg",
            form="labelmap",
            stem="seg-labelmap",
            identity=SEG_KINDS["LABELMAP"],
            whole_bytes=True,
            write=_segmentation("labelmap", "LABELMAP"),
        ),
        OutputKind(
            output="sr",
            form="labelmap",
            stem="sr-labelmap",
            identity=SR_KINDS["labelmap"],
            brings=("seg",),
            write=_report("labelmap"),
        ),
        OutputKind(
            output="rtstruct",
            stem="rtstruct",
            identity=RTSTRUCT_KIND,
            syntaxes=(ImplicitVRLittleEndian,),  # explicit VR has no room for contours of many points (PS3.5 7.1.2)
            holds=lambda content: content.found or any(region.placeholder for region in content.regions),
            uid_options=lambda content: uid_options(content.holes, content.name_length),
            write=_structure_set,
        ),
        OutputKind(
            output="preview",
            stem="preview",
            identity=PREVIEW_KIND,
            whole_bytes=True,
            write=_preview,
        ),
    )
}
"""All kinds by file name, in the order of writing: a report follows the SEG that it measures."""


def with_brought(outputs: Sequence[str] | frozenset[str]) -> frozenset[str]:
    """Returns the outputs together with those that come along with them."""
    brought = (one for kind in KINDS.values() if kind.output in outputs for one in kind.brings)
    return frozenset((*outputs, *brought))

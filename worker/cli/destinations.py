"""What `doctor` asks a destination: is it there, and does it take the objects that are to go there?"""

from collections.abc import Mapping, Sequence
from typing import Final

from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    EnhancedSRStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
    RTStructureSetStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
)
from pynetdicom.presentation import build_context

from dicom_node.objects.provenance import LABEL_MAP_STORAGE
from dicom_node.scu.association import Peer, echo, probe
from worker.job_spec import Output
from worker.protocols import Protocol, routes_of
from worker.settings import Destination, Settings

CLASSES: Final[Mapping[Output, UID]] = {
    "seg": SegmentationStorage,
    "rtstruct": RTStructureSetStorage,
    "sr": EnhancedSRStorage,
    "preview": SecondaryCaptureImageStorage,
}
"""The SOP class of each output that is sent; a destination may ask for another form of Segmentations."""

_WHOLE_BYTES: Final = (LABEL_MAP_STORAGE, SecondaryCaptureImageStorage)  # whose pixels can be run-length encoded
_NAMES: Final = {LABEL_MAP_STORAGE: "Label Map Segmentation Storage"}  # which pydicom 3.0 does not know


def classes_for(destination: Destination) -> dict[Output, UID]:
    """The SOP class of each output in the form that this destination asks for."""
    return {**CLASSES, "seg": LABEL_MAP_STORAGE} if destination.seg == "labelmap" else {**CLASSES}


def syntaxes_for(destination: Destination, sop_class: UID) -> list[UID]:
    """The transfer syntaxes that objects of this class are offered in; a peer takes them if it takes one of these.

    What is compressed goes compressed or not at all; everything else is rewritten for a peer that takes implicit VR
    alone (see `dicom_node.scu.transcode` and `dicom_node.scu.c_store`).
    """
    if sop_class == RTStructureSetStorage:
        return [ImplicitVRLittleEndian]
    if destination.transfer_syntax == "rle" and sop_class in _WHOLE_BYTES:
        return [RLELossless]
    deflated = destination.transfer_syntax == "deflated"
    return [DeflatedExplicitVRLittleEndian if deflated else ExplicitVRLittleEndian, ImplicitVRLittleEndian]


def senders_of(destination: Destination, protocols: Sequence[Protocol], settings: Settings) -> dict[Output, list[str]]:
    """Which protocols send which outputs to a destination, also as the fallback of another."""
    found: dict[Output, list[str]] = {output: [] for output in CLASSES}
    for protocol in protocols:
        if protocol.shadow:
            continue
        made = set(protocol.outputs)
        if "sr" in made:  # a report comes with the segments that it measures
            made.add("seg")
        for route in routes_of(protocol, settings):
            if destination.name in (route.to, route.fallback):
                for output in made & CLASSES.keys() & set(route.outputs or made):
                    found[output] = list(dict.fromkeys([*found[output], protocol.name]))
    return found


def answers(peer: Peer, settings: Settings) -> str:
    """That the peer answers a C-ECHO, how fast, and what it is. Raises like `dicom_node.scu.association.echo`."""
    report = echo(peer, calling_ae=settings.ae_title)
    return f"{report.peer} answers in {report.seconds * 1000:.0f} ms ({report.implementation})"


def not_taken(peer: Peer, destination: Destination, settings: Settings) -> dict[Output, str]:
    """The outputs that a peer does not take as they are sent, with the name of their SOP class.

    Raises like `dicom_node.scu.association.probe`.
    """
    wanted = classes_for(destination)
    contexts = [build_context(sop_class, syntaxes_for(destination, sop_class)) for sop_class in wanted.values()]
    said = probe(peer, contexts, calling_ae=settings.ae_title)
    refused = [output for output, answer in zip(wanted, said, strict=True) if not answer.accepted]
    return {output: _name(wanted[output], destination) for output in refused}


def _name(sop_class: UID, destination: Destination) -> str:
    compressed = RLELossless in syntaxes_for(destination, sop_class)
    return _NAMES.get(sop_class, sop_class.name) + (f" in {RLELossless.name}" if compressed else "")

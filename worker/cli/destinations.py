"""What `doctor` asks a destination: is it there, and does it take the objects that are to go there?"""

from collections.abc import Sequence
from typing import Final

from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    RLELossless,
)
from pynetdicom.presentation import build_context

from dicom_node.objects.kinds import KINDS, OutputKind, with_brought
from dicom_node.objects.provenance import LABEL_MAP_STORAGE
from dicom_node.scu.association import Peer, echo, probe
from worker.protocols import Protocol, routes_of
from worker.settings import Destination, Settings

_NAMES: Final = {LABEL_MAP_STORAGE: "Label Map Segmentation Storage"}  # which pydicom 3.0 does not know


def kinds_for(destination: Destination) -> dict[str, OutputKind]:
    """By output the kind of object that this destination gets, in the form that it asks for."""
    return {kind.output: kind for kind in KINDS.values() if kind.form in (None, destination.seg)}


def syntaxes_for(destination: Destination, kind: OutputKind) -> list[UID]:
    """The transfer syntaxes that objects of this kind are offered in; a peer takes them if it takes one of these.

    What is compressed goes compressed or not at all; everything else is rewritten for a peer that takes implicit VR
    alone (see `dicom_node.scu.transcode` and `dicom_node.scu.c_store`).
    """
    if destination.transfer_syntax == "rle" and kind.whole_bytes:
        return [RLELossless]
    if destination.transfer_syntax == "deflated":
        return [DeflatedExplicitVRLittleEndian if one == ExplicitVRLittleEndian else one for one in kind.syntaxes]
    return [*kind.syntaxes]


def senders_of(destination: Destination, protocols: Sequence[Protocol], settings: Settings) -> dict[str, list[str]]:
    """Which protocols send which outputs to a destination, also as the fallback of another."""
    found: dict[str, list[str]] = {kind.output: [] for kind in KINDS.values()}
    for protocol in protocols:
        if protocol.shadow:
            continue
        made = with_brought(protocol.outputs)
        for route in routes_of(protocol, settings):
            if destination.name in (route.to, route.fallback):
                for output in made & found.keys() & set(route.outputs or made):
                    found[output] = list(dict.fromkeys([*found[output], protocol.name]))
    return found


def answers(peer: Peer, settings: Settings) -> str:
    """That the peer answers a C-ECHO, how fast, and what it is. Raises like `dicom_node.scu.association.echo`."""
    report = echo(peer, calling_ae=settings.ae_title)
    return f"{report.peer} answers in {report.seconds * 1000:.0f} ms ({report.implementation})"


def not_taken(peer: Peer, destination: Destination, settings: Settings) -> dict[str, str]:
    """The outputs that a peer does not take as they are sent, with the name of their SOP class.

    Raises like `dicom_node.scu.association.probe`.
    """
    wanted = kinds_for(destination)
    contexts = [build_context(kind.sop_class, syntaxes_for(destination, kind)) for kind in wanted.values()]
    said = probe(peer, contexts, calling_ae=settings.ae_title)
    refused = [output for output, answer in zip(wanted, said, strict=True) if not answer.accepted]
    return {output: _name(wanted[output], destination) for output in refused}


def _name(kind: OutputKind, destination: Destination) -> str:
    compressed = RLELossless in syntaxes_for(destination, kind)
    return str(_NAMES.get(kind.sop_class, kind.sop_class.name)) + (f" in {RLELossless.name}" if compressed else "")

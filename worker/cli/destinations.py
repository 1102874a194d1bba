"""What `doctor` asks a destination: whether it answers, and whether it takes the objects that are to go there.

It opens associations and proposes presentation contexts; it sends no object.
"""

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
    """Returns the kind of object that this destination gets for each output, in the form that it asks for."""
    return {kind.output: kind for kind in KINDS.values() if kind.form in (None, destination.seg)}


def syntaxes_for(destination: Destination, kind: OutputKind) -> list[UID]:
    """Returns the transfer syntaxes in which objects of this kind are offered; a peer must take one of them.

    A compressed object is sent compressed or not at all. Others are rewritten for a peer that takes Implicit VR alone
    (see `dicom_node.scu.transcode` and `dicom_node.scu.c_store`).
    """
    if destination.transfer_syntax == "rle" and kind.whole_bytes:
        return [RLELossless]
    if destination.transfer_syntax == "deflated":
        return [DeflatedExplicitVRLittleEndian if one == ExplicitVRLittleEndian else one for one in kind.syntaxes]
    return [*kind.syntaxes]


def senders_of(destination: Destination, protocols: Sequence[Protocol], settings: Settings) -> dict[str, list[str]]:
    """Returns for each output the names of the protocols that send it to a destination, also as another's fallback.

    Protocols in shadow mode send nothing.
    """
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
    """Sends a C-ECHO; returns a sentence on how fast the peer answered and which implementation it is.

    Raises:
        PeerError, PeerRefusedError: as `dicom_node.scu.association.echo` does.
    """
    report = echo(peer, calling_ae=settings.ae_title)
    return f"{report.peer} answers in {report.seconds * 1000:.0f} ms ({report.implementation})"


def not_taken(peer: Peer, destination: Destination, settings: Settings) -> dict[str, str]:
    """Returns the outputs that a peer does not take as they are sent, each with the name of its SOP class.

    Raises:
        PeerError, PeerRefusedError: as `dicom_node.scu.association.probe` does.
    """
    wanted = kinds_for(destination)
    contexts = [build_context(kind.sop_class, syntaxes_for(destination, kind)) for kind in wanted.values()]
    said = probe(peer, contexts, calling_ae=settings.ae_title)
    refused = [output for output, answer in zip(wanted, said, strict=True) if not answer.accepted]
    return {output: _name(wanted[output], destination) for output in refused}


def _name(kind: OutputKind, destination: Destination) -> str:
    """The name of a kind's SOP class, with the compression where it is sent compressed."""
    compressed = RLELossless in syntaxes_for(destination, kind)
    return str(_NAMES.get(kind.sop_class, kind.sop_class.name)) + (f" in {RLELossless.name}" if compressed else "")

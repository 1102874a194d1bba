"""DICOM peers: results go there by C-STORE, and storage commitment may be asked for.

Certificates are read at each call, so that a renewed one is used without a restart.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field, StringConstraints

from worker.destinations.destination import Destination, Senders
from worker.errors import NotHereError, SettingsError, WorkerError

if TYPE_CHECKING:
    from pydicom.uid import UID

    from dicom_node.objects.kinds import OutputKind
    from dicom_node.scu.association import Peer
    from dicom_node.scu.c_store import SendOutcome
    from worker.settings import Settings

AeTitle = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=16, pattern=r"^[ -\[\]-~]+$")
]
"""PS3.5 6.2, VR AE: at most 16 characters, no backslash, no control characters."""


class DicomDestination(Destination):
    """A PACS or another DICOM peer: results go there by C-STORE."""

    reached_by: ClassVar = ("ae_title", "host")

    ae_title: AeTitle = Field(description="Its AE title.")
    host: str = Field(description="Its host name or address.")
    port: int = Field(104, ge=1, le=65535, description="Its TCP port.")
    tls: bool = Field(False, description="Encrypt the connection; its certificate must carry its host name.")
    commitment: bool = Field(
        False, description="Ask it by storage commitment to keep the results; nothing is removed until it has promised."
    )

    @property
    def address(self) -> str:
        """Its AE title, host and port."""
        return f"{self.ae_title}@{self.host}:{self.port}"

    @property
    def promises(self) -> bool:
        """Whether the settings have it asked for storage commitment."""
        return self.commitment

    def peer(self, settings: "Settings") -> "Peer":
        """Returns how to reach it, with a TLS context where it has `tls: true`.

        Raises:
            TlsError: when a certificate cannot be used.
        """
        from dicom_node.scu.association import Peer
        from dicom_node.tls import client_context

        tls = None
        if self.tls:
            certificate, key = settings.tls_certificate, settings.tls_key
            tls = client_context(settings.tls_authorities, certificate=certificate, key=key)
        return Peer(self.ae_title, self.host, self.port, tls)

    def send(self, paths: Sequence[Path], settings: "Settings") -> "list[SendOutcome]":
        """Sends the files in one association, until this process must stop; see `dicom_node.scu.c_store.send`."""
        from dicom_node.scu import c_store
        from worker.stopping import must_give_back

        return c_store.send(paths, self.peer(settings), calling_ae=settings.ae_title, stopped=must_give_back)

    def check(self, settings: "Settings", senders: Senders) -> str:
        """Sends a C-ECHO, and proposes a presentation context for every kind of object in the form that it gets."""
        from dicom_node.scu.association import echo

        peer = self.peer(settings)
        report = echo(peer, calling_ae=settings.ae_title)
        here = f"{report.peer} answers in {report.seconds * 1000:.0f} ms ({report.implementation})"
        refused = not_taken(peer, self, settings)
        if needed := [f"{name} of {', '.join(who)}" for output, name in refused.items() if (who := senders[output])]:
            lacking = "; ".join(needed)
            raise WorkerError(f"{here}, but does not take {lacking}; change what it takes, or what goes there")
        if refused:
            raise NotHereError(
                f"{here}; it does not take {', '.join(refused.values())}, and no active protocol sends it"
            )
        return here


def peer_of(destination: Destination, settings: "Settings") -> "Peer":
    """Returns how to reach a destination by DICOM.

    Raises:
        SettingsError: when it is no DICOM peer.
        TlsError: when a certificate cannot be used.
    """
    if not isinstance(destination, DicomDestination):
        raise SettingsError(f"destination '{destination.name}' is no DICOM peer but {destination.address}")
    return destination.peer(settings)


def peer_by_ae_title(ae_title: str, settings: "Settings") -> "Peer | None":
    """Returns the destination with that AE title, to which a storage commitment report goes; None if there is none.

    Raises:
        TlsError: when a certificate cannot be used.
    """
    peers = (one for one in settings.destinations if isinstance(one, DicomDestination))
    found = [one for one in peers if one.ae_title == ae_title]
    return found[0].peer(settings) if found else None


# -- what a peer is asked to take


def kinds_for(destination: Destination) -> "dict[str, OutputKind]":
    """Returns the kind of object that a destination gets for each output, in the form that it asks for."""
    from dicom_node.objects.kinds import KINDS

    return {kind.output: kind for kind in KINDS.values() if kind.form in (None, destination.seg)}


def syntaxes_for(destination: Destination, kind: "OutputKind") -> "list[UID]":
    """Returns the transfer syntaxes in which objects of this kind are offered; a peer must take one of them.

    A compressed object is sent compressed or not at all. Others are rewritten for a peer that takes Implicit VR alone
    (see `dicom_node.scu.transcode` and `dicom_node.scu.c_store`).
    """
    from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, RLELossless

    if destination.transfer_syntax == "rle" and kind.whole_bytes:
        return [RLELossless]
    if destination.transfer_syntax == "deflated":
        return [DeflatedExplicitVRLittleEndian if one == ExplicitVRLittleEndian else one for one in kind.syntaxes]
    return [*kind.syntaxes]


def not_taken(peer: "Peer", destination: Destination, settings: "Settings") -> dict[str, str]:
    """Returns the outputs that a peer does not take as they are sent, each with the name of its SOP class.

    Raises:
        PeerError: when the peer does not answer or is busy.
        PeerRefusedError: when it refuses the association.
    """
    from pynetdicom.presentation import build_context

    from dicom_node.scu.association import probe

    wanted = kinds_for(destination)
    contexts = [build_context(kind.sop_class, syntaxes_for(destination, kind)) for kind in wanted.values()]
    said = probe(peer, contexts, calling_ae=settings.ae_title)
    refused = [output for output, answer in zip(wanted, said, strict=True) if not answer.accepted]
    return {output: _name(wanted[output], destination) for output in refused}


def _name(kind: "OutputKind", destination: Destination) -> str:
    """Returns the name of a kind's SOP class, with the compression where it is sent compressed."""
    from pydicom.uid import RLELossless

    from dicom_node.objects.provenance import LABEL_MAP_STORAGE

    unnamed = {LABEL_MAP_STORAGE: "Label Map Segmentation Storage"}  # which pydicom 3.0 does not know
    compressed = RLELossless in syntaxes_for(destination, kind)
    return str(unnamed.get(kind.sop_class, kind.sop_class.name)) + (f" in {RLELossless.name}" if compressed else "")

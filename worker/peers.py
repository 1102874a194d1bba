"""The peers that the settings name, with TLS where they say so."""

import ssl

from dicom_node.peer import Peer
from dicom_node.tls import client_context, server_context
from worker.settings import Destination, Settings


def peer_of(destination: Destination, settings: Settings) -> Peer:
    """How to reach a destination.

    Raises:
        TlsError: a certificate cannot be used.
    """
    tls = None
    if destination.tls:
        certificate, key = settings.tls_certificate, settings.tls_key
        tls = client_context(settings.tls_authorities, certificate=certificate, key=key)
    return Peer(destination.ae_title, destination.host, destination.port, tls)


def peer_by_ae_title(ae_title: str, settings: Settings) -> Peer | None:
    """The destination of that AE title: where a storage commitment report to it goes."""
    found = [destination for destination in settings.destinations if destination.ae_title == ae_title]
    return peer_of(found[0], settings) if found else None


def listener_tls(settings: Settings) -> ssl.SSLContext | None:
    """The TLS side of the listener, or None for plain DICOM.

    Raises:
        TlsError: a certificate cannot be used.
    """
    if settings.tls_certificate is None:
        return None
    key = settings.tls_key or settings.tls_certificate
    return server_context(settings.tls_certificate, key, client_authorities=settings.tls_authorities)

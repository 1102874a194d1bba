"""The peers that the settings name: how to reach each, and the TLS contexts that the settings ask for.

Files of certificates, tokens and passwords are read at each call, so that a renewed one is used without a restart.
"""

import ssl
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from dicom_node.scu.association import Peer
from dicom_node.tls import client_context, server_context
from worker.errors import SettingsError
from worker.settings import Destination, Settings

if TYPE_CHECKING:
    from dicom_node.scu.stow import WebPeer


def peer_of(destination: Destination, settings: Settings) -> Peer:
    """Returns how to reach a destination by DICOM, with a TLS context where it has `tls: true`.

    Raises:
        SettingsError: when the destination is reached by DICOMweb.
        TlsError: when a certificate cannot be used.
    """
    if destination.ae_title is None or destination.host is None:
        raise SettingsError(f"destination '{destination.name}' is no DICOM peer but {destination.url}")
    tls = None
    if destination.tls:
        certificate, key = settings.tls_certificate, settings.tls_key
        tls = client_context(settings.tls_authorities, certificate=certificate, key=key)
    return Peer(destination.ae_title, destination.host, destination.port, tls)


def web_peer_of(destination: Destination, settings: Settings) -> "WebPeer | None":
    """Returns how to reach a destination by DICOMweb, with token or password; None if it is a DICOM peer.

    Raises:
        SettingsError: when the file of the token or password cannot be read.
    """
    if destination.url is None:
        return None
    from dicom_node.scu.stow import WebPeer  # `echo` does without it

    parts = urlsplit(destination.url.get_secret_value())
    user, password = destination.user, _secret(destination.password_file) or ""
    if user is None and parts.username is not None:
        user, password = unquote(parts.username), unquote(parts.password or "")
    return WebPeer(
        parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl(),  # a peer's URL is in every message about it
        token=_secret(destination.token_file),
        user=user,
        password=password,
        authorities=settings.tls_authorities,
    )


def _secret(path: Path | None) -> str | None:
    """The text of a file without surrounding white space; None where no file is named."""
    if path is None:
        return None
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} cannot be read ({error}); VOXTELL_DESTINATIONS names it") from None


def peer_by_ae_title(ae_title: str, settings: Settings) -> Peer | None:
    """Returns the destination with that AE title, to which a storage commitment report goes; None if there is none.

    Raises:
        TlsError: when a certificate cannot be used.
    """
    found = [destination for destination in settings.destinations if destination.ae_title == ae_title]
    return peer_of(found[0], settings) if found else None


def listener_tls(settings: Settings) -> ssl.SSLContext | None:
    """Returns the TLS context of the node's own ports (DICOM, HTTP, HL7), or None where they are not encrypted.

    Raises:
        TlsError: when a certificate cannot be used.
    """
    if settings.tls_certificate is None:
        return None
    key = settings.tls_key or settings.tls_certificate
    return server_context(settings.tls_certificate, key, client_authorities=settings.tls_authorities)

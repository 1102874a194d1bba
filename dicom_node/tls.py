"""TLS contexts of the BCP 195 profile (PS3.15 annex B.9, RFC 8996, RFC 9325): TLS 1.2 or 1.3, forward secrecy only.

The same contexts serve DICOM associations and HTTP. A context may be used by any number of threads and connections.
"""

import ssl
from pathlib import Path
from typing import Final

from dicom_node.errors import TlsError

# Suites for TLS 1.2: RFC 9325 section 4.2 and those of PS3.15 annex B.9 for older peers. TLS 1.3 brings its own.
_CIPHERS: Final = ":".join(
    [
        "ECDHE-ECDSA-AES128-GCM-SHA256",
        "ECDHE-RSA-AES128-GCM-SHA256",
        "ECDHE-ECDSA-AES256-GCM-SHA384",
        "ECDHE-RSA-AES256-GCM-SHA384",
        "DHE-RSA-AES128-GCM-SHA256",
        "DHE-RSA-AES256-GCM-SHA384",
    ]
)


def server_context(certificate: Path, key: Path, *, client_authorities: Path | None = None) -> ssl.SSLContext:
    """Returns the TLS context of a server, which shows `certificate` to its peers.

    With `client_authorities` only peers whose certificate one of them signed may connect. All files are PEM;
    `certificate` may hold the chain behind its first certificate.

    Raises:
        TlsError: when a file is missing or no PEM file, or the key does not fit the certificate.
    """
    context = _context(ssl.PROTOCOL_TLS_SERVER)
    _load_identity(context, certificate, key)
    if client_authorities is not None:
        _load_authorities(context, client_authorities)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def client_context(
    authorities: Path | None = None, *, certificate: Path | None = None, key: Path | None = None
) -> ssl.SSLContext:
    """Returns the TLS context for connections to a peer, whose certificate must be signed and carry its host name.

    `authorities` sign the peer's certificate; without them those of the operating system are trusted. `certificate` and
    `key` identify this node to peers that ask for it; without `key` the file `certificate` holds both. All files are
    PEM.

    Raises:
        TlsError: when a file is missing or no PEM file, or the key does not fit the certificate.
    """
    context = _context(ssl.PROTOCOL_TLS_CLIENT)
    if authorities is not None:
        _load_authorities(context, authorities)
    else:
        context.load_default_certs()
    if certificate is not None:
        _load_identity(context, certificate, key or certificate)
    return context


def _context(protocol: int) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS)
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    return context


def _load_identity(context: ssl.SSLContext, certificate: Path, key: Path) -> None:
    try:
        context.load_cert_chain(certificate, key)
    except OSError as error:
        reason = getattr(error, "reason", None) or error.strerror
        raise TlsError(
            f"The certificate {certificate} with the key {key} cannot be used ({reason}); give two PEM files that fit."
        ) from error


def _load_authorities(context: ssl.SSLContext, authorities: Path) -> None:
    try:
        context.load_verify_locations(authorities)
    except OSError as error:
        reason = getattr(error, "reason", None) or error.strerror
        raise TlsError(f"The authorities in {authorities} cannot be used ({reason}); give a PEM file.") from error

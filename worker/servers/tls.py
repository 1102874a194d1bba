"""The TLS of the node's own ports: DICOM, HTTP and HL7. Certificates are read at each call."""

import ssl

from dicom_node.tls import client_context, server_context
from worker.settings import Settings


def listener_tls(settings: Settings) -> ssl.SSLContext | None:
    """Returns the TLS context of the node's own ports, or None where they are not encrypted.

    Raises:
        TlsError: when a certificate cannot be used.
    """
    if settings.tls_certificate is None:
        return None
    key = settings.tls_key or settings.tls_certificate
    return server_context(settings.tls_certificate, key, client_authorities=settings.tls_authorities)


def tls_to_itself(settings: Settings) -> ssl.SSLContext | None:
    """Returns the TLS context to reach the node's own listener; None where that is not encrypted.

    The listener must present the certificate of the settings; its host name is not compared, since the address in the
    settings need not be in the certificate. The client presents the node's own certificate, as it does to destinations.

    Raises:
        TlsError: when a certificate cannot be used.
    """
    if settings.tls_certificate is None:
        return None
    own = settings.tls_certificate
    context = client_context(own, certificate=own, key=settings.tls_key)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # trusted itself, whoever signed it
    return context

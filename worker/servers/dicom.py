"""What the DICOM port gives to its peers, by the settings: who may call, and within which limits."""

from typing import Final

from dicom_node.scp.access import Access, Limits
from worker.settings import Settings

_SPARE_CONNECTIONS: Final = 8  # for those that never ask for an association, such as checks of the port


def access_to_dicom(settings: Settings) -> Access:
    """Returns who may open an association."""
    return Access(
        called_ae_must_match=settings.require_called_ae,
        calling_aes=settings.allowed_calling_aets,
        networks=settings.allowed_addresses,
        private_classes=settings.private_classes,
    )


def dicom_limits(settings: Settings) -> Limits:
    """Returns the limits of one listener; those of connections follow that of associations unless they are set."""
    most = settings.max_associations
    return Limits(
        associations=most,
        connections=settings.max_connections or 2 * most + _SPARE_CONNECTIONS,
        connections_per_address=settings.max_connections_per_address or max(4 * most // 5, 1),
        request_seconds=settings.association_request_seconds,
        idle_seconds=settings.association_idle_seconds,
        pdu_bytes=settings.max_pdu_bytes,
        free_bytes=settings.min_free_bytes,
    )

"""Retrieves studies of a PACS into the store: each image is durable before it is acknowledged, as one that was sent."""

import uuid
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from pydicom.uid import (
    JPEG2000,
    UID,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    EnhancedCTImageStorage,
    EnhancedMRImageStorage,
    EnhancedPETImageStorage,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    MRImageStorage,
    PositronEmissionTomographyImageStorage,
    RLELossless,
)

from dicom_node.origin import Origin
from dicom_node.scp.arrivals import Arrival
from dicom_node.scp.contexts import storage_classes
from dicom_node.scp.reception import Announced, Reception, RefusedError, StoreStatus
from dicom_node.scu.association import DEFAULT_TIMEOUTS, Peer, Timeouts
from dicom_node.scu.c_get import ReceivedDataset, get_study
from dicom_node.scu.query import RetrieveReport, SeriesEntry
from dicom_node.store import Store
from dicom_node.uids import SeriesKey

_SEGMENTED: Final = (
    CTImageStorage,
    MRImageStorage,
    PositronEmissionTomographyImageStorage,
    EnhancedCTImageStorage,
    EnhancedMRImageStorage,
    EnhancedPETImageStorage,
)
"""SOP classes of volumes, which have their place where more classes could be asked for than an association takes."""

_SYNTAXES: Final = (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    DeflatedExplicitVRLittleEndian,
    JPEGLosslessSV1,
    JPEGLossless,
    JPEGLSLossless,
    JPEG2000Lossless,
    HTJ2KLossless,
    RLELossless,
    JPEGLSNearLossless,
    JPEG2000,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
)
"""Transfer syntaxes that are offered, the best first. DCMTK does not answer a request of more than 128 kB, which it
would be with 127 classes in all the syntaxes that the listener takes."""


def get_into_store(
    peer: Peer,
    study_uid: str,
    store: Store,
    *,
    series: Sequence[str] = (),
    sop_classes: Sequence[UID] = (),
    calling_ae: str,
    required_bytes: int = 0,
    on_arrival: Callable[[Arrival], None],
    timeouts: Timeouts = DEFAULT_TIMEOUTS,
) -> RetrieveReport:
    """Retrieves a study, or those of its series that are named, by C-GET into `store`.

    `sop_classes` are those of its images if the PACS tells; without them the usual ones are offered. What is no
    instance of the study goes into quarantine, and nothing is taken while fewer than `required_bytes` are free: both
    count as failed. `on_arrival` is called for each image that is durable, before it is acknowledged.

    Raises:
        PeerError: when the peer does not answer, ends the association or is short of resources.
        PeerRefusedError: when the peer refuses the association or the request, or takes no C-GET.
    """
    origin = Origin(peer.ae_title, calling_ae, peer.host)
    association_id = uuid.uuid4().hex

    def keep(received: ReceivedDataset) -> int:
        sop_class, sop_uid = received.sop_class_uid, received.sop_uid
        announced = Announced(sop_class, sop_uid, received.transfer_syntax, origin, study_uid=study_uid)
        reception = Reception(announced, store, required_bytes)
        reception.write(received.data_set)
        try:
            uids, receipt = reception.finish()
        except RefusedError as refusal:
            return refusal.status
        key = SeriesKey(uids.study_uid, uids.series_uid)
        on_arrival(Arrival(key, sop_uid, sop_class, receipt.path, origin, association_id, receipt.outcome))
        return StoreStatus.SUCCESS

    return get_study(
        peer,
        study_uid,
        series=series,
        sop_classes=sop_classes or usual_classes(),
        transfer_syntaxes=_SYNTAXES,
        on_dataset=keep,
        calling_ae=calling_ae,
        timeouts=timeouts,
    )


def usual_classes() -> tuple[UID, ...]:
    """Returns the storage classes that the node takes, those of volumes first: an association has room for 127."""
    return (*_SEGMENTED, *(uid for uid in storage_classes() if uid not in _SEGMENTED))


def lacking(store: Store, listed: Iterable[SeriesEntry]) -> dict[SeriesKey, int]:
    """Returns how many images the store lacks of each series that a PACS counts more of; none where it does not count.

    A C-GET or C-MOVE may end as a success with fewer images than the PACS lists.
    """
    keys = {SeriesKey(entry.study_uid, entry.series_uid): entry.instances or 0 for entry in listed}
    missing = {key: instances - store.count(key) for key, instances in keys.items()}
    return {key: count for key, count in missing.items() if count > 0}

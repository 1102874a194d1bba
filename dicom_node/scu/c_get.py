"""C-GET SCU: has a PACS send the images of a study over the association that asks (PS3.4 section C.4.3).

Unlike C-MOVE it needs no listener and no entry in the PACS's list of destinations.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom import build_role, evt
from pynetdicom.presentation import build_context
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelGet

from dicom_node.errors import PeerRefusedError
from dicom_node.scu.association import DEFAULT_TIMEOUTS, Peer, Timeouts, associated
from dicom_node.scu.query import RetrieveReport, retrieve_keys, retrieve_report

MOST_CLASSES: Final = 127  # of one association: 128 contexts (PS3.8 section 9.3.2.2), of which C-GET takes one


@dataclass(frozen=True)
class ReceivedDataset:
    """An instance as the PACS sent it: its data set, encoded, in the transfer syntax that was agreed on."""

    sop_class_uid: str
    sop_uid: str
    transfer_syntax: UID
    data_set: bytes


def get_study(
    peer: Peer,
    study_uid: str,
    *,
    series: Sequence[str] = (),
    sop_classes: Sequence[UID],
    transfer_syntaxes: Sequence[UID],
    on_dataset: Callable[[ReceivedDataset], int],
    calling_ae: str,
    timeouts: Timeouts = DEFAULT_TIMEOUTS,
) -> RetrieveReport:
    """Retrieves a study, or those of its series that are named; returns when the PACS has sent everything.

    Images of the first 127 of `sop_classes` are taken, in the first of `transfer_syntaxes` that the PACS agrees to.
    `on_dataset` gets each image in a thread of the association and returns the status to answer (PS3.4 table B.2-1),
    0x0000 when it is safe; one image is in memory at a time.

    Raises:
        PeerError: when the peer does not answer, ends the association or is short of resources.
        PeerRefusedError: when the peer refuses the association or the request, or takes no C-GET.
    """
    classes = sop_classes[:MOST_CLASSES]
    model = StudyRootQueryRetrieveInformationModelGet
    contexts = [build_context(model), *(build_context(uid, list(transfer_syntaxes)) for uid in classes)]

    def store(event: evt.Event) -> int:
        request, context = event.request, event.context
        sop_class, sop_uid = str(request.AffectedSOPClassUID), str(request.AffectedSOPInstanceUID)
        data_set = event.encoded_dataset(include_meta=False)
        return on_dataset(ReceivedDataset(sop_class, sop_uid, UID(context.transfer_syntax), data_set))

    responses: list[Dataset] = []
    with associated(
        peer,
        contexts,
        calling_ae=calling_ae,
        timeouts=timeouts,
        roles=[build_role(uid, scp_role=True) for uid in classes],
        on_store=store,
    ) as association:
        if model not in {context.abstract_syntax for context in association.accepted_contexts}:
            raise PeerRefusedError(
                f"{peer} does not let {calling_ae} retrieve by C-GET; allow it there, or retrieve by C-MOVE or WADO-RS."
            )
        for keys in retrieve_keys(study_uid, series):
            responses += [response for response, _ in association.send_c_get(keys, model)][-1:]
    asked = f"{peer} was asked by {calling_ae} for {study_uid} (C-GET)"
    return retrieve_report(responses, asked)

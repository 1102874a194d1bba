"""STOW-RS in (PS3.18 section 10.5): the same way into the store as C-STORE, with the same guarantees.

This is the DICOM side: it turns the parts of a request into instances of the store and makes the data set of the
answer; the HTTP server is the caller's. An instance is durable, and the ledger has heard of it, before the next one of
the request is looked at; a request that breaks off keeps what had come to its end, as an association does.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

from dicom_node.origin import Origin
from dicom_node.scp.reception import Announced, Reception, RefusedError, StoreStatus
from dicom_node.scp.sessions import Sessions
from dicom_node.scp.web_parts import Parts, WebRequestError
from dicom_node.store import Store
from dicom_node.uids import is_uid

CALLING_AE = "STOW-RS"
"""What stands for the calling AE title of who sends by DICOMweb."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PartOutcome:
    """What became of one part of a request; without UIDs when it was not understood."""

    sop_class_uid: str
    sop_uid: str
    status: StoreStatus


class StowRequest:
    """One request: its body in, an instance of the store for each part, the answer out.

    Used by one thread at a time; `end` must be called, also for a request that breaks off.
    """

    def __init__(
        self,
        store: Store,
        sessions: Sessions,
        origin: Origin,
        *,
        content_type: str,
        required_bytes: int,
        study_uid: str = "",
    ) -> None:
        """Begins to receive.

        `required_bytes` must stay free on the disk; `study_uid` names the only study that is taken, "" any.

        Raises:
            WebRequestError: when the content type is not that of a STOW-RS request.
        """
        self._store, self._origin, self._required_bytes, self._study_uid = store, origin, required_bytes, study_uid
        self._parts = Parts(content_type, self._begin)
        self._session = sessions.begin()
        self.instances: list[PartOutcome] = []

    def write(self, content: bytes) -> None:
        """Takes the next bytes of the body.

        Raises:
            WebRequestError: when they are no multipart message.
        """
        self._parts.write(content)

    def complete(self) -> None:
        """Checks that the body is complete; a part that was cut off counts as failed (0xC000).

        Raises:
            WebRequestError: when there was no part.
        """
        if not self._parts.complete and self.instances:
            self.instances.append(PartOutcome("", "", StoreStatus.CANNOT_UNDERSTAND))
        if not self.instances:
            said = "holds no DICOM file" if self._parts.complete else "ends before its last boundary"
            raise WebRequestError(f"the body {said}; send multipart/related with the boundary of the header")

    def end(self, *, aborted: bool) -> None:
        """Ends the request, also a broken one; whole instances stay."""
        self._parts.discard()
        self._session.end(aborted=aborted)

    def answer(self) -> tuple[int, str]:
        """Returns the HTTP status (PS3.18 table 10.5.3-1) and the response data set (section 10.5.3) as DICOM JSON."""
        stored = [_item(one) for one in self.instances if one.status is StoreStatus.SUCCESS]
        failed = [_item(one) for one in self.instances if one.status is not StoreStatus.SUCCESS]
        answer = Dataset()
        answer.RetrieveURL = ""
        for keyword, items in (
            ("ReferencedSOPSequence", stored),
            ("FailedSOPSequence", [item for item in failed if "ReferencedSOPInstanceUID" in item]),
            ("OtherFailuresSequence", [item for item in failed if "ReferencedSOPInstanceUID" not in item]),
        ):
            if items:
                setattr(answer, keyword, items)
        return 200 if stored and not failed else 202 if stored else 409, answer.to_json()

    def _begin(self, meta: FileMetaDataset | None) -> "_Part":
        known = meta if meta is not None else FileMetaDataset()
        announced = Announced(
            sop_class_uid=str(known.get("MediaStorageSOPClassUID", "")),
            sop_uid=str(known.get("MediaStorageSOPInstanceUID", "")),
            transfer_syntax=UID(str(known.get("TransferSyntaxUID", ExplicitVRLittleEndian))),
            origin=self._origin,
            study_uid=self._study_uid,
        )
        return _Part(Reception(announced, self._store, self._required_bytes), partial(self._finish, announced))

    def _finish(self, announced: Announced, reception: Reception) -> None:
        self.instances.append(PartOutcome(announced.sop_class_uid, announced.sop_uid, self._status(reception)))

    def _status(self, reception: Reception) -> StoreStatus:
        """Ends a part; whatever happens becomes a status (the door of STOW-RS)."""
        try:
            header, receipt = reception.finish()
            self._session.arrived(header, receipt, self._origin)
        except RefusedError as refusal:
            return refusal.status
        except Exception:  # noqa: BLE001 (a door)
            _log.exception("instance_not_taken", extra={"association": self._session.association_id})
            return StoreStatus.OUT_OF_RESOURCES
        return StoreStatus.SUCCESS


@dataclass
class _Part:
    """See `dicom_node.scp.web_parts.Part`."""

    reception: Reception
    end: Callable[[Reception], None]

    def write(self, content: bytes) -> None:
        self.reception.write(content)

    def finish(self) -> None:
        self.end(self.reception)

    def discard(self) -> None:
        self.reception.discard()


def _item(outcome: PartOutcome) -> Dataset:
    item = Dataset()
    if is_uid(outcome.sop_uid):
        item.ReferencedSOPClassUID = outcome.sop_class_uid
        item.ReferencedSOPInstanceUID = outcome.sop_uid
    if outcome.status is StoreStatus.SUCCESS:
        item.RetrieveURL = ""
    else:
        item.FailureReason = int(outcome.status)
    return item

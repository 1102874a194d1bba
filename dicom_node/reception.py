"""What becomes of one C-STORE request: kept in the store, or put aside, and the status that says so (PS3.4 annex B)."""

import enum
import logging
from typing import Final

from pynetdicom import evt

from dicom_node.errors import StoreError
from dicom_node.header import Header, read_header
from dicom_node.part10 import file_start
from dicom_node.store import Receipt, Store

_ERROR_COMMENT_CHARACTERS: Final = 64
_log = logging.getLogger(__name__)


class StoreStatus(enum.IntEnum):
    """What a C-STORE response says here (PS3.4 table B.2-1; the low byte of a failure is free to choose)."""

    SUCCESS = 0x0000
    OUT_OF_RESOURCES = 0xA700  # the same instance may be accepted later
    DATA_SET_DOES_NOT_MATCH = 0xA900  # its SOP class or instance is not that of the command
    CANNOT_UNDERSTAND = 0xC000


class RefusedError(Exception):
    """A request that gets a failure status."""

    def __init__(self, status: StoreStatus, reason: str) -> None:
        super().__init__(reason)
        self.status = status

    def comment(self) -> str:
        """The reason as an Error Comment (0000,0902): one line of ASCII without a backslash (LO, PS3.5 section 6.2)."""
        kept = (letter if " " <= letter <= "~" and letter != "\\" else "?" for letter in str(self))
        return "".join(kept)[:_ERROR_COMMENT_CHARACTERS]


def keep(event: evt.Event, store: Store, required_bytes: int) -> tuple[Header, Receipt]:
    """Make the instance of a C-STORE request durable, with the bytes and the transfer syntax it came in.

    The data set comes from memory. pynetdicom can stream it to a temporary file instead, but flushes that with every
    PDU, and the file must be read for its UIDs: 242 CT slices a second against 272, on a disk with the same fsyncs.

    Raises RefusedError: out of resources when less than `required_bytes` would be left on the disk or the disk fails;
    otherwise for a data set that cannot be kept, after putting it into quarantine.
    """
    request = event.request
    data_set = request.DataSet.getvalue()
    start = file_start(
        sop_class_uid=request.AffectedSOPClassUID,
        sop_uid=request.AffectedSOPInstanceUID,
        transfer_syntax=event.context.transfer_syntax,
    )
    part10 = start + data_set
    if store.free_bytes() < required_bytes + len(part10):
        raise RefusedError(StoreStatus.OUT_OF_RESOURCES, "too little free disk space")
    try:
        header = _checked_header(event, data_set)
        receipt = store.put(part10, study_uid=header.study_uid, series_uid=header.series_uid, sop_uid=header.sop_uid)
    except RefusedError as refusal:
        peer = event.assoc.requestor
        kept = store.quarantine(part10, str(refusal), calling_ae=peer.ae_title, address=peer.address)
        _log.warning("instance from %s put aside as %s: %s", peer.ae_title, kept.name, refusal)
        raise
    except StoreError as error:
        raise RefusedError(StoreStatus.OUT_OF_RESOURCES, "the store cannot write") from error
    return header, receipt


def _checked_header(event: evt.Event, data_set: bytes) -> Header:
    """The UIDs of the data set, which must be those of the command (PS3.4 section B.2.3, status A9xx)."""
    try:
        header = read_header(data_set, event.context.transfer_syntax)
    except Exception as error:  # pydicom meets foreign bytes with exceptions of many kinds
        raise RefusedError(StoreStatus.CANNOT_UNDERSTAND, f"{error}") from error
    request = event.request
    if (header.sop_class_uid, header.sop_uid) != (request.AffectedSOPClassUID, request.AffectedSOPInstanceUID):
        raise RefusedError(
            StoreStatus.DATA_SET_DOES_NOT_MATCH,
            f"the data set is {header.sop_uid} of class {header.sop_class_uid}, the command says otherwise",
        )
    return header

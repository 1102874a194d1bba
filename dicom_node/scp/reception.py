"""Receives one instance: keeps it in the store or puts it into quarantine, and says with which status (PS3.4 annex B).

C-STORE and STOW-RS both take this way. What cannot be kept is put aside rather than lost, because its sender may have
deleted it by then.
"""

import enum
import logging
from dataclasses import dataclass
from typing import Final

from pydicom.uid import UID

from dicom_node.errors import StoreError
from dicom_node.images.pydicom_errors import PYDICOM_ERRORS
from dicom_node.origin import Origin
from dicom_node.scp.instance_uids import HeaderError, InstanceUids, read_uids
from dicom_node.storage.incoming import Incoming
from dicom_node.storage.part10 import file_start
from dicom_node.store import Receipt, Store
from dicom_node.uids import is_uid

_ERROR_COMMENT_CHARACTERS: Final = 64
_log = logging.getLogger(__name__)


class StoreStatus(enum.IntEnum):
    """The statuses of this node for an instance (PS3.4 table B.2-1; the low byte of a failure is free to choose)."""

    SUCCESS = 0x0000
    SOP_CLASS_NOT_SUPPORTED = 0x0122  # another than that of the presentation context (PS3.7 section 9.1.1.1.9)
    OUT_OF_RESOURCES = 0xA700  # the same instance may be accepted later
    DATA_SET_DOES_NOT_MATCH = 0xA900  # its SOP class or instance is not that of the command
    CANNOT_UNDERSTAND = 0xC000


class RefusedError(Exception):
    """The instance gets a failure status; the text says why."""

    def __init__(self, status: StoreStatus, reason: str) -> None:
        super().__init__(reason)
        self.status = status

    def comment(self) -> str:
        """Returns the reason as an Error Comment (0000,0902): printable ASCII, no backslash (LO, PS3.5 section 6.2)."""
        kept = (letter if " " <= letter <= "~" and letter != "\\" else "?" for letter in str(self))
        return "".join(kept)[:_ERROR_COMMENT_CHARACTERS]


@dataclass(frozen=True)
class Announced:
    """What is known of an instance before its data set comes, by a C-STORE command or by file meta information."""

    sop_class_uid: str
    sop_uid: str
    transfer_syntax: UID
    origin: Origin
    study_uid: str = ""  # the study that it must belong to; "" for any
    negotiated_class_uid: str = ""  # the SOP class of its presentation context; "" where none is negotiated


class Reception:
    """One instance on its way in, stored with the bytes and the transfer syntax in which it comes.

    `write` any number of times, then `finish`; or `discard` at any time. Used by one thread at a time.
    """

    def __init__(self, announced: Announced, store: Store, required_bytes: int) -> None:
        """Begins a file in `store`; nothing is taken when fewer than `required_bytes` are free on its disk."""
        self._announced = announced
        self._store = store
        self._required_bytes = required_bytes
        self._file: Incoming | None = None
        self._refusal: RefusedError | None = None
        start = file_start(
            sop_class_uid=announced.sop_class_uid, sop_uid=announced.sop_uid, transfer_syntax=announced.transfer_syntax
        )
        self._data_set_at = len(start)
        try:
            if store.free_bytes() >= required_bytes:
                self._file = store.incoming()
            else:
                self._out_of_resources("too little free disk space")
        except OSError as error:
            self._out_of_resources("the store cannot write", error)
        self.write(start)

    def write(self, content: bytes | memoryview) -> None:
        """Takes the next bytes of the data set; raises nothing, `finish` says what went wrong."""
        if self._file:
            try:
                self._file.write(content)
            except OSError as error:
                self._out_of_resources("the store cannot write", error)

    def finish(self) -> tuple[InstanceUids, Receipt]:
        """Makes the instance durable; returns its UIDs and where it lies.

        Raises:
            RefusedError: when the disk is too full or fails (0xA700), and nothing is kept; when the data set is not the
                instance announced (0xA900) or cannot be read (0xC000), and it is now in quarantine.
            StoreError: when the disk did not take the file into quarantine either.
        """
        try:
            if self._file and self._store.free_bytes() < self._required_bytes:
                self._out_of_resources("too little free disk space")
            if self._refusal or not self._file:
                raise self._refusal or RefusedError(StoreStatus.OUT_OF_RESOURCES, "the store cannot write")
            return self._keep(self._file)
        finally:
            self.discard()

    def discard(self) -> None:
        """Removes the unfinished file; harmless after `finish`, and a second time."""
        if self._file:
            self._file.discard()
            self._file = None

    def _keep(self, file: Incoming) -> tuple[InstanceUids, Receipt]:
        try:
            header = self._checked_header(file)
            uids = {"study_uid": header.study_uid, "series_uid": header.series_uid, "sop_uid": header.sop_uid}
            return header, self._store.keep(file, **uids)
        except RefusedError as refusal:
            self._quarantine(file, refusal)
            raise
        except StoreError as error:
            raise RefusedError(StoreStatus.OUT_OF_RESOURCES, "the store cannot write") from error

    def _quarantine(self, file: Incoming, refusal: RefusedError) -> None:
        origin = self._announced.origin
        kept = self._store.quarantine(file, str(refusal), calling_ae=origin.calling_ae, address=origin.address)
        facts = {"calling_ae": origin.calling_ae, "file": kept.name, "reason": str(refusal)}
        _log.warning("instance_quarantined", extra=facts)

    def _checked_header(self, file: Incoming) -> InstanceUids:
        """Reads and checks the UIDs of the data set.

        Raises:
            RefusedError: when it is not the instance announced (PS3.4 table B.2-1, A9xx), or cannot be read (Cxxx).
        """
        announced = self._announced
        self._check_negotiated()
        try:
            with file.reader(self._data_set_at) as data_set:
                header = read_uids(data_set, announced.transfer_syntax)
        except HeaderError as error:
            raise RefusedError(StoreStatus.CANNOT_UNDERSTAND, f"{error}") from error
        except PYDICOM_ERRORS as error:  # their texts quote values, which may be a patient's
            reason = f"the data set cannot be read ({type(error).__name__})"
            raise RefusedError(StoreStatus.CANNOT_UNDERSTAND, reason) from error
        if (header.sop_class_uid, header.sop_uid) != (announced.sop_class_uid, announced.sop_uid):
            raise RefusedError(
                StoreStatus.DATA_SET_DOES_NOT_MATCH,
                f"the data set is {header.sop_uid} of class {header.sop_class_uid}, the command says otherwise",
            )
        if announced.study_uid not in ("", header.study_uid):
            raise RefusedError(
                StoreStatus.DATA_SET_DOES_NOT_MATCH, f"its study is {header.study_uid}, not {announced.study_uid}"
            )
        return header

    def _check_negotiated(self) -> None:
        """Checks what the command and its presentation context say before the data set is looked at.

        Raises:
            RefusedError: when the SOP class is not the context's (0x0122), or the transfer syntax is no UID (Cxxx).
        """
        announced = self._announced
        if announced.negotiated_class_uid not in ("", announced.sop_class_uid):
            raise RefusedError(
                StoreStatus.SOP_CLASS_NOT_SUPPORTED,
                f"its SOP class is not {announced.negotiated_class_uid}, that of its context",
            )
        if not is_uid(announced.transfer_syntax):
            raise RefusedError(StoreStatus.CANNOT_UNDERSTAND, "its transfer syntax is no UID (PS3.5 section 9.1)")

    def _out_of_resources(self, reason: str, cause: OSError | None = None) -> None:
        self._refusal = RefusedError(StoreStatus.OUT_OF_RESOURCES, reason)
        self._refusal.__cause__ = cause
        self.discard()

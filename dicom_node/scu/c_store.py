"""C-STORE SCU: sends files to a peer and returns what it said to every instance (PS3.4 annex B, PS3.7 section 9.1.1).

Files go out as they lie on the disk, without being decoded, in the transfer syntax that they have.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

from pydicom import dcmread
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_file_meta_info
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext, build_context

from dicom_node.errors import PeerError, PeerRefusedError
from dicom_node.scu.association import DEFAULT_TIMEOUTS, Peer, Timeouts, associated
from dicom_node.upper_layer.requestor import has_ended

_MAX_CONTEXTS: Final = 128  # of one association: odd numbers of one byte, PS3.8 section 9.3.2.2

# Data sets that pydicom rewrites as implicit little endian without touching a pixel.
_REWRITABLE: Final = (ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian)

_SUCCESS: Final = 0x0000
# Duplicate SOP instance (PS3.7 annex C), and what DICOMweb services of Azure say instead (45070).
STORED_BEFORE: Final = (0x0111, 0xB00E)
_GENERAL_WARNINGS: Final = (0x0107, 0x0116)  # attribute list error, value out of range: PS3.7 annex C
_GENERAL_RECOVERABLE: Final = (0x0110, 0x0213)  # processing failure, resource limitation: PS3.7 annex C

_Wanted = tuple[UID, UID]  # SOP class, transfer syntax


@dataclass(frozen=True)
class SendOutcome:
    """What became of one file that was to be sent.

    "ok" and "warning" mean that the peer has stored it. `message` is one sentence that names the peer and says what
    happened.
    """

    path: Path
    sop_uid: str  # empty when the file is no DICOM file
    status: int | None  # of the C-STORE response; None when there was none
    result: Literal["ok", "warning", "failed"]
    retry: Literal["later", "final"] | None  # None unless failed
    message: str
    silent: bool = False  # the peer fell silent: whatever else goes there now meets the same silence
    withheld: bool = False  # it was not sent, since this process is to stop


@dataclass(frozen=True)
class _Item:
    path: Path
    sop_uid: str
    wanted: _Wanted


def send(
    paths: Sequence[Path],
    peer: Peer,
    *,
    calling_ae: str,
    timeouts: Timeouts = DEFAULT_TIMEOUTS,
    stopped: Callable[[], bool] = lambda: False,
) -> list[SendOutcome]:
    """Sends DICOM files to `peer` by C-STORE; returns one outcome per path, in order.

    `stopped` is asked before each file; once it says so, the files that are left are withheld.

    One association serves all files whose presentation contexts fit into it (128); further ones follow. Transfer
    syntaxes stay as stored; where the peer takes only implicit VR little endian, uncompressed data sets are rewritten.
    A file that is no DICOM file, is refused or gets no response is an outcome and no error, and so is a further
    association that fails.

    Raises:
        PeerError: when there was no association at all, because the peer does not answer or is busy.
        PeerRefusedError: when there was no association at all, because the peer refuses it.
    """
    outcomes: dict[Path, SendOutcome] = {}
    items = []
    for path in paths:
        try:
            items.append(_item(path))
        except (InvalidDicomError, AttributeError, OSError) as error:
            outcomes[path] = SendOutcome(path, "", None, "failed", "final", f"{path} is no DICOM file ({error}).")
    for batch in _batches(items):
        try:
            with associated(peer, _contexts(batch), calling_ae=calling_ae, timeouts=timeouts) as association:
                outcomes.update(
                    (item.path, _withheld(item, peer) if stopped() else _send_one(association, item, peer))
                    for item in batch
                )
        except (PeerError, PeerRefusedError) as error:
            if not any(outcome.status is not None for outcome in outcomes.values()):
                raise
            silent = isinstance(error, PeerError)
            for item in batch:
                outcomes[item.path] = _failed(item, "later" if silent else "final", str(error), silent=silent)
    return [outcomes[path] for path in paths]


def _item(path: Path) -> _Item:
    meta = read_file_meta_info(path)
    return _Item(path, meta.MediaStorageSOPInstanceUID, (meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID))


def _proposals(item: _Item) -> set[_Wanted]:
    """Returns a context for the file as it is, and one for what it can be rewritten to.

    Each has one transfer syntax, so that the peer says to which of them it agrees.
    """
    sop_class, syntax = item.wanted
    return {item.wanted, (sop_class, ImplicitVRLittleEndian)} if syntax in _REWRITABLE else {item.wanted}


def _batches(items: Sequence[_Item]) -> Iterator[list[_Item]]:
    """Yields the items in order, cut where their contexts would be too many for one association."""
    batch: list[_Item] = []
    proposals: set[_Wanted] = set()
    for item in items:
        if len(proposals | _proposals(item)) > _MAX_CONTEXTS:
            yield batch
            batch, proposals = [], set()
        batch.append(item)
        proposals |= _proposals(item)
    if batch:
        yield batch


def _contexts(batch: Sequence[_Item]) -> list[PresentationContext]:
    wanted = set().union(*(_proposals(item) for item in batch))
    return [build_context(sop_class, syntax) for sop_class, syntax in sorted(wanted)]


def _withheld(item: _Item, peer: Peer) -> SendOutcome:
    return replace(_failed(item, "later", f"{item.sop_uid} was not sent to {peer}: the sender stops."), withheld=True)


def _send_one(association: Association, item: _Item, peer: Peer) -> SendOutcome:
    if not association.is_established or has_ended(association):
        return _failed(item, "later", f"{peer} ended the association before {item.sop_uid} was sent.")
    accepted = {(context.abstract_syntax, context.transfer_syntax[0]) for context in association.accepted_contexts}
    sop_class, syntax = item.wanted
    if not _proposals(item) & accepted:
        reason = f"{peer} does not take {sop_class.name} in {syntax.name}; change its settings or send another syntax."
        return _failed(item, "final", reason)
    asked_at = time.monotonic()
    try:
        response = association.send_c_store(item.path if item.wanted in accepted else dcmread(item.path))
    except (InvalidDicomError, ValueError, AttributeError) as error:
        return _failed(item, "final", f"{item.path} cannot be sent to {peer} ({error}).")
    except RuntimeError:  # it ended since it was looked at
        return _ended(item, peer)
    except OSError as error:
        association.abort()  # part of the message may have gone out
        return _failed(item, "later", f"{item.path} could not be read while it was sent to {peer} ({error}).")
    if "Status" not in response:
        patience = association.dimse_timeout
        if has_ended(association) and (patience is None or time.monotonic() - asked_at < patience):
            return _ended(item, peer)
        association.abort()  # pynetdicom may have done so when the time for the answer was over
        return _failed(item, "later", f"{peer} did not answer when {item.sop_uid} was sent.", silent=True)
    comment = f" ({response.ErrorComment})" if response.get("ErrorComment") else ""
    return judged(item.path, item.sop_uid, int(response.Status), peer, comment)


def _ended(item: _Item, peer: Peer) -> SendOutcome:
    """Returns the outcome of an item during which the peer aborted or closed the association."""
    return _failed(item, "later", f"{peer} ended the association when {item.sop_uid} was sent.", silent=True)


def judged(path: Path, sop_uid: str, status: int, peer: object, comment: str = "") -> SendOutcome:
    """Returns what a peer's status means for an instance: PS3.4 table B.2-1 and the statuses of PS3.7 annex C.

    A duplicate is stored: UIDs of results derive from the work, so the peer has this very object from an earlier
    attempt, whose end the node did not live to note. `peer` and `comment` go into the message.
    """
    said = f"{peer} answered 0x{status:04X}{comment} to {sop_uid}."
    if status == _SUCCESS:
        return SendOutcome(path, sop_uid, status, "ok", None, f"{peer} stored {sop_uid}.")
    if status in STORED_BEFORE:
        return SendOutcome(path, sop_uid, status, "warning", None, f"{said} It was stored before.")
    if 0xB000 <= status <= 0xBFFF or status in _GENERAL_WARNINGS:
        return SendOutcome(path, sop_uid, status, "warning", None, f"{said} It is stored.")
    return refused(path, sop_uid, status, peer, comment)


def refused(path: Path, sop_uid: str, status: int, peer: object, comment: str = "") -> SendOutcome:
    """Returns the outcome of an instance that was not stored; its status says whether to try again later.

    Out of resources (0xA7xx), processing failure and resource limitation may pass; everything else is final.
    """
    said = f"{peer} answered 0x{status:04X}{comment} to {sop_uid}."
    if 0xA700 <= status <= 0xA7FF or status in _GENERAL_RECOVERABLE:
        return SendOutcome(path, sop_uid, status, "failed", "later", f"{said} Try again later.")
    return SendOutcome(path, sop_uid, status, "failed", "final", f"{said} The same object will be refused again.")


def _failed(item: _Item, retry: Literal["later", "final"], message: str, *, silent: bool = False) -> SendOutcome:
    """Returns the outcome of an item to which there was no response."""
    return SendOutcome(item.path, item.sop_uid, None, "failed", retry, message, silent)

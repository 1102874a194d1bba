"""STOW-RS user agent: sends files to a DICOMweb service, returns what it said to every instance (PS3.18 section 10.5).

The files go out in one request as they lie on the disk, without being decoded or held in memory. (dicomweb-client would
decode and encode each one anew, and throw away the answer when the service refuses a part.) What a service says of an
instance becomes the same SendOutcome as a status of C-STORE (see `dicom_node.scu.c_store`).
"""

import io
import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import requests
from pydicom.dataset import Dataset
from pydicom.filereader import read_file_meta_info

from dicom_node.errors import PeerError, PeerRefusedError
from dicom_node.scu.association import DEFAULT_TIMEOUTS, Timeouts
from dicom_node.scu.c_store import STORED_BEFORE, SendOutcome, judged, refused

_JSON: Final = "application/dicom+json"
_PART: Final = b"--%b\r\nContent-Type: application/dicom\r\n\r\n"

_STORED: Final = 0x0000
_PROCESSING_FAILURE: Final = 0x0110

# Statuses of PS3.18 table 10.5.3-1 with a body that says what became of each instance.
_ANSWERS: Final = (200, 202, 409)
_BUSY: Final = (408, 429)


@dataclass(frozen=True)
class _InstanceAnswer:
    """What the service says of one instance that it names."""

    stored: bool
    status: int  # its warning or failure reason, PS3.18 section I.2; 0 without one


@dataclass(frozen=True)
class WebPeer:
    """A DICOMweb service elsewhere; give a `token`, or `user` and `password`, or none of them."""

    url: str  # what /studies is added to
    token: str | None = field(default=None, repr=False)  # sent as bearer token (RFC 6750)
    user: str | None = None
    password: str = field(default="", repr=False)
    authorities: Path | None = None  # who signs its certificate (PEM); None: those that everybody trusts

    def __str__(self) -> str:
        return self.url


def send_to_web(paths: Sequence[Path], peer: WebPeer, *, timeouts: Timeouts = DEFAULT_TIMEOUTS) -> list[SendOutcome]:
    """Sends DICOM files to `peer` in one request; returns one outcome per path, in order.

    The files must be DICOM files (PS3.10); they are read while they are sent. Redirects are not followed. `timeouts`
    gives the seconds for the connection and for the answer.

    Raises:
        PeerError: when the service does not answer, is busy, or does not let this node in (401, 403).
        PeerRefusedError: when the service refuses the request as such, or redirects it.
    """
    body = _Body(paths)
    headers = {
        "Accept": _JSON,
        "Content-Type": f'multipart/related; type="application/dicom"; boundary={body.boundary}',
    }
    if peer.token is not None:
        headers["Authorization"] = f"Bearer {peer.token}"
    try:
        with body, requests.Session() as session:
            session.trust_env = False  # no password of another service from a .netrc
            response = session.post(
                f"{peer.url.rstrip('/')}/studies",
                data=body,
                headers=headers,
                auth=(peer.user, peer.password) if peer.user is not None else None,
                timeout=(timeouts.connect, timeouts.response),
                verify=str(peer.authorities) if peer.authorities else True,
                allow_redirects=False,  # a POST that follows one becomes a GET
            )
    except requests.exceptions.SSLError as error:
        raise PeerError(f"{peer} cannot be reached: TLS fails ({_cause(error)}); check its certificate.") from error
    except requests.RequestException as error:
        raise PeerError(f"{peer} does not answer ({_cause(error)}); check the URL, and that it runs.") from error
    if response.status_code not in _ANSWERS:
        raise _refusal(response, peer)
    said = _said(response)
    return [_outcome(path, response.status_code, said, peer) for path in paths]


class _Body(io.RawIOBase):
    """A multipart/related message of files (RFC 2387), read from the disk as it is sent; its length is known before."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.boundary = uuid.uuid4().hex
        self._parts: list[bytes | Path] = []
        for path in paths:
            self._parts += [_PART % self.boundary.encode(), path, b"\r\n"]
        self._parts.append(b"--%b--\r\n" % self.boundary.encode())
        self._length = sum(len(part) if isinstance(part, bytes) else part.stat().st_size for part in self._parts)
        self._open: io.BufferedIOBase | None = None
        self._read = 0

    def __len__(self) -> int:
        return self._length

    def tell(self) -> int:
        return self._read

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        """Fills `buffer` with the next bytes; returns their number, 0 at the end."""
        while self._open or self._parts:
            if self._open is None:
                part = self._parts.pop(0)
                self._open = io.BytesIO(part) if isinstance(part, bytes) else part.open("rb")
            if count := self._open.readinto(buffer):
                self._read += count
                return count
            self._open.close()
            self._open = None
        return 0

    def close(self) -> None:
        if self._open:
            self._open.close()
        super().close()


def _refusal(response: requests.Response, peer: WebPeer) -> PeerError | PeerRefusedError:
    status = response.status_code
    said = f"{peer} answered {status} {response.reason}"
    if status in (401, 403):
        return PeerError(f"{said}; check its token or password in the settings, and what it is allowed to do.")
    if status >= 500 or status in _BUSY:
        return PeerError(f"{said}; try again later.")
    if 300 <= status < 400:
        return PeerRefusedError(f"{said} to {response.headers.get('Location', 'nowhere')}; set that address.")
    return PeerRefusedError(f"{said}; check that its URL is that of a DICOMweb service which takes STOW-RS.")


def _said(response: requests.Response) -> Mapping[str, _InstanceAnswer] | None:
    """Reads what the response says of every instance that it names, by SOP Instance UID; None when it names none."""
    said: dict[str, _InstanceAnswer] = {}
    try:
        content = Dataset.from_json(json.loads(response.content))
        for item in content.get("ReferencedSOPSequence") or []:
            said[str(item.ReferencedSOPInstanceUID)] = _InstanceAnswer(True, int(item.get("WarningReason") or _STORED))
        for item in content.get("FailedSOPSequence") or []:
            reason = int(item.get("FailureReason") or _PROCESSING_FAILURE)
            said[str(item.ReferencedSOPInstanceUID)] = _InstanceAnswer(reason in STORED_BEFORE, reason)
    except (ValueError, TypeError, KeyError, AttributeError):  # no JSON, or no data set of the standard in it
        return None
    return said or None


def _outcome(path: Path, http_status: int, said: Mapping[str, _InstanceAnswer] | None, peer: WebPeer) -> SendOutcome:
    sop_uid = str(read_file_meta_info(path).MediaStorageSOPInstanceUID)
    if said is None and http_status == 200:
        return judged(path, sop_uid, _STORED, peer)
    if said is None or sop_uid not in said:
        message = f"{peer} answered {http_status} and did not say what became of {sop_uid}."
        return SendOutcome(path, sop_uid, None, "failed", "later", message)
    answer = said[sop_uid]
    return (judged if answer.stored else refused)(path, sop_uid, answer.status, peer)


def _cause(error: BaseException) -> str:
    """Returns the innermost reason of an error of requests, without the wrapping of its libraries."""
    for inner in (getattr(error, "reason", None), *error.args):
        if isinstance(inner, BaseException):
            return _cause(inner)
    return str(error)

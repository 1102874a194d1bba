"""STOW-RS in (PS3.18 section 10.5): the same way into the store as C-STORE, with the same guarantees.

    POST /studies            multipart/related; type="application/dicom"
    POST /studies/STUDY      the same, and every instance must belong to that study
    Authorization: Bearer TOKEN

answers 200 when every instance is durable, 202 when some are, 409 when none is, each with a line of JSON per instance;
400 and 415 for a request of another kind, 401 without the token, 403 from an address that may not send. An instance is
durable, and the ledger has heard of it, before the next one of the request is looked at; a request that breaks off
keeps what had come to its end, as an association does.
"""

import logging
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, Response
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian
from starlette.requests import ClientDisconnect

from dicom_node.origin import Origin
from dicom_node.scp.access import Access
from dicom_node.scp.reception import Announced, Reception, RefusedError, StoreStatus
from dicom_node.scp.sessions import Session, Sessions
from dicom_node.scp.web_parts import Parts, WebRequestError
from dicom_node.store import Store
from dicom_node.uids import is_uid

CALLING_AE = "STOW-RS"
"""What stands for the calling AE title of who sends by DICOMweb."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Instance:
    """What became of one part of a request; without UIDs when it was not understood."""

    sop_class_uid: str
    sop_uid: str
    status: StoreStatus


def stow_api(
    store: Store, sessions: Sessions, *, ae_title: str, token: str, access: Access, required_bytes: int
) -> FastAPI:
    """The HTTP interface; `required_bytes` is the room that must be left on the disk."""
    api = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)

    async def take(request: Request, study_uid: str = "") -> Response:
        address = request.client.host if request.client else ""
        if not secrets.compare_digest(request.headers.get("authorization", "").encode(), f"Bearer {token}".encode()):
            return _problem(401, "the token is missing or wrong; send Authorization: Bearer TOKEN")
        if address and not access.allows(address):
            return _problem(403, "this address may not send")
        session = sessions.begin()
        stow = Stow(store, session, Origin(CALLING_AE, ae_title, address), study_uid, required_bytes)
        try:
            parts = Parts(request.headers.get("content-type", ""), stow.begin)
        except WebRequestError as error:
            return _problem(415, str(error))
        complete = False
        try:
            async for content in request.stream():
                await run_in_threadpool(parts.write, content)
            complete = True
        except WebRequestError as error:
            return _problem(400, str(error))
        except ClientDisconnect:
            _log.warning("a STOW-RS request from %s broke off after %d instances", address, len(stow.instances))
        finally:
            await run_in_threadpool(_end, parts, session, aborted=not complete)
        return stow_response(stow.instances)

    @api.post("/studies")
    async def any_study(request: Request) -> Response:
        return await take(request)

    @api.post("/studies/{study_uid}")
    async def one_study(request: Request, study_uid: str) -> Response:
        return await take(request, study_uid) if is_uid(study_uid) else _problem(400, "the study is no UID")

    return api


@dataclass
class Stow:
    """One request: its session, and what became of its parts."""

    store: Store
    session: Session
    origin: Origin
    study_uid: str  # that all instances must belong to; "" for any
    required_bytes: int
    instances: list[Instance] = field(default_factory=list)

    def begin(self, meta: FileMetaDataset | None) -> "_Part":
        """Begin to receive a file."""
        known = meta if meta is not None else FileMetaDataset()
        announced = Announced(
            sop_class_uid=str(known.get("MediaStorageSOPClassUID", "")),
            sop_uid=str(known.get("MediaStorageSOPInstanceUID", "")),
            transfer_syntax=UID(str(known.get("TransferSyntaxUID", ExplicitVRLittleEndian))),
            origin=self.origin,
            study_uid=self.study_uid,
        )
        reception = Reception(announced, self.store, self.required_bytes)
        return _Part(self, reception, partial(Instance, announced.sop_class_uid, announced.sop_uid))


@dataclass
class _Part:
    """See `dicom_node.scp.web_parts.Part`."""

    stow: Stow
    reception: Reception
    instance: Any  # makes an Instance of a status

    def write(self, content: bytes) -> None:
        self.reception.write(content)

    def finish(self) -> None:
        self.stow.instances.append(self.instance(self._status()))

    def _status(self) -> StoreStatus:
        """The door of STOW-RS: whatever happens becomes a status."""
        try:
            header, receipt = self.reception.finish()
            self.stow.session.arrived(header, receipt, self.stow.origin)
        except RefusedError as refusal:
            return refusal.status
        except Exception:  # noqa: BLE001 (a door)
            _log.exception("an instance by STOW-RS was not taken")
            return StoreStatus.OUT_OF_RESOURCES
        return StoreStatus.SUCCESS

    def discard(self) -> None:
        self.reception.discard()


def stow_response(instances: Sequence[Instance]) -> Response:
    """The answer of PS3.18 section 10.5.3; status by table 10.5.3-1."""
    answer = Dataset()
    answer.RetrieveURL = ""
    stored = [_item(one) for one in instances if one.status is StoreStatus.SUCCESS]
    failed = [_item(one) for one in instances if one.status is not StoreStatus.SUCCESS]
    unknown = [item for item in failed if "ReferencedSOPInstanceUID" not in item]
    named = [item for item in failed if "ReferencedSOPInstanceUID" in item]
    for keyword, items in (
        ("ReferencedSOPSequence", stored),
        ("FailedSOPSequence", named),
        ("OtherFailuresSequence", unknown),
    ):
        if items:
            setattr(answer, keyword, items)
    status = 200 if stored and not failed else 202 if stored else 409
    return Response(answer.to_json(), status, media_type="application/dicom+json")


def _item(instance: Instance) -> Dataset:
    item = Dataset()
    if is_uid(instance.sop_uid):
        item.ReferencedSOPClassUID = instance.sop_class_uid
        item.ReferencedSOPInstanceUID = instance.sop_uid
    if instance.status is StoreStatus.SUCCESS:
        item.RetrieveURL = ""
    else:
        item.FailureReason = int(instance.status)
    return item


def _end(parts: Parts, session: Session, *, aborted: bool) -> None:
    parts.discard()
    session.end(aborted=aborted)


def _problem(status: int, sentence: str) -> JSONResponse:
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else None
    return JSONResponse({"problem": sentence}, status_code=status, headers=headers)

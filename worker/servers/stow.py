"""The routes of STOW-RS (PS3.18 section 10.5), the web side of the listener.

    POST /studies            multipart/related; type="application/dicom"
    POST /studies/STUDY      the same, and every instance must belong to that study

answers 200 when every instance is durable, 202 when some are, 409 when none is, each with a line of DICOM JSON per
instance; 400 and 415 for a request of another kind.
"""

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from dicom_node.origin import Origin
from dicom_node.scp.sessions import Sessions
from dicom_node.scp.stow import CALLING_AE, StowRequest
from dicom_node.scp.web_parts import WebRequestError
from dicom_node.store import Store
from dicom_node.uids import is_uid
from worker.logs import get_logger

log = get_logger(__name__)


def stow_routes(store: Store, sessions: Sessions, *, ae_title: str, required_bytes: int) -> APIRouter:
    """Returns the routes.

    Instances arrive as from a C-STORE: stored, and noted in the ledger before the answer. The body is written to the
    disk as it comes, so its length needs no limit. `ae_title` is the called AE title that conditions see;
    `required_bytes` is the room that must be left on the disk.
    """
    router = APIRouter()

    async def take(request: Request, study_uid: str = "") -> Response:
        address = request.client.host if request.client else ""
        if request.headers.get("content-encoding", "identity").lower() != "identity":
            raise HTTPException(415, "the body is compressed; send it without Content-Encoding")
        try:
            stow = StowRequest(
                store,
                sessions,
                Origin(CALLING_AE, ae_title, address),
                content_type=request.headers.get("content-type", ""),
                required_bytes=required_bytes,
                study_uid=study_uid,
            )
        except WebRequestError as error:
            raise HTTPException(415, str(error)) from None
        complete = False
        try:
            async for content in request.stream():
                await run_in_threadpool(stow.write, content)
            stow.complete()
            complete = True
        except WebRequestError as error:
            raise HTTPException(400, str(error)) from None
        except ClientDisconnect:
            log.warning("stow_request_cut_off", address=address, instances=len(stow.instances))
        finally:
            await run_in_threadpool(stow.end, aborted=not complete)
        status, answer = stow.answer()
        return Response(answer, status, media_type="application/dicom+json")

    @router.post("/studies")
    @router.post("/studies/")
    async def any_study(request: Request) -> Response:
        return await take(request)

    @router.post("/studies/{study_uid}")
    async def one_study(request: Request, study_uid: str) -> Response:
        if not is_uid(study_uid):
            raise HTTPException(400, "the study of the address is no UID; give its Study Instance UID")
        return await take(request, study_uid)

    return router

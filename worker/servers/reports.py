"""Reports over HTTP: the route into the report inbox.

    POST /reports?study=UID&accession=NUMBER   a report as the body: text, FHIR DiagnosticReport, HL7 v2 ORU, DICOM SR

answers 201 when it is on the disk and in the ledger, 400 when it is no report or names no study, 413 when it is too
large, 503 when it could not be kept and may be sent again. `study` and `accession` win over what the report says; a
plain text needs one of them.
"""

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from worker.errors import LedgerError
from worker.logs import get_logger
from worker.report_language import ReportError, ReportTooLargeError
from worker.reports.inbox import ReportInbox

log = get_logger(__name__)


def report_routes(inbox: ReportInbox) -> APIRouter:
    """Returns the route. The body is held in memory, so the port must limit its bytes."""
    router = APIRouter()

    @router.post("/reports")
    async def receive(request: Request, study: str = "", accession: str = "") -> JSONResponse:
        content = await request.body()
        try:
            digest = await run_in_threadpool(inbox.take, content, source="http", study_uid=study, accession=accession)
        except ReportTooLargeError as error:
            raise HTTPException(413, str(error)) from None
        except ReportError as error:
            raise HTTPException(400, str(error)) from None
        except (OSError, LedgerError) as error:
            log.error("report_not_kept", problem=type(error).__name__)
            raise HTTPException(503, "the report could not be kept; send it again later") from None
        return JSONResponse({"report": digest}, status_code=201)

    return router

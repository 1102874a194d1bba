"""Where reports reach the node besides C-STORE: HL7 v2 over MLLP, and HTTP.

    POST /reports?study=UID&accession=NUMBER   a report as the body: text, FHIR DiagnosticReport, HL7 v2 ORU, DICOM SR
    Authorization: Bearer TOKEN

answers 201 when it is on the disk and in the ledger, 400 when it is no report or names no study, 401 without the
token, 413 when it is too large, 503 when it could not be kept and may be sent again. `study` and `accession` win over
what the report says; a plain text needs one of them.
"""

import secrets
import ssl
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import structlog
from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse

from dicom_node.scp.web_server import served
from worker.errors import LedgerError, SettingsError
from worker.report_language import ReportError, ReportTooLargeError
from worker.report_language.formats.read import MAX_BYTES
from worker.reports.inbox import ReportInbox
from worker.servers.mllp import ReportReceiver
from worker.settings import Settings

log = structlog.get_logger(__name__)

_MOST_REQUESTS = 16  # at one time; each holds at most MAX_BYTES


@contextmanager
def receiving_reports(settings: Settings, inbox: ReportInbox, tls: ssl.SSLContext | None = None) -> Iterator[None]:
    """Receives reports on the ports that the settings name, until the block ends.

    Raises:
        ReceiverError, ListenerError: a port cannot be used. SettingsError: the token's file cannot be read.
    """
    shared = settings.share_port or settings.listeners > 1
    with ExitStack() as running:
        if settings.hl7_port is not None:

            def take(content: bytes) -> None:
                inbox.take(content, source="hl7")

            receiver = ReportReceiver(take, host=settings.host, port=settings.hl7_port, tls=tls, share_port=shared)
            running.enter_context(receiver)
            log.info("receiving reports", by="hl7", host=settings.host, port=receiver.port)
        if settings.reports_http_port is not None:
            api = report_api(inbox, _token(settings.reports_token_file))
            server = served(
                api,
                host=settings.host,
                port=settings.reports_http_port,
                share_port=shared,
                tls=tls,
                requests=_MOST_REQUESTS,
                name="reports-http",
            )
            log.info("receiving reports", by="http", host=settings.host, port=running.enter_context(server))
        yield


def report_api(inbox: ReportInbox, token: str) -> FastAPI:
    """The HTTP interface; nothing but the one path, no pages about it."""
    api = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)

    @api.post("/reports")
    async def receive(request: Request, study: str = "", accession: str = "") -> JSONResponse:
        if not secrets.compare_digest(request.headers.get("authorization", "").encode(), f"Bearer {token}".encode()):
            return _problem(401, "the token is missing or wrong; send Authorization: Bearer TOKEN")
        content = await _body(request)
        if content is None:
            return _problem(413, f"at most {MAX_BYTES} bytes are read; send the report alone")
        try:
            digest = await run_in_threadpool(inbox.take, content, source="http", study_uid=study, accession=accession)
        except ReportTooLargeError as error:
            return _problem(413, str(error))
        except ReportError as error:
            return _problem(400, str(error))
        except (OSError, LedgerError) as error:
            log.error("report not kept", problem=type(error).__name__)
            return _problem(503, "the report could not be kept; send it again later")
        return JSONResponse({"report": digest}, status_code=201)

    return api


async def _body(request: Request) -> bytes | None:
    """The body, or None as soon as it is longer than a report can be."""
    content = bytearray()
    async for part in request.stream():
        content += part
        if len(content) > MAX_BYTES:
            return None
    return bytes(content)


def _problem(status: int, sentence: str) -> JSONResponse:
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else None
    return JSONResponse({"problem": sentence}, status_code=status, headers=headers)


def _token(path: Path | None) -> str:
    try:
        token = path.read_text("utf-8").strip() if path else ""
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} cannot be read ({error}); VOXTELL_REPORTS_TOKEN_FILE names it") from None
    if not token:
        raise SettingsError(
            "reports over HTTP need a token; put one into a file and name it in VOXTELL_REPORTS_TOKEN_FILE"
        )
    return token

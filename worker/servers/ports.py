"""The servers besides DICOM: STOW-RS in the listener's process, reports in `receive-reports`.

| setting | serves |
|---|---|
| VOXTELL_HL7_PORT | reports as HL7 v2 over MLLP |
| VOXTELL_REPORTS_HTTP_PORT | POST /reports |
| VOXTELL_STOW_PORT | STOW-RS |

Every HTTP route of the node is put on its port here.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from dicom_node.scp.sessions import Sessions
from dicom_node.store import Store
from worker.logs import get_logger
from worker.report_language.formats.report_file import MAX_BYTES
from worker.reports.inbox import ReportInbox
from worker.servers.http import access_of, serving, share_of_one, token_of
from worker.servers.http_guard import HttpLimits
from worker.servers.mllp import ReportReceiver
from worker.servers.reports import report_routes
from worker.servers.stow import stow_routes
from worker.servers.tls import listener_tls
from worker.settings import Settings

log = get_logger(__name__)


@contextmanager
def serving_reports(settings: Settings, inbox: ReportInbox) -> Iterator[None]:
    """Runs the servers for reports whose ports the settings name, until the block ends.

    Raises:
        ReceiverError: when the port for HL7 cannot be used.
        ListenerError: when the port for reports over HTTP cannot be used.
        SettingsError: when a token's file cannot be read.
        TlsError: when a certificate cannot be used.
    """
    with ExitStack() as running:
        if settings.hl7_port is not None:
            running.enter_context(_receiving_hl7(settings, inbox))
        if settings.reports_http_port is not None:
            server = serving(
                {"reports": report_routes(inbox)},
                settings,
                port=settings.reports_http_port,
                token=token_of(settings, "reports_token_file", "reports over HTTP"),
                limits=HttpLimits(body_bytes=MAX_BYTES),
            )
            running.enter_context(server)
        yield


@contextmanager
def serving_stow(settings: Settings, store: Store, sessions: Sessions) -> Iterator[None]:
    """Runs the server for STOW-RS, if the settings name its port, until the block ends.

    It runs in the listener's process: the two share what they know of open series.

    Raises:
        ListenerError: when the port cannot be used.
        SettingsError: when the token's file cannot be read.
        TlsError: when a certificate cannot be used.
    """
    if settings.stow_port is None:
        yield
        return
    routes = stow_routes(store, sessions, ae_title=settings.ae_title, required_bytes=settings.min_free_bytes)
    token = token_of(settings, "stow_token_file", "STOW-RS")
    limits = HttpLimits.of(settings.max_associations)
    with serving({"stow": routes}, settings, port=settings.stow_port, token=token, limits=limits):
        yield


@contextmanager
def _receiving_hl7(settings: Settings, inbox: ReportInbox) -> Iterator[None]:
    """Receives reports as HL7 until the block ends."""

    def take(content: bytes) -> None:
        inbox.take(content, source="hl7")

    with ReportReceiver(
        take,
        host=settings.host,
        port=settings.hl7_port or 0,
        tls=listener_tls(settings),
        share_port=settings.share_port or settings.listeners > 1,
        access=access_of(settings),
        connections=settings.hl7_max_connections,
        per_address=share_of_one(settings.hl7_max_connections, settings),
    ) as receiver:
        log.info("mllp_listening", host=settings.host, port=receiver.port)
        yield

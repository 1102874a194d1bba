"""STOW-RS in, behind a setting: the web side of the listener, with its own port and token."""

from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from dicom_node.scp.access import Access
from dicom_node.scp.sessions import Sessions
from dicom_node.scp.stow_server import stow_api
from dicom_node.scp.web_server import served
from dicom_node.store import Store
from worker.destinations import listener_tls
from worker.errors import SettingsError
from worker.settings import Settings

log = structlog.get_logger(__name__)


@contextmanager
def receiving_by_web(settings: Settings, store: Store, sessions: Sessions) -> Iterator[None]:
    """Receives instances by STOW-RS on the port that the settings name, until the block ends.

    Raises:
        ListenerError: the port is in use. SettingsError: there is no token. TlsError: a certificate cannot be used.
    """
    access = Access(networks=settings.allowed_addresses)
    access.check()
    api = stow_api(
        store,
        sessions,
        ae_title=settings.ae_title,
        token=_token(settings),
        access=access,
        required_bytes=settings.min_free_bytes,
    )
    with served(
        api,
        host=settings.host,
        port=settings.stow_port or 0,
        share_port=settings.share_port or settings.listeners > 1,
        tls=listener_tls(settings),
        requests=settings.max_associations,
        name="stow",
    ) as port:
        log.info("receiving by STOW-RS", host=settings.host, port=port)
        yield


def _token(settings: Settings) -> str:
    path = settings.stow_token_file
    try:
        token = path.read_text("utf-8").strip() if path else ""
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} cannot be read ({error}); VOXTELL_STOW_TOKEN_FILE names it") from None
    if not token:
        raise SettingsError("STOW-RS needs a token; put one into a file and name it in VOXTELL_STOW_TOKEN_FILE")
    return token

"""The one HTTP front of the node: whatever the node serves over HTTP stands behind it.

```
client -> http_connection   time limits, number of connections, TLS (uvicorn)
       -> http_guard        address, token, number of requests, bytes; one log line per request
       -> the route         a FastAPI router, or any ASGI application
       <- http_problems     every error as problem details (RFC 9457)
```

A route does none of this: it raises `HTTPException(status, "one sentence")` for what it refuses, and is put on a port
in `worker.servers.ports`.

Each port has a thread with an asyncio loop. Routes that block do so in `run_in_threadpool`.
"""

import contextlib
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import uvicorn
from fastapi import APIRouter, FastAPI
from starlette.types import ASGIApp

from dicom_node.admission import ConnectionAdmission
from dicom_node.errors import ListenerError
from dicom_node.scp.access import Access
from worker.errors import SettingsError
from worker.logs import get_logger
from worker.servers.door import WORDS, GuardedSocket
from worker.servers.http_connection import HttpConnection
from worker.servers.http_guard import HttpGuard, HttpLimits
from worker.servers.http_problems import answer_with_problems
from worker.servers.tls import listener_tls
from worker.settings import PREFIX, Settings

log = get_logger(__name__)

_START_SECONDS: Final = 10.0
_STOP_SECONDS: Final = 10.0
_STRANGERS: Final = 4  # connections from addresses that are not allowed, at one time: they are told so
_LAST_ANSWERS_SECONDS: Final = 5  # within _STOP_SECONDS: for requests that are being answered when the node stops


@contextlib.contextmanager
def serving(
    routes: Mapping[str, APIRouter | ASGIApp], settings: Settings, *, port: int, token: str, limits: HttpLimits
) -> Iterator[int]:
    """Serves routes on a port of their own until the block ends; yields the port, which is a free one if `port` is 0.

    Address, TLS, port sharing and allowed addresses are those of the settings. At the end requests that are being
    answered have five seconds.

    Args:
        routes: by name; the name of an application that is no router is its path.
        token: the bearer token that every request must give.
        limits: what the port lends to its clients.

    Raises:
        ListenerError: when the port cannot be used.
        SettingsError: when an allowed address is not an address or network.
        TlsError: when a certificate cannot be used.
    """
    admission = ConnectionAdmission(
        access_of(settings).allows,
        connections=limits.connections,
        per_address=share_of_one(limits.connections, settings),
        spare=WORDS,
        strangers=_STRANGERS,
    )
    application = front(routes, settings, token=token, limits=limits)
    server = uvicorn.Server(_config(application, settings, limits, admission))
    with _listening(settings, port, admission, name="+".join(routes)) as listening:
        bound = int(listening.getsockname()[1])
        thread = threading.Thread(
            target=server.run, kwargs={"sockets": [listening]}, name=f"http:{'+'.join(routes)}", daemon=True
        )
        thread.start()
        deadline = time.monotonic() + _START_SECONDS
        while not server.started:
            if not thread.is_alive() or time.monotonic() > deadline:
                raise ListenerError(f"the HTTP server on {settings.host}:{bound} did not start.")
            time.sleep(0.01)
        log.info("http_listening", routes=list(routes), host=settings.host, port=bound)
        try:
            yield bound
        finally:
            server.should_exit = True
            thread.join(_STOP_SECONDS)


def front(
    routes: Mapping[str, APIRouter | ASGIApp], settings: Settings, *, token: str, limits: HttpLimits
) -> HttpGuard:
    """Makes the ASGI application of a port: a router brings its own paths, another application lies below `/NAME`.

    Raises:
        SettingsError: when an allowed address is not an address or network.
    """
    api = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    answer_with_problems(api)
    for name, route in routes.items():
        if isinstance(route, APIRouter):
            api.include_router(route)
        else:
            api.mount(f"/{name}", route)
    return HttpGuard(api, token=token, access=access_of(settings), limits=limits)


def access_of(settings: Settings) -> Access:
    """Returns which addresses may connect to the ports beside the DICOM listener: those that may send by DICOM.

    Raises:
        SettingsError: when an allowed address is not an address or network.
    """
    access = Access(networks=settings.allowed_addresses)
    try:
        access.check()
    except ValueError as error:
        raise SettingsError(f"{PREFIX}ALLOWED_ADDRESSES: {error}; give addresses or networks") from None
    return access


def share_of_one(connections: int, settings: Settings) -> int:
    """Returns how many of a port's connections one address may hold."""
    return settings.max_connections_per_address or connections - connections // 5


def token_of(settings: Settings, setting: str, what: str) -> str:
    """Reads the bearer token from the file that a setting names; `what` says in the error what the port is for.

    Raises:
        SettingsError: when no file is named, it cannot be read, or it is empty.
    """
    path: Path | None = getattr(settings, setting)
    variable = PREFIX + setting.upper()
    try:
        token = path.read_text("utf-8").strip() if path else ""
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} cannot be read ({error}); {variable} names it") from None
    if not token:
        raise SettingsError(f"the port for {what} needs a token; put one into a file and name it in {variable}")
    return token


def _config(
    application: HttpGuard, settings: Settings, limits: HttpLimits, admission: ConnectionAdmission
) -> uvicorn.Config:
    """Returns uvicorn's configuration: no logs of its own, no trust in proxy headers, our connection class."""
    tls = listener_tls(settings)
    return uvicorn.Config(
        application,
        loop="asyncio",
        http=HttpConnection.of(limits, admission),
        ws="none",
        lifespan="off",
        proxy_headers=False,  # or anybody on this machine could give any address
        server_header=False,
        log_config=None,
        log_level="critical",  # guard and connection tell what goes wrong, in the words of the node's log
        access_log=False,  # it names paths and queries, which may name patients
        h11_max_incomplete_event_size=limits.header_bytes,
        timeout_keep_alive=limits.keep_alive_seconds,
        timeout_graceful_shutdown=_LAST_ANSWERS_SECONDS,
        ssl_context_factory=None if tls is None else lambda _config, _default: tls,
    )


def _listening(settings: Settings, port: int, admission: ConnectionAdmission, *, name: str) -> GuardedSocket:
    """Opens the listening socket, one of several on the port where the settings say so (SO_REUSEPORT)."""
    shared = settings.share_port or settings.listeners > 1
    try:
        return GuardedSocket.listening(settings.host, port, admission, name=name, shared=shared)
    except OSError as error:
        raise ListenerError(
            f"Port {port} on {settings.host} cannot be listened on ({error.strerror}); "
            "stop the program that uses it or set another host and port."
        ) from error

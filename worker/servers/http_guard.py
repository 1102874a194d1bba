"""The guard of an HTTP port: judges every request before its route sees it, and logs it afterwards.

| refused | status |
|---|---|
| address not among VOXTELL_ALLOWED_ADDRESSES | 403 |
| token missing or wrong | 401 |
| body longer than the port's limit, announced or sent | 413 |
| too many requests at one time | 503, with Retry-After |
| no byte of the body for `idle_seconds` | 408 |

One `HttpGuard` stands before all routes of a port. It runs in the asyncio loop of that port's thread, so its counters
need no lock.
"""

import asyncio
import secrets
import sys
import time
from dataclasses import dataclass
from typing import Any, Final

from fastapi.responses import Response
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dicom_node.scp.access import Access
from worker.logs import get_logger
from worker.servers.http_problems import problem

log = get_logger(__name__)

_SPARE_CONNECTIONS: Final = 8  # for those that ask nothing, such as checks of the port


@dataclass(frozen=True)
class HttpLimits:
    """The limits of one HTTP port, which keep clients from taking its memory, threads and connections."""

    requests: int = 16  # answered at one time; more are answered 503
    connections: int = 40  # at one time: more than twice the requests, since it takes one to refuse a request in words
    body_bytes: int | None = None  # longest body; None where the route bounds what it keeps
    header_bytes: int = 16384
    header_seconds: float = 30.0  # from the connection, or from the last answer, to the end of a request's header
    idle_seconds: float = 60.0  # without a byte of a body that was announced, or without one of the answer being read
    keep_alive_seconds: int = 5  # a connection without a request is closed after so long

    @classmethod
    def of(cls, requests: int, **limits: Any) -> "HttpLimits":
        """Returns limits with as many connections as so many requests take."""
        return cls(requests, 2 * requests + _SPARE_CONNECTIONS, **limits)


class HttpGuard:
    """ASGI middleware: refuses by address, load, token and size; writes one line of the log for each request."""

    def __init__(self, app: ASGIApp, *, token: str, access: Access, limits: HttpLimits) -> None:
        self._app, self._token, self._access, self._limits = app, token.encode(), access, limits
        self._answering = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request, or refuses it, and writes its line of the log."""
        if scope["type"] != "http":
            return  # neither websockets nor a lifespan: uvicorn is told so, too
        exchange = _Exchange(receive, send, self._limits)
        started = time.monotonic()
        try:
            refusal = self._refusal(scope)
            if refusal is not None:
                await refusal(scope, exchange.receive, exchange.send)
            else:
                await self._answer(scope, exchange)
        finally:
            _tell(scope, exchange, time.monotonic() - started, sys.exception())

    async def _answer(self, scope: Scope, exchange: "_Exchange") -> None:
        """Passes a request on to its route, and counts it meanwhile."""
        self._answering += 1
        try:
            await self._app(scope, exchange.receive, exchange.send)
        finally:
            self._answering -= 1

    def _refusal(self, scope: Scope) -> Response | None:
        """Answers a request that no route is to see, by its header alone; None for one that may pass."""
        headers = Headers(scope=scope)
        longest = self._limits.body_bytes
        if not self._allows_address(scope):
            return problem(403, "this address may not send; VOXTELL_ALLOWED_ADDRESSES of the node names those that may")
        if not self._has_token(headers):
            sentence = "the token is missing or wrong; send Authorization: Bearer TOKEN"
            return problem(401, sentence, {"WWW-Authenticate": "Bearer"})
        if longest is not None and _announced_bytes(headers) > longest:
            return _too_large(longest)
        if self._answering >= self._limits.requests:
            sentence = f"{self._answering} requests are being answered; send it again later"
            return problem(503, sentence, {"Retry-After": "1"})
        return None

    def _allows_address(self, scope: Scope) -> bool:
        """Whether the address may send, by the rule of the DICOM listener; a client that is already gone has none."""
        client = scope.get("client")
        return self._access.allows(client[0]) if client else not self._access.networks

    def _has_token(self, headers: Headers) -> bool:
        """Whether the request bears the token; compared in constant time."""
        scheme, _, given = headers.get("authorization", "").partition(" ")
        return secrets.compare_digest(given.strip().encode(), self._token) and scheme.lower() == "bearer"


class _Exchange:
    """The messages of one request and its answer: keeps the limits, and remembers what the log says of it."""

    def __init__(self, receive: Receive, send: Send, limits: HttpLimits) -> None:
        self._receive, self._send, self._limits = receive, send, limits
        self._all_here = False
        self.received_bytes = 0
        self.status: int | None = None
        self.cut_off = False  # the client left before it had its answer

    async def receive(self) -> Message:
        """Returns the next part of the body.

        Raises:
            HTTPException: when the body is too long (413), or no byte of it comes in time (408).
        """
        if self._all_here:
            return await self._receive()  # waits for the client to leave, which may take its time
        try:
            async with asyncio.timeout(self._limits.idle_seconds):
                message = await self._receive()
        except TimeoutError:
            sentence = f"no byte of the body came for {self._limits.idle_seconds:g} s; send it again"
            raise HTTPException(408, sentence, {"Connection": "close"}) from None
        self.cut_off = message["type"] == "http.disconnect" and self.status is None
        self._all_here = not message.get("more_body", False)
        self.received_bytes += len(message.get("body", b""))
        longest = self._limits.body_bytes
        if longest is not None and self.received_bytes > longest:
            # Not by FastAPI's max_body_size, which answers in plain text where Content-Length announces the length.
            raise HTTPException(413, _longest(longest))
        return message

    async def send(self, message: Message) -> None:
        """Passes a part of the answer on."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
        await self._send(message)


def _announced_bytes(headers: Headers) -> int:
    """Returns the length of the body by its Content-Length; 0 where that is missing or no number."""
    length = headers.get("content-length", "")
    return int(length[:20]) if length.isdecimal() else 0  # int() takes no thousands of digits


def _too_large(longest: int) -> Response:
    """Makes the answer to a body that is announced as too long."""
    return problem(413, _longest(longest))


def _longest(longest: int) -> str:
    """Makes the sentence for a body that is too long."""
    return f"the body is longer than {longest} bytes, and at most these are read; send less in one request"


def _tell(scope: Scope, exchange: _Exchange, seconds: float, error: BaseException | None) -> None:
    """Writes the line of the log. It names the route, never the path or query, which may identify a patient."""
    client = scope.get("client")
    facts = {
        "method": scope["method"],
        "route": (scope.get("root_path", "") + getattr(scope.get("route"), "path", "")) or None,  # where mounted + path
        "status": exchange.status,
        "address": client[0] if client else None,
        "received_bytes": exchange.received_bytes,
        "seconds": round(seconds, 3),
    }
    status = exchange.status
    if exchange.cut_off or isinstance(error, asyncio.CancelledError):  # the server ends requests so when it stops
        log.warning("http_request_cut_off", **facts)
    elif error is not None or status is None or (status >= 500 and status != 503):
        log.error("http_request_failed", exc_info=error, **facts)
    elif status >= 400:  # a route that answers 503 has logged why itself
        log.warning("http_request_refused", **facts)
    else:
        log.info("http_request_answered", **facts)

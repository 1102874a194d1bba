"""One HTTP connection: uvicorn's protocol with the time limits that it lacks, and its refusals as problem details.

uvicorn waits without limit for the header of a request and for a client that does not read its answer, and accepts any
number of connections; a few slow clients could then hold the port. Requests themselves are judged in `http_guard`. All
methods run in the loop of the port's thread.
"""

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from dicom_node.admission import ConnectionAdmission, plain
from worker.logs import get_logger
from worker.servers.http_guard import HttpLimits
from worker.servers.http_problems import problem

log = get_logger(__name__)


class HttpConnection(H11Protocol):
    """Closes connections beyond the limit, those without a request in time, and those whose client does not read."""

    limits = HttpLimits()  # `of` makes a class with those of a port; uvicorn makes the instances
    admission: ConnectionAdmission

    @classmethod
    def of(cls, limits: HttpLimits, admission: ConnectionAdmission) -> "type[HttpConnection]":
        """Returns the class for a port with these limits, whose connections are admitted by this judge."""
        return type(cls.__name__, (cls,), {"limits": limits, "admission": admission})

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._until_request: asyncio.TimerHandle | None = None
        self._until_read: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Refuses a connection beyond the limit (503); otherwise begins to wait for its first request."""
        super().connection_made(transport)
        self._peer = transport.get_extra_info("peername")
        if self.client is not None:
            self.client = (plain(self.client[0]), self.client[1])
        if self.admission.is_crowded(self._peer):
            self._refuse(503, f"{self.limits.connections} connections are open; try again later")
            return
        self._wait_for_a_request()

    def data_received(self, data: bytes) -> None:
        """Takes the next bytes of a header or a body; those of a header in small pieces.

        h11 limits a header that is not complete. One that comes whole in one read would be taken at any length.
        """
        piece = max(1, self.limits.header_bytes // 4)
        while data and self._expects_a_header() and not self.transport.is_closing():
            super().data_received(data[:piece])
            data = data[piece:]
        if data and not self.transport.is_closing():
            super().data_received(data)
        self._wait_for_a_request()

    def on_response_complete(self) -> None:
        """Waits for the next request; the rest of a body that no route has read is discarded."""
        super().on_response_complete()
        self._wait_for_a_request()

    def pause_writing(self) -> None:
        """Starts the clock for a client that does not read its answer."""
        super().pause_writing()
        self._until_read = self.loop.call_later(self.limits.idle_seconds, self._does_not_read)

    def resume_writing(self) -> None:
        """Stops that clock: the client reads again."""
        super().resume_writing()
        self._until_read = _cancelled(self._until_read)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stops the clocks of a connection that has ended."""
        self._until_request = _cancelled(self._until_request)
        self._until_read = _cancelled(self._until_read)
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """Answers what is not HTTP, or has too long a header (400)."""
        self._refuse(400, f"{msg} It must be HTTP/1.1 with at most {self.limits.header_bytes} bytes of header.")

    def _wait_for_a_request(self) -> None:
        """Runs the clock while no request is being answered; bytes that trickle do not set it back."""
        asks = not self._expects_a_header()
        self.admission.asks(self._peer, asks)
        if asks:
            self._until_request = _cancelled(self._until_request)
        elif self._until_request is None and not self.transport.is_closing():
            self._until_request = self.loop.call_later(self.limits.header_seconds, self._no_request_in_time)

    def _expects_a_header(self) -> bool:
        return self.cycle is None or bool(self.cycle.response_complete)

    def _no_request_in_time(self) -> None:
        """Refuses a connection whose request has not come (408)."""
        self._refuse(408, f"no request came within {self.limits.header_seconds:g} s; send it again")

    def _does_not_read(self) -> None:
        """Drops the connection of a client that does not read."""
        self._log_closed("the answer was not read")
        self.transport.abort()

    def _refuse(self, status: int, detail: str) -> None:
        """Answers, if no answer has begun yet, and closes the connection."""
        self._log_closed(detail)
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            answer = problem(status, detail, {"Connection": "close"})
            head = h11.Response(status_code=status, headers=answer.raw_headers)
            for event in (head, h11.Data(data=bytes(answer.body)), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        if self.cycle is not None:  # its route may still be at work, as when the body turns out not to be HTTP
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self.transport.close()

    def _log_closed(self, reason: str) -> None:
        """Logs that a connection is closed by this side, and why."""
        log.warning("http_connection_closed", address=self.client[0] if self.client else None, reason=reason)


def _cancelled(timer: asyncio.TimerHandle | None) -> asyncio.TimerHandle | None:
    """Stops a timer; returns None, which stands for no timer."""
    if timer is not None:
        timer.cancel()
    return None

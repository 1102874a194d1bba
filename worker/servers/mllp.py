"""Receives reports as HL7 v2 result messages over MLLP (HL7 v2.5.1 Implementation Guide, Minimal Lower Layer Protocol).

| acknowledgement (MSA-1) | when | the sender |
|---|---|---|
| AA | `take` has returned: the report is on the disk | is done |
| AR | the message is no report, or takes one back | must not send it again |
| AE | anything else went wrong | sends it again |

One thread runs an asyncio loop with a task per connection; `take` runs in the loop's thread pool.
"""

import asyncio
import ssl
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import hl7
from hl7.mllp import InvalidBlockError, start_hl7_server

from worker.errors import ReceiverError
from worker.logs import get_logger
from worker.report_language.errors import NotAReportError, ReportError
from worker.report_language.formats.oru import header, is_retracted, oru_links
from worker.report_language.formats.report_file import MAX_BYTES, decoded

ACCEPTED, ERROR, REJECTED = "AA", "AE", "AR"  # HL7 table 0008: stored; try again; never send this again
_STOP_SECONDS = 10.0

log = get_logger(__name__)


class ReportReceiver:
    """An MLLP server; a context manager.

    Args:
        take: called in a thread of the pool with the bytes of each ORU; must keep them durably, or raise.
        port: the TCP port; 0 for a free one, which the attribute `port` names after the start.
        tls: the server's TLS context; None for plain TCP.
        share_port: lets several processes listen on the port.
    """

    def __init__(
        self,
        take: Callable[[bytes], object],
        *,
        host: str = "127.0.0.1",
        port: int = 2575,
        tls: ssl.SSLContext | None = None,
        share_port: bool = False,
    ) -> None:
        self._take, self._address = take, (host, port)
        self._options: dict[str, Any] = {"ssl": tls, "reuse_port": share_port or None}
        self.port = port
        self._failure: Exception | None = None
        self._started = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None
        self._thread = threading.Thread(target=self._run, name="mllp", daemon=True)

    def start(self) -> None:
        """Starts to listen; returns when connections are accepted.

        Raises:
            ReceiverError: when the address cannot be used.
        """
        host, port = self._address
        self._thread.start()
        self._started.wait()
        if self._failure is not None:
            cause = getattr(self._failure, "strerror", None) or str(self._failure).rstrip(".")
            raise ReceiverError(f"{host}:{port}: {cause}; give a free address") from self._failure

    def stop(self) -> None:
        """Accepts no more connections and ends those that are open; waits ten seconds at most."""
        if self._loop is not None and self._stopping is not None:
            self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(_STOP_SECONDS)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _run(self) -> None:
        """The thread's function: runs the loop, and passes an error on to `start`."""
        try:
            asyncio.run(self._serve())
        except Exception as error:  # a door: `start` waits and raises whatever went wrong
            if self._started.is_set():
                log.exception("mllp_receiver_failed")
            self._failure = error
            self._started.set()

    async def _serve(self) -> None:
        """Listens until `stop` is called."""
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        host, port = self._address
        server = await start_hl7_server(self._converse, host, port, limit=MAX_BYTES, **self._options)
        self.port = server.sockets[0].getsockname()[1]
        self._started.set()
        async with server:
            await self._stopping.wait()

    async def _converse(self, reader: Any, writer: Any) -> None:
        """Serves one connection: a message, its answer, the next message; ends it at what is no message."""
        peer = writer.get_extra_info("peername")
        try:
            while True:
                block = await reader.readblock()
                writer.writeblock((await asyncio.to_thread(self.receive, block)).encode())
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the peer is done
        except (InvalidBlockError, NotAReportError, ValueError) as error:
            log.warning("mllp_connection_closed", address=peer[0] if peer else None, reason=type(error).__name__)
        finally:
            writer.close()

    def receive(self, content: bytes) -> str:
        """Hands one message to `take` and returns its acknowledgement.

        Raises:
            NotAReportError: when the message has no header from which an answer could be made.
        """
        text = decoded(content, "the message")
        message = header(text)
        if _type(message) != "ORU" or is_retracted(text):
            return _answer(message, REJECTED)
        try:
            self._take(content)
        except Exception as error:  # noqa: BLE001 - a door: whatever failed, the sender is told to send again
            log.error("report_not_taken", control_id=oru_links(text).control_id, problem=type(error).__name__)
            final = isinstance(error, ReportError) and error.retry == "final"
            return _answer(message, REJECTED if final else ERROR)
        return _answer(message, ACCEPTED)


def _type(message: hl7.Message) -> str:
    """The message type (MSH-9.1), such as "ORU".

    Raises:
        NotAReportError: when MSH-9 lacks the type, or the trigger that an answer must repeat.
    """
    try:
        kind, trigger = str(message.segment("MSH")(9)).split("^")[:2]
    except (KeyError, IndexError, ValueError) as error:
        raise NotAReportError("the message has no message type and trigger; send an ORU^R01") from error
    return kind if trigger else ""


def _answer(message: hl7.Message, code: str) -> str:
    """The acknowledgement of a message with this code."""
    return str(message.create_ack(code))

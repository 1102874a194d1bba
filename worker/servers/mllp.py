"""Receives reports as HL7 v2 result messages over MLLP (HL7 v2.5.1 Implementation Guide, Minimal Lower Layer Protocol).

| acknowledgement (MSA-1) | when | the sender |
|---|---|---|
| AA | `take` has returned: the report is on the disk | is done |
| AR | the message is no report, or takes one back | must not send it again |
| AE | anything else went wrong | sends it again |

The reason stands in MSA-3 and ERR-8. One thread runs an asyncio loop with a task per connection; `take` runs in the
loop's thread pool. Who may connect, and how many, `dicom_node.admission` judges.
"""

import asyncio
import ssl
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

from dicom_node.admission import ConnectionAdmission, plain
from dicom_node.scp.access import EVERYBODY, Access
from worker.errors import ReceiverError
from worker.logs import get_logger
from worker.report_language.errors import NotAReportError, ReportError
from worker.report_language.formats.hl7_message import Message
from worker.report_language.formats.oru import valid_orders
from worker.servers.door import GuardedSocket
from worker.servers.hl7_answer import ACCEPTED, ERROR, REJECTED, WRONG_TYPE, answer
from worker.servers.mllp_frames import DEFAULT_LIMITS, END, START, FrameLimits, FrameReader, MllpFrame, NoFrameError

MOST_CONNECTIONS = 64
_STOP_SECONDS = 10.0
_LONGEST_ID = 64  # characters of a control id in the log

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
        access: Access = EVERYBODY,
        connections: int = MOST_CONNECTIONS,
        per_address: int = MOST_CONNECTIONS,
        limits: FrameLimits = DEFAULT_LIMITS,
    ) -> None:
        self._take, self._address, self._limits = take, (host, port), limits
        self._tls, self._share_port = tls, share_port
        self._admission = ConnectionAdmission(access.allows, connections=connections, per_address=per_address)
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
        """Runs the loop in the thread, and passes an error on to `start`."""
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
        self._large = asyncio.Semaphore(self._limits.large)
        host, port = self._address
        listening = GuardedSocket.listening(host, port, self._admission, name="hl7", shared=self._share_port)
        self.port = listening.getsockname()[1]
        server = await asyncio.start_server(self._converse, sock=listening, ssl=self._tls, backlog=128)
        self._started.set()
        async with server:
            await self._stopping.wait()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serves one connection, message by message; ends with the peer or with what is no message."""
        peer = writer.get_extra_info("peername")
        try:
            async with FrameReader(reader, self._limits, self._large) as frames:
                while (frame := await frames.next()) is not None:
                    self._admission.asks(peer, True)
                    answered = await asyncio.to_thread(self._receive_frame, frame, plain(peer[0]) if peer else None)
                    writer.write(START + answered.encode("utf-8", "replace") + END + b"\r")
                    async with asyncio.timeout(self._limits.message_seconds):
                        await writer.drain()
                    self._admission.asks(peer, False)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the peer is done
        except (NoFrameError, NotAReportError, TimeoutError, OSError) as error:
            log.warning("mllp_connection_closed", address=plain(peer[0]) if peer else None, reason=type(error).__name__)
        finally:
            writer.close()

    def _receive_frame(self, frame: MllpFrame, address: str | None) -> str:
        if not frame.cut:
            return self.receive(frame.content, address)
        longest = self._limits.message_bytes
        reason = f"the message is longer than {longest} bytes, and at most these are read; send the report alone"
        return answer(Message.of(frame.content), REJECTED, reason)

    def receive(self, content: bytes, address: str | None = None) -> str:
        """Hands one message from an address to `take` and returns its acknowledgement.

        Raises:
            NotAReportError: when the message has no header from which an answer could be made.
        """
        try:
            message = Message.of(content)
        except ReportError as error:
            return answer(_header_of(content), REJECTED, str(error))
        if not message.header(9) and not message.header(10):
            raise NotAReportError("the message has no type and no control id; send an ORU^R01")
        if message.kind != "ORU":
            return answer(message, REJECTED, "the message is no result; send an ORU^R01", cause=WRONG_TYPE)
        try:
            valid_orders(message)  # a result that is taken back is no report
            self._take(content)
        except Exception as error:  # noqa: BLE001 - a door: whatever failed, the sender is told to send again
            control_id, problem = message.header(10)[:_LONGEST_ID], type(error).__name__
            if isinstance(error, ReportError) and error.retry == "final":
                log.warning("report_refused", address=address, control_id=control_id, problem=problem)
                return answer(message, REJECTED, str(error))
            log.error("report_not_taken", control_id=control_id, problem=problem)
            return answer(message, ERROR, "the report could not be kept; send it again later")
        return answer(message, ACCEPTED)


def _header_of(content: bytes) -> Message:
    """Reads the header alone of what is no single message, to answer it.

    Raises:
        NotAReportError: when there is none.
    """
    at = content.find(b"MSH", 0, 4000)
    if at < 0:
        raise NotAReportError("the message has no header (MSH); send an ORU^R01")
    return Message.of(content[at:].split(b"\r", 1)[0].split(b"\n", 1)[0] + b"\r")

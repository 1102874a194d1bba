"""A TCP proxy in front of a PACS, which makes it unreachable, slow, or lose its connections in the middle."""

import asyncio
import contextlib
import threading
from collections.abc import Coroutine, Iterator
from typing import Any, Literal

from tests.support.ports import LOOPBACK, free_port

Mood = Literal["well", "down", "slow", "aborting", "mute"]
"""aborting: A-ABORT in the middle of a message. mute: drops the line before the answer to a message."""

PIECE = 4096
SLOW_SECONDS = 0.25  # per piece and direction
ABORTS_AFTER = 600  # bytes from the sender: the association request is through, the message is not
A_ABORT = bytes([7, 0, 0, 0, 0, 4, 0, 0, 2, 0])  # by the service provider, no reason given (PS3.8 section 9.3.8)


class Proxy:
    """Passes connections on to `target`, a port on this machine, as its mood lets it."""

    def __init__(self, target: int, *, greets: bool = True) -> None:
        """`greets`: what comes back first is no answer yet, as with an association."""
        self.port = free_port()
        self.target = target
        self._greets = greets
        self.connections = 0
        self._mood: Mood = "well"
        self._server: asyncio.Server | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)

    @property
    def mood(self) -> Mood:
        """How it treats connections; of those that are open too."""
        return self._mood

    @mood.setter
    def mood(self, mood: Mood) -> None:
        self._mood = mood
        self._run(self._close() if mood == "down" else self._open())

    def start(self) -> None:
        """Listens from now on."""
        self._thread.start()
        self._run(self._open())

    def stop(self) -> None:
        """Closes its port and lets go of its connections."""
        self._run(self._close())
        self._run(self._drop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self, step: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(step, self._loop).result(30)

    async def _open(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._serve, LOOPBACK, self.port)

    async def _close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _drop(self) -> None:
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with contextlib.suppress(OSError):
            to_reader, to_writer = await asyncio.open_connection(LOOPBACK, self.target)
            ways = [
                asyncio.create_task(self._pass(reader, to_writer, writer)),
                asyncio.create_task(self._pass(to_reader, writer, None)),
            ]
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
                to_writer.close()
        writer.close()

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, sender: asyncio.StreamWriter | None
    ) -> None:
        """One direction of a connection; `sender` is where an A-ABORT goes, None on the way back to it."""
        passed = 0
        while piece := await reader.read(PIECE):
            if self._mood == "down" or (self._mood == "mute" and sender is None and (passed or not self._greets)):
                return
            if self._mood == "aborting" and sender is not None and passed > ABORTS_AFTER:
                sender.write(A_ABORT)
                await sender.drain()
                return
            if self._mood == "slow":
                await asyncio.sleep(SLOW_SECONDS)
            writer.write(piece)
            await writer.drain()
            passed += len(piece)


@contextlib.contextmanager
def proxy(target: int, *, greets: bool = True) -> Iterator[Proxy]:
    """A proxy until the block ends."""
    made = Proxy(target, greets=greets)
    made.start()
    try:
        yield made
    finally:
        made.stop()

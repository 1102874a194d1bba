"""Frames of the Minimal Lower Layer Protocol (HL7 v2.5.1 Implementation Guide): 0x0B, a message, 0x1C 0x0D.

Read as senders write them: with line ends before a frame, and with a line feed, or nothing, behind its end.
"""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

from worker.errors import WorkerError
from worker.report_language.formats.report_file import MAX_BYTES

START: Final = b"\x0b"
END: Final = b"\x1c"
_BETWEEN: Final = b"\r\n\x1c"  # what may stand between two frames
_AFTER_END: Final = b"\r\n\x0b"  # what follows an end; any other byte belongs to the message
_SMALL: Final = 65_536  # bytes; what is longer waits for one of few places


class NoFrameError(WorkerError):
    """What came is no frame."""

    retry = "final"


@dataclass(frozen=True)
class FrameLimits:
    """What a connection may take of the node."""

    idle_seconds: float = 3600.0  # between two messages; interface engines keep their connections
    message_seconds: float = 60.0  # from the first byte of a message to its last
    end_seconds: float = 0.5  # how long the byte behind an end is waited for
    message_bytes: int = MAX_BYTES
    large: int = 4  # messages above 64 kB that are read or handled at one time


DEFAULT_LIMITS: Final = FrameLimits()


@dataclass(frozen=True)
class MllpFrame:
    """A message as it came; `cut` where it was too long, and only its beginning is kept."""

    content: bytes
    cut: bool = False


class FrameReader:
    """Reads the frames of one connection. `large` is a place for a long message, shared with the other connections."""

    def __init__(self, reader: asyncio.StreamReader, limits: FrameLimits, large: asyncio.Semaphore) -> None:
        self._reader, self._limits, self._large = reader, limits, large
        self._buffer = bytearray()
        self._place = AsyncExitStack()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._place.aclose()

    async def next(self) -> MllpFrame | None:
        """Returns the next frame; None where the peer has closed the connection between two frames.

        Raises:
            NoFrameError: when other bytes came.
            TimeoutError: when nothing, or no end of the message, came in time.
            asyncio.IncompleteReadError: when the connection ended within a message.
        """
        await self._place.aclose()  # the last message is answered
        async with asyncio.timeout(self._limits.idle_seconds):
            if not await self._begin():
                return None
        async with asyncio.timeout(self._limits.message_seconds):
            return await self._message()

    async def _begin(self) -> bool:
        while True:
            rest = self._buffer.lstrip(_BETWEEN)
            if rest[:1] == START:
                self._buffer = rest[1:]
                return True
            if rest:
                raise NoFrameError
            self._buffer.clear()
            if not await self._fill():
                return False

    async def _message(self) -> MllpFrame:
        kept, cut, searched = self._buffer, False, 0
        while (end := await self._end(searched)) < 0:
            searched = len(kept)
            if cut or searched > self._limits.message_bytes:
                cut, searched = True, _SMALL
                del kept[_SMALL:]  # its header is enough to answer it
            if not await self._fill():
                raise asyncio.IncompleteReadError(b"", None)
            if searched <= _SMALL < len(kept) and not cut:
                await self._place.aclose()
                await self._place.enter_async_context(self._large)
        content = bytes(kept[:end])
        cut = cut or len(content) > self._limits.message_bytes
        del kept[: end + 1]
        return MllpFrame(content[:_SMALL] if cut else content, cut)

    async def _end(self, start: int) -> int:
        """Finds where the end of the message stands in the buffer, from `start` on; -1 where it has not come."""
        at = self._buffer.find(END, start)
        while at >= 0:
            if at + 1 == len(self._buffer):
                try:
                    async with asyncio.timeout(self._limits.end_seconds):
                        await self._fill()
                except TimeoutError:
                    return at
            if at + 1 == len(self._buffer) or self._buffer[at + 1] in _AFTER_END:
                return at
            at = self._buffer.find(END, at + 1)
        return -1

    async def _fill(self) -> bool:
        content = await self._reader.read(_SMALL)
        self._buffer += content
        return bool(content)

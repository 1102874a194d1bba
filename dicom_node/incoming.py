"""One file on its way into the store: written piece by piece under a name that nobody reads, then linked to its own."""

import contextlib
import hashlib
import io
import os
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from dicom_node.durable import start_writing

_COMPARED_AT_ONCE: Final = 2**20
_WRITTEN_AT_ONCE: Final = 2**17  # whole pages, so that none is written twice


class Incoming:
    """A new file in a workspace; leaving its `with` block removes that name, whatever other names it got."""

    def __init__(self, path: Path) -> None:
        """Create the file `path`, which must not exist. Raises OSError."""
        self.path = path
        self.size = 0
        self._started = 0  # up to here the disk has begun
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)

    def write(self, content: bytes | memoryview) -> None:
        """Append `content` and let the disk begin with it. Raises OSError."""
        rest = memoryview(content)
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]
        self.size += len(content)
        if (ready := (self.size - self._started) // _WRITTEN_AT_ONCE * _WRITTEN_AT_ONCE) > 0:
            start_writing(self._descriptor, self._started, ready)
            self._started += ready

    def reader(self, start: int) -> io.BufferedReader:
        """The content from `start` on, complete as it is; nothing may be written any more."""
        reader = os.fdopen(self._descriptor, "rb", closefd=False)
        reader.seek(start)
        return reader

    def sync(self) -> None:
        """Wait until the content is on the disk; the name of it need not be."""
        os.fsync(self._descriptor)

    def digest(self) -> str:
        """The SHA-256 of the content, in hexadecimal."""
        with self.reader(0) as content:
            return hashlib.file_digest(content, "sha256").hexdigest()

    def equals(self, path: Path) -> bool:
        """True when the file `path` has this content."""
        if path.stat().st_size != self.size:
            return False
        with self.reader(0) as content, path.open("rb") as other:
            pieces = iter(lambda: content.read(_COMPARED_AT_ONCE), b"")
            return all(piece == other.read(_COMPARED_AT_ONCE) for piece in pieces)

    def discard(self) -> None:
        """Remove the name that nobody reads; a second time does nothing."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
            with contextlib.suppress(FileNotFoundError):
                self.path.unlink()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.discard()

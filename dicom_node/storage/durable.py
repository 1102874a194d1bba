"""Files that survive a crash: written through to the disk, replaced in one step, locked by living processes (POSIX)."""

import contextlib
import ctypes
import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_AT_FDCWD: Final = -100
_RENAME_EXCHANGE: Final = 2  # renameat2(2)


def write_new(path: Path, content: bytes) -> None:
    """Write a file that must not exist yet; its content, not yet its name, is on the disk on return."""
    with path.open("xb", buffering=0) as file:
        rest = memoryview(content)
        while rest:
            rest = rest[os.write(file.fileno(), rest) :]
        os.fsync(file.fileno())


def fsync(path: Path) -> None:
    """Wait until a file's content, or a folder's entries, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def publish(folder: Path, final: Path) -> None:
    """Rename `folder` to `final`; when there is one already, the two change places in one step."""
    try:
        folder.rename(final)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
        if renameat2(_AT_FDCWD, bytes(folder), _AT_FDCWD, bytes(final), _RENAME_EXCHANGE) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), str(final)) from error


def lock(folder: Path) -> int:
    """A descriptor that holds the lock of `folder` until it is closed; waits for whoever holds it."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError:  # a file system without locks, say
        os.close(descriptor)
        raise
    return descriptor


def try_lock(folder: Path) -> int | None:
    """A descriptor that holds the lock of `folder` until it is closed; None when another holds it."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Wait for the lock of `folder` and hold it."""
    descriptor = lock(folder)
    try:
        yield
    finally:
        os.close(descriptor)

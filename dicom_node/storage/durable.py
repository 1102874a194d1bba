"""Files that survive a crash: written through to the disk, replaced in one step, locked by living processes (POSIX).

"On the disk" means that a power failure does not lose it: fsync has returned for the content, and for the folder that
holds the name. Locks (flock) belong to a descriptor: they end with it, at the latest when the process dies, and they
hold between processes and between descriptors of one process. All functions raise OSError.
"""

import contextlib
import ctypes
import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.parse import quote

_AT_FDCWD: Final = -100
_RENAME_EXCHANGE: Final = 2  # renameat2(2)


def write_new(path: Path, content: bytes) -> None:
    """Writes a file that must not exist yet; its content, but not yet its name, is on the disk on return."""
    with path.open("xb", buffering=0) as file:
        rest = memoryview(content)
        while rest:
            rest = rest[os.write(file.fileno(), rest) :]
        os.fsync(file.fileno())


def fsync(path: Path) -> None:
    """Waits until a file's content, or a folder's entries, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def publish(folder: Path, final: Path) -> None:
    """Renames `folder` to `final` in one step; a folder that is there already gets the name `folder` in exchange.

    The names are not on the disk before `fsync` of the parent folder.
    """
    try:
        folder.rename(final)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
        if renameat2(_AT_FDCWD, bytes(folder), _AT_FDCWD, bytes(final), _RENAME_EXCHANGE) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), str(final)) from error


def lock_file(folder: Path, name: str) -> Path:
    """Returns the file in `folder` whose lock stands for `name`, whatever characters that has; makes both if needed."""
    path = folder / f"{quote(name, safe='')}.lock"
    folder.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def lock(folder: Path) -> int:
    """Locks `folder`, waiting for whoever holds the lock; returns a descriptor that holds it until it is closed."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError:  # a file system without locks, say
        os.close(descriptor)
        raise
    return descriptor


def try_lock(folder: Path) -> int | None:
    """Locks `folder` if nobody else does; returns a descriptor that holds the lock until it is closed, else None."""
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


def share_lock(path: Path) -> int:
    """Takes a lock on `path` that others may share, waiting for one who has it alone; the descriptor holds it."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds the lock of `folder` during the `with` block, after waiting for whoever holds it."""
    descriptor = lock(folder)
    try:
        yield
    finally:
        os.close(descriptor)

"""Which processes of a node are at work on a home, seen by the locks that they hold.

A role holds a shared lock of the operating system on `HOME/turns/roles/<role>.lock` as long as it lives, and `up` one
of its own on `HOME/up.lock`. A lock ends with its process, however that ends. Containers that share a home see each
other's locks; where a file system knows no locks across machines, a role on another machine is not seen.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dicom_node.storage.durable import lock_file, share_lock, try_lock
from worker.errors import WorkerError

LISTEN, SEGMENT, DELIVER = "listen", "segment-worker", "deliver-worker"
"""The roles of a node, by the names of their commands."""


class AlreadyUpError(WorkerError):
    """A node is up on this home already."""

    retry = "usage"


@contextmanager
def at_work(home: Path, role: str) -> Iterator[None]:
    """Shows within the block that a process of this role works on the home.

    Raises:
        OSError: when the lock's file cannot be made.
    """
    descriptor = share_lock(lock_file(home / "turns" / "roles", role))
    try:
        yield
    finally:
        os.close(descriptor)


def is_at_work(home: Path, role: str) -> bool:
    """Whether a process of this role works on the home. Changes nothing.

    Raises:
        OSError: when the file system does not answer.
    """
    path = home / "turns" / "roles" / f"{role}.lock"
    if not path.exists():
        return False
    descriptor = try_lock(path)
    if descriptor is None:
        return True
    os.close(descriptor)
    return False


@contextmanager
def alone_up(home: Path) -> Iterator[None]:
    """Holds the lock of `up` on a home. A second one changes nothing there.

    Raises:
        AlreadyUpError: when a node is up on this home.
        OSError: when HOME cannot be made or written.
    """
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = home / "up.lock"
    os.close(os.open(path, os.O_CREAT | os.O_RDONLY, 0o600))
    descriptor = try_lock(path)
    if descriptor is None:
        raise AlreadyUpError(
            f"a node is up on {home} already; voxtell-dicom doctor says how it is, and another node needs a "
            "VOXTELL_HOME of its own"
        )
    try:
        yield
    finally:
        os.close(descriptor)

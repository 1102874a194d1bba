"""The leader lock: of several listener processes all receive, and one of them settles series and sweeps.

The leader holds a lock of the operating system on `HOME/intake.lock`. The lock ends with the process, however that
ends, and another process takes over at its next tick. Where a file system knows no locks across machines, two processes
may lead at once: nothing breaks, since every step of the ledger is one guarded statement, but work is looked at twice.
"""

import os
from pathlib import Path
from types import TracebackType
from typing import Self

from dicom_node.storage.durable import try_lock
from worker.logs import get_logger

log = get_logger(__name__)


class Leadership:
    """This process's side of the leader lock; a context manager that gives the lock back. For one thread."""

    def __init__(self, home: Path) -> None:
        self._path = home / "intake.lock"
        self._path.touch()
        self._descriptor: int | None = None

    def held(self) -> bool:
        """Whether this process leads; takes the lock if no process has it. Returns at once.

        False, with a warning in the log, where the lock cannot be asked for: no file descriptor is left, or the file
        system does not answer.
        """
        if self._descriptor is None:
            try:
                self._descriptor = try_lock(self._path)
            except OSError as error:
                log.warning("leader_lock_unusable", problem=str(error))
        return self._descriptor is not None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

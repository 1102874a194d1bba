"""Of several listener processes, the one that decides: it settles series, sweeps, and cleans up; all of them receive.

It holds a lock of the operating system on a file of the node's home. The lock ends with the process, so another one
takes over at its next tick. Where a file system knows no locks across machines, two processes may decide at once:
nothing breaks, since every step of the ledger is one guarded statement, but things are looked at twice.
"""

import os
from pathlib import Path
from types import TracebackType
from typing import Self

import structlog

from dicom_node.storage.durable import try_lock

log = structlog.get_logger(__name__)


class Leadership:
    """Whether this process is the one."""

    def __init__(self, home: Path) -> None:
        self._path = home / "intake.lock"
        self._path.touch()
        self._descriptor: int | None = None

    def held(self) -> bool:
        """True when this process leads; takes the lead when nobody has it.

        False where the lock cannot be asked for (no more descriptors, a file system that does not answer).
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

"""Errors of the worker. `dicom_node.errors` and `voxtell.errors` hold those of the other two rooms.

`retry` says whether another attempt makes sense: `final` (no), `later` (yes, by itself after a while), `usage` (yes,
after a person has corrected a setting, a file or a command). The message is one sentence for people; without one it is
the docstring of the class.
"""

import traceback
from pathlib import Path
from typing import ClassVar, Literal

from worker.masking import masked

Retry = Literal["final", "later", "usage"]


class WorkerError(Exception):
    """The worker could not do what it was asked."""

    retry: ClassVar[Retry] = "final"

    def __init__(self, message: str = "") -> None:
        super().__init__(masked(message or (type(self).__doc__ or "").strip()))


def reason_of(error: BaseException) -> str:
    """Returns the reason to note, for people, for an error that no package of the node defines.

    Its own text may quote anything, and is for the log alone.
    """
    if isinstance(error, MemoryError):
        return "the memory of this machine was full"
    if isinstance(error, OSError) and error.strerror:
        return f"the system refused {error.filename or 'a call'}: {error.strerror}"
    steps = traceback.extract_tb(error.__traceback__)
    where = f" ({Path(steps[-1].filename).name}, line {steps[-1].lineno})" if steps else ""
    return f"the node met an error that it does not know{where}; unexpected_error in the worker's log says more"


class SettingsError(WorkerError):
    """The settings are not valid."""

    retry: ClassVar[Retry] = "usage"


class ProtocolError(WorkerError):
    """The protocol file is not valid."""

    retry: ClassVar[Retry] = "usage"


class BrokerError(WorkerError):
    """The queue does not answer."""

    retry: ClassVar[Retry] = "later"


class LedgerError(WorkerError):
    """The ledger does not answer."""

    retry: ClassVar[Retry] = "later"


class UnknownJobError(WorkerError):
    """The ledger has no such job."""

    retry: ClassVar[Retry] = "usage"


class UnknownRunError(WorkerError):
    """The ledger has no such archive run, or has one already."""

    retry: ClassVar[Retry] = "usage"


class EngineMissingError(WorkerError):
    """This installation has no segmentation engine; install it with: pip install "voxtell-dicom[gpu]"."""

    retry: ClassVar[Retry] = "usage"


class EngineOptionError(WorkerError):
    """An option of the engine is unknown to it, or has a value that it does not take."""

    retry: ClassVar[Retry] = "usage"


class NotHereError(WorkerError):
    """Something is not here, and not every machine of a node needs it."""


class ReceiverError(WorkerError):
    """Reports cannot be received; correct the address that the message names."""

    retry: ClassVar[Retry] = "usage"

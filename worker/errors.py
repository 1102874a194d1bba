"""Errors of the worker. `dicom_node.errors` and `voxtell.errors` hold those of the other two rooms.

`retry` says whether another attempt makes sense: `final` (no), `later` (yes, by itself after a while), `usage` (yes,
after a person has corrected a setting, a file or a command). The message is one sentence for people; without one it is
the docstring of the class.
"""

from typing import ClassVar, Literal

from worker.masking import masked

Retry = Literal["final", "later", "usage"]


class WorkerError(Exception):
    """The worker could not do what it was asked."""

    retry: ClassVar[Retry] = "final"

    def __init__(self, message: str = "") -> None:
        super().__init__(masked(message or (type(self).__doc__ or "").strip()))


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

"""The errors of DICOM objects, the disk and the peers; `retry` says whether trying again makes sense.

`final`: the same input fails again. `later`: a peer or a disk may recover, so the same call may succeed. `usage`: the
caller has to change a setting or an argument first. Docstrings elsewhere name the class only; its `retry` stands here.
The message of each is one sentence for people: what is wrong, where, and what to do.
"""

from typing import ClassVar, Literal

Retry = Literal["final", "later", "usage"]


class DicomNodeError(Exception):
    """The DICOM side could not do what it was asked."""

    retry: ClassVar[Retry] = "final"

    def __init__(self, message: str = "") -> None:
        super().__init__(message or (type(self).__doc__ or "").strip())


class SeriesError(DicomNodeError):
    """The series is not one regular volume."""


class UnreadableError(SeriesError):
    """The disk does not give a file of the series."""

    retry: ClassVar[Retry] = "later"


class StoreError(DicomNodeError):
    """The store could not keep or find an object."""

    retry: ClassVar[Retry] = "later"


class ListenerError(DicomNodeError):
    """The listener could not start."""

    retry: ClassVar[Retry] = "usage"


class TlsError(DicomNodeError):
    """A certificate or key cannot be used."""

    retry: ClassVar[Retry] = "usage"


class PeerError(DicomNodeError):
    """The peer does not answer."""

    retry: ClassVar[Retry] = "later"


class PeerRefusedError(DicomNodeError):
    """The peer answered and refused."""


class ResultError(DicomNodeError):
    """The result object could not be written or does not agree with its mask."""

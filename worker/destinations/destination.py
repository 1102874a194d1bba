"""What every kind of destination has in common: its name, the form of what it gets, and what it must offer."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from dicom_node.scu.c_store import SendOutcome
    from worker.settings import Settings

Senders = Mapping[str, Sequence[str]]
"""For each output ("seg", "sr", ...) the names of the protocols that send it to a destination."""


class Destination(BaseModel, ABC):
    """A place that results go to; protocols refer to it by `name`."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    reached_by: ClassVar[tuple[str, ...]]
    """The fields that say how it is reached. An entry with all of them is of this kind."""

    name: str = Field("pacs", min_length=1, max_length=64, description="The name protocols use.")
    only_when_named: bool = Field(
        False,
        description="Gets results only from protocols that name it. Otherwise it also gets everything from those that "
        "name no destination.",
    )
    seg: Literal["binary", "labelmap"] = Field(
        "binary", description="Form of Segmentations; labelmap gives binary where segments overlap."
    )
    transfer_syntax: Literal["explicit", "deflated", "rle"] = Field(
        "explicit", description="explicit; deflated; or rle, for images of whole bytes (label maps, previews)."
    )

    @property
    @abstractmethod
    def address(self) -> str:
        """Where it is, for people: "ORTHANC@10.1.0.5:4242"."""

    @property
    def promises(self) -> bool:
        """Whether it is asked by storage commitment to keep what it took; such a destination is a DICOM peer."""
        return False

    @abstractmethod
    def send(self, paths: Sequence[Path], settings: "Settings") -> "list[SendOutcome]":
        """Sends DICOM files, which are in the destination's transfer syntax; returns one outcome per path, in order.

        An attempt may be repeated: objects keep their UIDs, and the second time must make no second object.

        Raises:
            PeerError: when it cannot be reached: the attempt is made again later.
            PeerRefusedError: when it refuses for good.
            SettingsError: when a file that the settings name cannot be used.
            TlsError: when a certificate that the settings name cannot be used.
        """

    @abstractmethod
    def check(self, settings: "Settings", senders: Senders) -> str:
        """Asks it, without sending an object, whether it takes what goes there; returns one sentence for `doctor`.

        Raises:
            NotHereError: when there is only a note to make, such as that it cannot be asked; the text is the note.
            DicomNodeError: when it does not answer or refuses; says what to do.
            WorkerError: when it does not take what goes there; says what to do.
        """

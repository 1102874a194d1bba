"""What a listener tells those who run it, and what may be added to it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pynetdicom import evt
from pynetdicom.presentation import PresentationContext

from dicom_node.storage.workspace import SeriesKey
from dicom_node.store import Outcome


@dataclass(frozen=True)
class Arrival:
    """An instance that is durable and about to be acknowledged."""

    study_uid: str
    series_uid: str
    sop_uid: str
    sop_class_uid: str
    path: Path
    calling_ae: str
    called_ae: str
    address: str
    association_id: str
    outcome: Outcome


@dataclass(frozen=True)
class AssociationEnd:
    """An association is over; `series` holds (study UID, series UID) of every instance that it brought."""

    association_id: str
    series: frozenset[SeriesKey]
    aborted: bool  # anything but an orderly release


class Service(Protocol):
    """Something else that peers may ask of the listener, such as storage commitment."""

    def contexts(self) -> list[PresentationContext]:
        """What it offers to take."""

    def handlers(self) -> list[tuple[Any, Callable[[evt.Event], Any]]]:
        """Its pynetdicom events, each with the function to call."""

"""What a listener reports to the program that runs it, and the interface of services that may be added to it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pynetdicom import evt
from pynetdicom.presentation import PresentationContext

from dicom_node.origin import Origin
from dicom_node.store import Outcome
from dicom_node.uids import SeriesKey


@dataclass(frozen=True)
class Arrival:
    """An instance that is durable and about to be acknowledged.

    An instance that came before is reported too, with `outcome` SAME or CONFLICT; then `path` is the file in the store
    or in quarantine.
    """

    key: SeriesKey
    sop_uid: str
    sop_class_uid: str
    path: Path
    origin: Origin
    association_id: str  # of the association or web request; unique, made up by this node
    outcome: Outcome


@dataclass(frozen=True)
class AssociationEnd:
    """An association or a web request is over.

    `series` holds the series (study UID, series UID) of every instance that it brought; empty if it brought none.
    """

    association_id: str
    series: frozenset[SeriesKey]
    aborted: bool  # anything but an orderly release


class Service(Protocol):
    """Another service class that the listener offers to peers, such as storage commitment."""

    def contexts(self) -> list[PresentationContext]:
        """Returns the presentation contexts to offer (PS3.8 section 7.1.1.13); called once, at the listener's start."""

    def handlers(self) -> list[tuple[Any, Callable[[evt.Event], Any]]]:
        """Returns pynetdicom's events, each with the function to call, which runs in threads of the associations."""

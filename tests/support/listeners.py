"""A listener on a store, and what it told."""

from pathlib import Path

from dicom_node.listener import Listener
from dicom_node.scp.arrivals import Arrival, AssociationEnd
from dicom_node.scu.association import Peer
from dicom_node.store import Store


class RunningListener:
    """A listener on a store, and what it told."""

    def __init__(self, listener: Listener, store: Store, arrivals: list[Arrival], ends: list[AssociationEnd]) -> None:
        self.listener = listener
        self.store = store
        self.arrivals = arrivals
        self.ends = ends
        self.peer = Peer("VOXTELL", "127.0.0.1", listener.port)

    def quarantined(self) -> list[Path]:
        """The instances that were put aside."""
        return sorted((self.store.home / "quarantine").glob("*.dcm"))

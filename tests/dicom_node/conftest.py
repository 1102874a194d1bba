"""What the tests of the network side share: small instances, a listener that notes what it is told, real series."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from dicom_node.listener import Listener
from dicom_node.scp.arrivals import Arrival, AssociationEnd
from dicom_node.scu.association import Peer
from dicom_node.store import Store

WAIT_SECONDS = 20.0


def small_instance(
    number: int = 1, *, series: str = "1.2.3.4", sop_class: str = CTImageStorage, **more: Any
) -> Dataset:
    """A few hundred bytes of a CT image, with file meta information; `more` are further attributes."""
    instance = Dataset()
    instance.SOPClassUID = sop_class
    instance.SOPInstanceUID = f"{series}.{number}"
    instance.PatientName = "Test^Small"
    instance.StudyInstanceUID = "1.2.3"
    instance.SeriesInstanceUID = series
    instance.InstanceNumber = number
    instance.Rows = instance.Columns = 4
    instance.BitsAllocated = instance.BitsStored = 16
    instance.PixelData = bytes(range(32))
    instance["PixelData"].VR = "OW"
    for keyword, value in more.items():
        setattr(instance, keyword, value)
    instance.file_meta = FileMetaDataset()
    instance.file_meta.MediaStorageSOPClassUID = sop_class
    instance.file_meta.MediaStorageSOPInstanceUID = instance.SOPInstanceUID
    instance.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return instance


def data_set(part10: bytes) -> bytes:
    """The bytes behind preamble and file meta information: what a C-STORE carries."""
    meta_length = int.from_bytes(part10[140:144], "little")  # value of (0002,0000), PS3.10 section 7.1
    return part10[144 + meta_length :]


def wait_until(condition: Callable[[], Any]) -> None:
    """Until something that other threads do has happened."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


class Site:
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


@pytest.fixture
def site(tmp_path: Path) -> Callable[..., Any]:
    """`with site(access=...) as here:` runs a listener on a free port; keywords go to the Listener."""

    @contextmanager
    def run(home: Path = tmp_path / "home", **options: Any) -> Iterator[Site]:
        store = options.pop("store", None) or Store(home)
        arrivals: list[Arrival] = []
        ends: list[AssociationEnd] = []
        callbacks = {"on_arrival": arrivals.append, "on_association_end": ends.append}
        settings = {"ae_title": "VOXTELL", "host": "127.0.0.1", "port": 0, **callbacks, **options}
        with Listener(store, **settings) as listener:
            yield Site(listener, store, arrivals, ends)
        # Their last steps, after the listener has let go of them, may take a moment; a leak lasts.
        wait_until(lambda: not any("AcceptorThread" in thread.name for thread in threading.enumerate()))

    return run

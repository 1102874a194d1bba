"""How many images a second come from a PACS: this node's C-GET, pynetdicom's own, and C-MOVE, in one run.

    python -m bench.retrieve [--files 120] [--rounds 3] [--size 64]

The PACS is an Orthanc on this machine. This node keeps every image durable before it is acknowledged; "pynetdicom as it
comes" throws images away. Rounds are interleaved and the table gives medians, so that other work on the machine meets
all alike. Orthanc is left as it comes, without TCP_NODELAY: it then waits for the acknowledgement of a small image,
which is where the ways differ. Processor time is of this process alone.
"""

import argparse
import statistics
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage
from pynetdicom import AE, build_role, evt
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelGet

from bench.receive import make_slices
from dicom_node.listener import Listener
from dicom_node.retrieval import get_into_store
from dicom_node.scp.access import Limits
from dicom_node.scu.association import Peer
from dicom_node.scu.query import move_study
from dicom_node.store import Store
from tests.support.peers import LOOPBACK, Orthanc, orthanc

STUDY = "1.2.3"  # of bench.receive's slices


def our_get(pacs: Orthanc, home: Path) -> int:
    """C-GET into the store."""
    return get_into_store(pacs.peer, STUDY, Store(home), calling_ae="BENCH", on_arrival=lambda _: None).sent


def plain_get(pacs: Orthanc, _home: Path) -> int:
    """C-GET by pynetdicom as it comes."""
    ae = AE("BENCH")
    ae.add_requested_context(StudyRootQueryRetrieveInformationModelGet)
    ae.add_requested_context(CTImageStorage)
    received: list[int] = []

    def store(event: evt.Event) -> int:
        received.append(len(event.encoded_dataset()))
        return 0x0000

    association = ae.associate(
        pacs.peer.host,
        pacs.peer.port,
        ae_title=pacs.peer.ae_title,
        ext_neg=[build_role(CTImageStorage, scp_role=True)],
        evt_handlers=[(evt.EVT_C_STORE, store)],
    )
    keys = Dataset()
    keys.QueryRetrieveLevel, keys.StudyInstanceUID = "STUDY", STUDY
    list(association.send_c_get(keys, StudyRootQueryRetrieveInformationModelGet))
    association.release()
    return len(received)


def our_move(pacs: Orthanc, home: Path) -> int:
    """C-MOVE to the listener."""
    limits = Limits(free_bytes=0)
    with Listener(
        Store(home), ae_title="BENCH", host=LOOPBACK, port=0, on_arrival=lambda _: None, limits=limits
    ) as listener:
        pacs.add_modality(Peer("BENCH", LOOPBACK, listener.port))
        return move_study(pacs.peer, STUDY, to_ae="BENCH", calling_ae="BENCH").sent


WAYS: dict[str, Callable[[Orthanc, Path], int]] = {
    "pynetdicom as it comes": plain_get,
    "this node, C-GET": our_get,
    "this node, C-MOVE": our_move,
}


def measured(way: Callable[[Orthanc, Path], int], pacs: Orthanc, files: int) -> tuple[float, float]:
    """Images a second, and milliseconds of this process's processor time for each."""
    with tempfile.TemporaryDirectory() as home:
        started, processor = time.monotonic(), time.process_time()
        received = way(pacs, Path(home))
        seconds, used = time.monotonic() - started, time.process_time() - processor
    if received != files:
        raise SystemExit(f"{received} of {files} images came")
    return files / seconds, 1000 * used / files


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=120)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", type=int, default=64, help="rows and columns")
    arguments = parser.parse_args()
    figures: dict[str, list[tuple[float, float]]] = {name: [] for name in WAYS}
    with (
        tempfile.TemporaryDirectory() as folder,
        orthanc(Path(folder) / "orthanc", DicomAlwaysAllowGet=True, DicomAlwaysAllowMove=True) as pacs,
    ):
        for path in make_slices(Path(folder), arguments.files, arguments.size):
            request = urllib.request.Request(pacs.http + "/instances", path.read_bytes(), method="POST")  # noqa: S310
            urllib.request.urlopen(request, timeout=60).close()  # noqa: S310
        for _ in range(arguments.rounds):
            for name, way in WAYS.items():
                figures[name].append(measured(way, pacs, arguments.files))
    size = arguments.size
    print(f"{arguments.files} images of {size} x {size}, median of {arguments.rounds} rounds")
    plain = statistics.median(rate for rate, _ in figures["pynetdicom as it comes"])
    for name, values in figures.items():
        rate, used = (statistics.median(column) for column in zip(*values, strict=True))
        print(
            f"{name:26}{rate:8.1f} images/s, {rate / plain:5.2f} times pynetdicom{used:8.2f} ms of processor time each"
        )


if __name__ == "__main__":
    main()

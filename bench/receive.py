"""How many CT slices a second arrive: this node beside DCMTK's storescp and Orthanc, on one machine, in one run.

    python -m bench.receive [--files 400] [--rounds 3] [--folder DIR]

The sender is DCMTK's storescu with `--max-pdu 131072` and TCP_NODELAY=1, on one association and on four; the receivers
take PDUs of that size and have TCP_NODELAY=1 too. (With their defaults all of DCMTK's programs wait 40 ms per image.)
Slices are 512 x 512 with 16 bits, read from memory where the system offers it; received files go to --folder, whose
disk is what fsync costs. Rounds are interleaved and the table gives medians, so that other work on the machine
meets all receivers alike. Only this node has every file on the disk when it answers.
"""

import argparse
import contextlib
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pynetdicom.dsutils import encode

from dicom_node.access import Limits
from dicom_node.listener import Listener
from dicom_node.part10 import file_start
from dicom_node.peer import Peer
from dicom_node.store import Store
from tests.peers import LOOPBACK, orthanc, storescp, storescu_command

ASSOCIATIONS = (1, 4)
SIZE = 512  # rows and columns
PDU = ["--max-pdu", "131072"]


def make_slices(folder: Path, count: int) -> list[Path]:
    """A CT series of noise, one file per slice."""
    noise = np.random.default_rng(0)
    paths = []
    for number in range(count):
        image = Dataset()
        image.SOPClassUID = CTImageStorage
        image.SOPInstanceUID = f"1.2.3.4.{number + 1}"
        image.Modality = "CT"
        image.PatientID = "BENCH"
        image.StudyInstanceUID = "1.2.3"
        image.SeriesInstanceUID = "1.2.3.4"
        image.Rows = image.Columns = SIZE
        image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
        image.BitsAllocated = image.BitsStored = 16
        image.HighBit, image.PixelRepresentation = 15, 1
        image.PixelData = noise.integers(-1000, 2000, (SIZE, SIZE), np.int16).tobytes()
        image["PixelData"].VR = "OW"
        start = file_start(
            sop_class_uid=CTImageStorage, sop_uid=image.SOPInstanceUID, transfer_syntax=ExplicitVRLittleEndian
        )
        paths.append(folder / f"{number:05d}.dcm")
        paths[-1].write_bytes(start + encode(image, is_implicit_vr=False, is_little_endian=True))
    return paths


def send(paths: list[Path], peer: Peer, associations: int) -> float:
    """Files per second of `associations` senders at once."""
    environment = {**os.environ, "TCP_NODELAY": "1"}
    started = time.monotonic()
    senders = [
        subprocess.Popen(storescu_command(peer, *paths[number::associations]), env=environment)
        for number in range(associations)
    ]
    if sum(sender.wait() for sender in senders):
        sys.exit(f"storescu could not send everything to {peer}")
    return len(paths) / (time.monotonic() - started)


def _listen(home: Path, port: int, fsync: bool, pipe: Connection) -> None:
    if not fsync:
        os.fsync = lambda _descriptor: None  # what the same code does without durability
    listener = Listener(
        Store(home),
        ae_title="VOXTELL",
        host=LOOPBACK,
        port=port,
        on_arrival=lambda _arrival: None,
        limits=Limits(free_bytes=0),
        share_port=True,
    )
    with listener:
        pipe.send(listener.port)
        with contextlib.suppress(EOFError):
            pipe.recv()


@contextlib.contextmanager
def node(home: Path, *, processes: int = 1, fsync: bool = True) -> Iterator[Peer]:
    """This node's listener, in `processes` processes on one port."""
    context = multiprocessing.get_context("spawn")
    port, running = 0, []
    for _ in range(processes):
        ours, theirs = context.Pipe()
        process = context.Process(target=_listen, args=(home, port, fsync, theirs))
        process.start()
        theirs.close()
        port = ours.recv()
        running.append((process, ours))
    try:
        yield Peer("VOXTELL", LOOPBACK, port)
    finally:
        for process, pipe in running:
            pipe.close()
            process.join()


@contextlib.contextmanager
def pacs(folder: Path) -> Iterator[Peer]:
    """Orthanc."""
    with orthanc(folder) as running:
        yield running.peer


Receiver = Callable[[Path], contextlib.AbstractContextManager[Peer]]

RECEIVERS: dict[str, Receiver] = {
    "this node, 1 process": node,
    "this node, 2 processes": lambda folder: node(folder, processes=2),
    "this node without fsync": lambda folder: node(folder, fsync=False),
    "storescp --fork": lambda folder: storescp(folder, "--fork", *PDU),
    "storescp, program per image": lambda folder: storescp(folder, "--fork", *PDU, "--exec-on-reception", "/bin/true"),
    "Orthanc": pacs,
}


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where received files go (default: a temporary folder)")
    arguments = parser.parse_args()
    os.environ["TCP_NODELAY"] = "1"
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108
    rates: dict[tuple[str, int], list[float]] = {}
    with tempfile.TemporaryDirectory(dir=memory) as source:
        paths = make_slices(Path(source), arguments.files)
        for _ in range(arguments.rounds):
            for name, receiver in RECEIVERS.items():
                for associations in ASSOCIATIONS:
                    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder, receiver(Path(folder)) as peer:
                        rates.setdefault((name, associations), []).append(send(paths, peer, associations))
    medians = {key: statistics.median(values) for key, values in rates.items()}
    print(f"{arguments.files} slices of {SIZE} x {SIZE}, median of {arguments.rounds} rounds, files per second")
    print(f"{'':30}" + "".join(f"{number} association{'s' * (number > 1):3}" for number in ASSOCIATIONS))
    for name in RECEIVERS:
        print(f"{name:30}" + "".join(f"{medians[name, number]:13.0f} " for number in ASSOCIATIONS))
    ours, theirs = medians["this node, 1 process", 1], medians["storescp, program per image", 1]
    print(f"one association: {ours / theirs:.2f} times storescp with a program per image (aim 1.5)")
    ours, theirs = medians["this node, 2 processes", 4], medians["storescp --fork", 4]
    print(f"four associations, two processes: {ours / theirs:.2f} times storescp (aim 0.8)")


if __name__ == "__main__":
    main()

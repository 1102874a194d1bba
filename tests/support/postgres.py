"""A real PostgreSQL from Debian for the tests: a cluster in a temporary folder, on a Unix socket only."""

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

START_SECONDS = 30.0
# The server keeps nothing that outlives the tests: no need to wait for the disk.
OPTIONS = ("listen_addresses=", "fsync=off", "synchronous_commit=off", "full_page_writes=off", "max_connections=60")
DURABLE = ("synchronous_commit=on",)  # what was committed is in the operating system's hands when the server crashes


class Postgres:
    """A running server, reached by its socket in `folder`."""

    def __init__(self, folder: Path, start: Callable[[], subprocess.Popen[bytes]]) -> None:
        self.folder = folder
        self._start = start
        self._count = 0
        self.process = start()
        self._wait()

    def new_database(self) -> str:
        """The SQLAlchemy URL of an empty schema of its own, which is all that a ledger sees of the database."""
        self._count += 1
        name = f"ledger{self._count}"
        with self.connect() as connection:
            connection.execute(f"CREATE SCHEMA {name}")
        return f"postgresql+psycopg://postgres@/postgres?host={self.folder}&options=-csearch_path%3D{name}"

    def connect(self) -> psycopg.Connection:
        """A connection for the administrator."""
        return psycopg.connect(host=str(self.folder), user="postgres", dbname="postgres", autocommit=True)

    def restart(self) -> None:
        """Ends it at once, with all connections, and starts it again; needs `durable`."""
        self.stop()
        self.start_again()

    def start_again(self) -> None:
        """After `stop`; needs `durable`."""
        self.process = self._start()
        self._wait()

    def stop(self) -> None:
        """An "immediate shutdown": as if it crashed."""
        self.process.send_signal(signal.SIGQUIT)
        self.process.wait(START_SECONDS)

    def _wait(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                self.connect().close()
                return
            except psycopg.OperationalError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise AssertionError((self.folder / "log").read_text()) from None
                time.sleep(0.05)


@contextlib.contextmanager
def postgres(*, durable: bool = False) -> Iterator[Postgres]:
    """A PostgreSQL server until the block ends; without the Debian package the test is skipped, in CI it fails.

    A `durable` one keeps what was committed over its own crash, though not over the machine's.
    """
    programs = _programs()
    # Not pytest's tmp_path: its parents are closed to other users, and a socket's path must be short.
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    user = _give_away(folder)
    data = folder / "data"
    initdb = [programs / "initdb", "--pgdata", data, "--auth", "trust", "--username", "postgres", "--no-sync"]
    try:
        subprocess.run([*map(str, initdb)], check=True, capture_output=True, user=user, cwd=folder)
        options = [word for option in OPTIONS + (DURABLE if durable else ()) for word in ("-c", option)]
        command = [str(word) for word in (programs / "postgres", "-D", data, "-k", folder, *options)]
        with (folder / "log").open("wb") as log:
            server = Postgres(folder, lambda: subprocess.Popen(command, user=user, cwd=folder, stdout=log, stderr=log))
            try:
                yield server
            finally:
                server.stop()
    finally:
        shutil.rmtree(folder)


def _programs() -> Path:
    """The folder of the newest PostgreSQL's programs; Debian keeps them out of PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name))
    if found:
        return found[-1]
    message = "PostgreSQL is missing: install the packages of tests/debian-packages.txt"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)


def _give_away(folder: Path) -> int | None:
    """Root may not run PostgreSQL: then the folder belongs to Debian's user `postgres`, whose id this is."""
    if os.geteuid() != 0:
        return None
    owner = pwd.getpwnam("postgres")
    os.chown(folder, owner.pw_uid, owner.pw_gid)
    return owner.pw_uid

"""Opens the ledger's database, SQLite for one machine or PostgreSQL by URL, and brings its tables up to date.

On SQLite a transaction of the engine takes the write lock when it begins (BEGIN IMMEDIATE): one that began as a reader
and then wrote would fail while another writes. A transaction of `for_reading` takes no lock and sees the database as it
was when it first read, so a long query holds up nobody, and nobody holds it up.
"""

import shutil
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import Engine
from sqlalchemy.exc import ArgumentError, InterfaceError, OperationalError, SQLAlchemyError

from dicom_node.storage.durable import locked
from worker.errors import LedgerError
from worker.masking import SecretUrl

BUSY_SECONDS = 30  # SQLite: how long a writer waits for another; each holds the lock for about a millisecond
EXAMPLE_URL = "postgresql+psycopg://USER:PASSWORD@HOST/NAME"
PATIENCE = {"connect_timeout": 5, "keepalives_idle": 30, "tcp_user_timeout": 30_000}
"""Parameters of libpq, in seconds, seconds and milliseconds. Without them a connection to a server that has vanished
waits for a quarter of an hour."""
MIGRATIONS = Path(__file__).with_name("migrations")
_READS = "ledger_reads"  # the execution option of connections that only read
LEAST_ROOM = 2**20  # bytes; with less SQLite cannot even open a database


def open_engine(url: str | SecretUrl) -> Engine:
    """Connects to the database, makes its tables or brings them up to date, and returns the engine.

    Several processes may open one database at once. Later, too, the engine raises LedgerError where the database does
    not answer or a lock is held for too long.

    Raises:
        LedgerError: when the URL cannot be used, the database does not answer, or its tables are of a later version.
    """
    url = url if isinstance(url, str) else url.get_secret_value()
    try:
        engine = sa.create_engine(url, pool_pre_ping=True, connect_args=_patience(sa.make_url(url)))
    except (ArgumentError, ModuleNotFoundError) as error:
        raise LedgerError(f"VOXTELL_DATABASE_URL cannot be used ({error}); such a URL is {EXAMPLE_URL}") from None
    try:
        with _prepare_sqlite(engine) if engine.dialect.name == "sqlite" else nullcontext():
            if _version(engine) != max(path.name[:4] for path in MIGRATIONS.glob("versions/[0-9]*.py")):
                from worker.ledger.migrate import upgrade  # alembic is slow to import and almost never needed

                upgrade(engine, MIGRATIONS)
    except (SQLAlchemyError, ValueError, OSError) as error:
        engine.dispose()
        cause = str(error).splitlines()[0]
        advice = "its disk is full: make room there" if _disk_is_full(engine) else "check VOXTELL_DATABASE_URL"
        raise LedgerError(f"ledger {engine.url}: {cause}; {advice}") from None
    event.listen(engine, "handle_error", _as_ledger_error)
    return engine


def for_reading(engine: Engine) -> Engine:
    """Returns an engine with the same connections whose transactions cannot write and wait for no writer."""
    return engine.execution_options(**{_READS: True}, postgresql_readonly=True)


def _version(engine: Engine) -> str | None:
    """Returns the revision of the database's tables; None when it has none."""
    with for_reading(engine).connect() as connection:
        if not sa.inspect(connection).has_table("alembic_version"):
            return None
        version = connection.scalar(sa.text("SELECT version_num FROM alembic_version"))
        return None if version is None else str(version)


def _patience(url: sa.URL) -> dict[str, int]:
    """Returns the parameters of `PATIENCE` that the URL does not set itself; none for SQLite."""
    if url.get_backend_name() != "postgresql":
        return {}
    return {name: value for name, value in PATIENCE.items() if name not in url.query}


def _disk_is_full(engine: Engine) -> bool:
    """Whether the disk of an SQLite file is full, which SQLite itself reports as an input/output error."""
    database = engine.url.database
    if engine.dialect.name != "sqlite" or not database:
        return False
    try:
        return shutil.disk_usage(Path(database).parent).free < LEAST_ROOM
    except OSError:  # the folder is not there
        return False


def _as_ledger_error(context: sa.ExceptionContext) -> None:
    """Turns the error of a server that restarts, or of a lock held for too long, into a LedgerError (retry later)."""
    error = context.sqlalchemy_exception
    if isinstance(error, OperationalError | InterfaceError) and not context.is_pre_ping:
        raise LedgerError(f"the ledger does not answer: {str(error.orig).splitlines()[0]}") from error


def _prepare_sqlite(engine: Engine) -> AbstractContextManager[None]:
    """Sets up SQLite's connections; returns the lock to hold while the first one is made.

    While two processes turn a new database to WAL at once, one of them would find it busy whatever its timeout.
    """
    database = engine.url.database
    first_of_all: AbstractContextManager[None] = nullcontext()
    if database and database != ":memory:":
        folder = Path(database).parent
        folder.mkdir(parents=True, exist_ok=True)
        first_of_all = locked(folder)

    @event.listens_for(engine, "connect")
    def _pragmas(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # the driver's own BEGIN would start as a reader
        connection.execute(f"PRAGMA busy_timeout={BUSY_SECONDS * 1000}")  # first: to switch to WAL takes the lock
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")  # a committed fact survives a power cut
        connection.execute("PRAGMA foreign_keys=ON")

    @event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        reads = bool(connection.get_execution_options().get(_READS))
        connection.exec_driver_sql(f"PRAGMA query_only={int(reads)}")  # the connection may have had the other purpose
        connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")

    return first_of_all

"""Opens the ledger's database: SQLite for one machine, PostgreSQL by URL; brings its tables up to date."""

import shutil
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.util.exc import CommandError
from sqlalchemy import event
from sqlalchemy.engine import Engine
from sqlalchemy.exc import ArgumentError, InterfaceError, OperationalError, SQLAlchemyError

from dicom_node.storage.durable import locked
from worker.errors import LedgerError

BUSY_SECONDS = 30  # SQLite: how long a writer waits for another; each holds the lock for about a millisecond
EXAMPLE_URL = "postgresql+psycopg://USER:PASSWORD@HOST/NAME"
MIGRATION_LOCK = 0x766F78  # any number, the same in every process: PostgreSQL's advisory lock during an upgrade
PATIENCE = {"connect_timeout": 5, "keepalives_idle": 30, "tcp_user_timeout": 30_000}
"""Of libpq: seconds, seconds, milliseconds; without them a server that vanished is waited for a quarter of an hour."""
LEAST_ROOM = 2**20  # bytes; with less SQLite cannot even open a database


def open_engine(url: str) -> Engine:
    """An engine whose tables are up to date.

    Raises:
        LedgerError: the database does not answer or is not ours.
    """
    try:
        engine = sa.create_engine(url, pool_pre_ping=True, connect_args=_patience(sa.make_url(url)))
    except (ArgumentError, ModuleNotFoundError) as error:
        raise LedgerError(f"VOXTELL_DATABASE_URL cannot be used ({error}); such a URL is {EXAMPLE_URL}") from None
    try:
        with _prepare_sqlite(engine) if engine.dialect.name == "sqlite" else nullcontext():
            _upgrade(engine)
    except (SQLAlchemyError, CommandError, OSError) as error:
        engine.dispose()
        cause = str(error).splitlines()[0]
        advice = "its disk is full: make room there" if _disk_is_full(engine) else "check VOXTELL_DATABASE_URL"
        raise LedgerError(f"ledger {engine.url}: {cause}; {advice}") from None
    event.listen(engine, "handle_error", _as_ledger_error)
    return engine


def _patience(url: sa.URL) -> dict[str, int]:
    """How long PostgreSQL may be silent, where the URL does not say so itself."""
    if url.get_backend_name() != "postgresql":
        return {}
    return {name: value for name, value in PATIENCE.items() if name not in url.query}


def _disk_is_full(engine: Engine) -> bool:
    """Whether SQLite's file has no room: its own sentence is of an input/output error then."""
    database = engine.url.database
    if engine.dialect.name != "sqlite" or not database:
        return False
    try:
        return shutil.disk_usage(Path(database).parent).free < LEAST_ROOM
    except OSError:  # the folder is not there
        return False


def _as_ledger_error(context: sa.ExceptionContext) -> None:
    """A server that restarts or a lock that is held for too long is worth trying again later, wherever it is met."""
    error = context.sqlalchemy_exception
    if isinstance(error, OperationalError | InterfaceError) and not context.is_pre_ping:
        raise LedgerError(f"the ledger does not answer: {str(error.orig).splitlines()[0]}") from error


def _prepare_sqlite(engine: Engine) -> AbstractContextManager[None]:
    """Says how to connect; gives the lock for the first time: who turns a new database to WAL may find it busy at once,
    whatever the timeout, while another process does the same."""
    database = engine.url.database
    first_of_all: AbstractContextManager[None] = nullcontext()
    if database and database != ":memory:":
        folder = Path(database).parent
        folder.mkdir(parents=True, exist_ok=True)
        first_of_all = locked(folder)

    @event.listens_for(engine, "connect")
    def _pragmas(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # the driver's own BEGIN would start as a reader
        connection.execute(f"PRAGMA busy_timeout={BUSY_SECONDS * 1000}")  # first: to turn to WAL needs the lock
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")  # a committed fact survives a power cut
        connection.execute("PRAGMA foreign_keys=ON")

    @event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")  # a reader that later writes would fail with SQLITE_BUSY

    return first_of_all


def _upgrade(engine: Engine) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")).replace("%", "%%"))
    with engine.begin() as connection:  # several processes may start at once: one upgrades, the others wait
        if engine.dialect.name == "postgresql":
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(MIGRATION_LOCK)))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")

"""The database under the ledger: transactions, the clock, and the statements that every table needs.

A method of the ledger opens a transaction, `read` or `write`, and leaves it before it returns: no transaction outlives
a call, and none is open while something else than the database is waited for.
"""

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from worker.ledger.engine import for_reading, open_engine
from worker.ledger.records import as_record

Record = TypeVar("Record")


class Database:
    """An open database whose tables are up to date. Safe to use from several threads.

    Raises:
        LedgerError: when the database does not answer.
    """

    def __init__(self, url: str, clock: Callable[[], float] = time.time) -> None:
        self.engine = open_engine(url)
        self._reading = for_reading(self.engine)
        self.clock = clock

    def close(self) -> None:
        """Closes the connections of this process."""
        self.engine.dispose()

    def now(self) -> float:
        """The time by the ledger's clock, in seconds since 1970-01-01 UTC."""
        return self.clock()

    def read(self) -> AbstractContextManager[sa.Connection]:
        """A transaction for queries: it cannot write, takes no lock, and sees one state of the database (SQLite).

        On PostgreSQL each query sees what was committed before it.
        """
        return self._reading.connect()

    def write(self) -> AbstractContextManager[sa.Connection]:
        """A transaction that is committed when the block ends and rolled back when it raises."""
        return self.engine.begin()

    def select(self, kind: type[Record], query: sa.Select[Any]) -> list[Record]:
        """The rows that the query finds, in its order."""
        with self.read() as connection:
            rows = connection.execute(query).mappings().all()
        return [as_record(kind, row) for row in rows]

    def update(self, statement: sa.Update) -> int:
        """Runs the UPDATE in a transaction of its own. Returns how many rows it changed."""
        with self.write() as connection:
            return connection.execute(statement).rowcount

    def update_returning(self, kind: type[Record], statement: sa.Update) -> list[Record]:
        """Runs the UPDATE in a transaction of its own. Returns the changed rows as that statement left them."""
        with self.write() as connection:
            rows = connection.execute(statement.returning(*statement.table.columns)).mappings().all()
        return [as_record(kind, row) for row in rows]

    def upsert(self, table: sa.Table, row: Mapping[str, Any], renewed: Mapping[str, Any]) -> None:
        """Inserts the row, or sets `renewed` on the one that has its primary key."""
        with self.write() as connection:
            statement = insert(connection, table).values(row)
            keys = list(table.primary_key.columns)
            connection.execute(statement.on_conflict_do_update(index_elements=keys, set_=dict(renewed)))


def insert(connection: sa.Connection, table: sa.Table) -> Any:
    """An INSERT in the database's dialect, which knows ON CONFLICT."""
    return (postgresql if connection.dialect.name == "postgresql" else sqlite).insert(table)

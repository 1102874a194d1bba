"""The database under the ledger: transactions, the clock, and the statements that every table needs.

A method of the ledger opens a transaction, `read` or `write`, and leaves it before it returns. No transaction outlives
a call, and none stays open while the network or the disk is waited for.
"""

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite

from worker.ledger.engine import for_reading, open_engine
from worker.ledger.records import as_record
from worker.masking import SecretUrl

Record = TypeVar("Record")


class Database:
    """An open database whose tables are up to date. Safe to use from several threads.

    Raises:
        LedgerError: when the database does not answer.
    """

    def __init__(
        self, url: str | SecretUrl, clock: Callable[[], float] = time.time, *, store_id: str | None = None
    ) -> None:
        self.store_id = store_id
        self.engine = open_engine(url)
        self._reading = for_reading(self.engine)
        self.clock = clock

    def close(self) -> None:
        """Closes the connections of this process."""
        self.engine.dispose()

    def now(self) -> float:
        """Returns the time by the ledger's clock, in seconds since 1970-01-01 UTC."""
        return self.clock()

    def mine(self, table: sa.Table) -> sa.ColumnElement[bool]:
        """Returns a condition: the row of `series` or `jobs` belongs to the store that this ledger was opened for.

        True of all rows where it was opened for none; rows of an older version, which name no store, belong to each.
        """
        if self.store_id is None:
            return sa.true()
        return table.c.store_id.is_(None) | (table.c.store_id == self.store_id)

    def read(self) -> AbstractContextManager[sa.Connection]:
        """Opens a transaction for queries, which cannot write and takes no lock.

        On SQLite it sees one state of the database throughout; on PostgreSQL each query sees what was committed before.
        """
        return self._reading.connect()

    def write(self) -> AbstractContextManager[sa.Connection]:
        """Opens a transaction that is committed when the block ends and rolled back when it raises."""
        return self.engine.begin()

    def select(self, kind: type[Record], query: sa.Select[Any]) -> list[Record]:
        """Returns the rows that the query finds as records of this kind, in its order."""
        with self.read() as connection:
            rows = connection.execute(query).mappings().all()
        return [as_record(kind, row) for row in rows]

    def update(self, statement: sa.Update) -> int:
        """Runs an UPDATE in a transaction of its own; returns how many rows it changed."""
        with self.write() as connection:
            return connection.execute(statement).rowcount

    def update_returning(self, kind: type[Record], statement: sa.Update) -> list[Record]:
        """Runs an UPDATE in a transaction of its own; returns the changed rows as that statement left them."""
        with self.write() as connection:
            rows = connection.execute(statement.returning(*statement.table.columns)).mappings().all()
        return [as_record(kind, row) for row in rows]

    def upsert(self, table: sa.Table, row: Mapping[str, Any], renewed: Mapping[str, Any]) -> None:
        """Inserts a row, or sets the columns `renewed` on the row that has its primary key already."""
        with self.write() as connection:
            upsert(connection, table, row, renewed)


def upsert(connection: sa.Connection, table: sa.Table, row: Mapping[str, Any], renewed: Mapping[str, Any]) -> None:
    """Does what `Database.upsert` does, in a transaction that is open; without `renewed` a row that is there stays."""
    statement = insert(connection, table).values(row)
    keys = list(table.primary_key.columns)
    change = (
        statement.on_conflict_do_update(index_elements=keys, set_=dict(renewed))
        if renewed
        else statement.on_conflict_do_nothing(index_elements=keys)
    )
    connection.execute(change)


def insert(connection: sa.Connection, table: sa.Table) -> Any:
    """Returns an INSERT in the dialect of the database, which has ON CONFLICT."""
    if connection.dialect.name == "sqlite":
        return sqlite.insert(table)
    from sqlalchemy.dialects import postgresql  # brings asyncio and asyncpg's types, which SQLite does without

    return postgresql.insert(table)

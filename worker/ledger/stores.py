"""Stores: which homes of images and results work on this ledger. Each sees its own series and jobs, and no other's.

Table `stores`, written when a listener starts and with each sweep. Rows of `series` and `jobs` without a store were
written by an older version, when there was one store only.
"""

import sqlalchemy as sa

from worker.ledger.database import Database
from worker.ledger.records import StoreSeen
from worker.ledger.schema import stores


class StoreLedger:
    """Notes the stores that use the ledger."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def note(self, host: str) -> list[StoreSeen]:
        """Notes that the store of this ledger is at work on `host`; returns the other stores, seen last first."""
        row = {"id": self._database.store_id, "host": host, "seen_at": self._database.now()}
        self._database.upsert(stores, row, {name: row[name] for name in ("host", "seen_at")})
        return [one for one in self.all() if one.id != self._database.store_id]

    def still_at_work(self) -> None:
        """Notes that the store of this ledger is at work."""
        mine = sa.update(stores).where(stores.c.id == self._database.store_id)
        self._database.update(mine.values(seen_at=self._database.now()))

    def all(self) -> list[StoreSeen]:
        """Returns the stores that have ever used the ledger, seen last first."""
        return self._database.select(StoreSeen, sa.select(stores).order_by(stores.c.seen_at.desc()))

"""What the ledger's parts share: the connection, the clock and three statements."""

import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from worker.job_spec import JobSpec
from worker.ledger.engine import open_engine
from worker.ledger.states import DeliveryState, JobState, SeriesState

Record = TypeVar("Record")


class Tables:
    """An open database whose tables are up to date.

    Raises:
        LedgerError: the database does not answer.
    """

    def __init__(self, url: str, clock: Callable[[], float] = time.time) -> None:
        self._engine = open_engine(url)
        self._clock = clock

    def close(self) -> None:
        """Closes the connections of this process."""
        self._engine.dispose()

    def _insert(self, table: sa.Table) -> Any:
        dialect = postgresql if self._engine.dialect.name == "postgresql" else sqlite
        return dialect.insert(table)

    def _upsert(self, table: sa.Table, row: Mapping[str, Any], renewed: Mapping[str, Any]) -> None:
        insert = self._insert(table).values(row)
        with self._engine.begin() as connection:
            connection.execute(
                insert.on_conflict_do_update(index_elements=list(table.primary_key.columns), set_=dict(renewed))
            )

    def _changed(self, statement: sa.Update) -> bool:
        with self._engine.begin() as connection:
            return connection.execute(statement).rowcount == 1

    def _change(self, kind: type[Record], statement: sa.Update) -> list[Record]:
        """The rows that the UPDATE changed, as that very statement left them."""
        with self._engine.begin() as connection:
            rows = connection.execute(statement.returning(*statement.table.columns)).mappings().all()
        return [kind(**self._typed(row)) for row in rows]

    def _select(self, kind: type[Record], query: sa.Select[Any]) -> list[Record]:
        with self._engine.connect() as connection:
            rows = connection.execute(query).mappings().all()
        return [kind(**self._typed(row)) for row in rows]

    @staticmethod
    def _typed(row: Mapping[Any, Any]) -> dict[str, Any]:
        values = dict(row)
        if "work" in values:
            values |= {"spec": JobSpec.model_validate(values.pop("work")), "state": JobState(values["state"])}
        elif "destination" in values:
            values["state"] = DeliveryState(values["state"])
        elif "state" in values:
            values["state"] = SeriesState(values["state"])
        return values

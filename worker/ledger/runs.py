"""Archive runs: begun, paused, ended; and the windows in which a run's studies are listed.

Tables `runs`, `windows`, and `entries` where a run is cancelled, ended or forgotten. The command line and the intake's
leader write at once: each transition is one UPDATE guarded by the state that it leaves.

```
run      PLANNED -> LISTING -> RUNNING -> DONE            window   TODO -> DONE | FAILED
                       ^   |       |                                 |  ^- later
                       |   +-------+-> PAUSED                        +-> SPLIT, and two TODO
                       +------ resume -+
         any unfinished state -> CANCELLED
```
"""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from worker.errors import UnknownRunError
from worker.ledger.archive_states import EntryState, RunState, StudyOutcome, WindowState
from worker.ledger.database import Database, insert, upsert
from worker.ledger.records import ListingWindow, Run
from worker.ledger.schema import entries, listing_windows, runs
from worker.ledger.states import those

_AT_WORK: Final = those(RunState, lambda state: state.is_at_work)
_UNFINISHED: Final = those(RunState, lambda state: state.is_unfinished)


@dataclass(frozen=True)
class Span:
    """The dates and times that a window covers, and the further keys of its query."""

    lo: str  # YYYYMMDDHHMMSS
    hi: str
    keys: str = ""


class RunLedger:
    """Adds runs, finds them and makes their transitions, and those of their windows."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(
        self,
        name: str,
        source: Mapping[str, Any],
        *,
        filters: Mapping[str, Any] | None = None,
        limits: Mapping[str, Any] | None = None,
        protocols: Mapping[str, str] | None = None,
        outputs: Mapping[str, Any] | None = None,
        windows: Sequence[Span] = (),
    ) -> Run:
        """Adds a PLANNED run, with the windows that its listing begins with.

        Raises:
            UnknownRunError: when there is a run of that name.
        """
        run_id = secrets.token_hex(6)
        row: dict[str, Any] = {"id": run_id, "name": name, "source": source, "filters": filters or {}}
        row |= {"limits": limits or {}, "protocols": protocols or {}, "outputs": outputs or {}}
        row |= {
            "state": RunState.PLANNED,
            "reason": "",
            "created_at": self._database.now(),
            "store_id": self._database.store_id,
        }
        with self._database.write() as connection:
            added = insert(connection, runs).values(row).on_conflict_do_nothing().returning(runs.c.id)
            if connection.execute(added).first() is None:
                raise UnknownRunError(f"there is a run '{name}' already; give another name, or forget that run first")
            for span in windows:
                _open(connection, run_id, span)
        return self.get(name)

    def get(self, name: str) -> Run:
        """Returns the run of that name.

        Raises:
            UnknownRunError: when there is none.
        """
        found = self._database.select(Run, sa.select(runs).where(runs.c.name == name))
        if not found:
            raise UnknownRunError(f"no run '{name}' in the ledger")
        return found[0]

    def find(self) -> list[Run]:
        """Returns all runs, newest first."""
        return self._database.select(Run, sa.select(runs).order_by(runs.c.created_at.desc(), runs.c.id))

    def at_work(self) -> list[Run]:
        """Returns the runs whose studies may be fetched into this store, oldest first."""
        mine = runs.c.state.in_(_AT_WORK) & self._database.mine(runs)
        query = sa.select(runs).where(mine).order_by(runs.c.created_at, runs.c.id)
        return self._database.select(Run, query)

    def start(self, run: Run) -> bool:
        """Starts a run: PLANNED -> LISTING; False when it is in another state."""
        started = {"state": RunState.LISTING, "started_at": self._database.now()}
        return self._move(run, [RunState.PLANNED], **started)

    def listed(self, run: Run) -> bool:
        """Notes that every study of a run is listed: LISTING -> RUNNING; False while a window is TODO."""
        todo = sa.select(listing_windows.c.lo).where(
            listing_windows.c.run_id == run.id, listing_windows.c.state == WindowState.TODO
        )
        return self._move(run, [RunState.LISTING], ~todo.exists(), state=RunState.RUNNING)

    def pause(self, run: Run, reason: str) -> bool:
        """Pauses a run at work; its studies that are being fetched or segmented go on."""
        return self._move(run, _AT_WORK, state=RunState.PAUSED, reason=reason)

    def resume(self, run: Run) -> bool:
        """Lets a paused run go on: PAUSED -> LISTING, from where it goes on to RUNNING when all is listed."""
        return self._move(run, [RunState.PAUSED], state=RunState.LISTING, reason="")

    def end(self, run: Run) -> bool:
        """Ends a run: RUNNING -> DONE; False while a study of it has no outcome."""
        open_ones = sa.select(entries.c.study_uid).where(entries.c.run_id == run.id, entries.c.state != EntryState.DONE)
        ended = {"state": RunState.DONE, "ended_at": self._database.now()}
        return self._move(run, [RunState.RUNNING], ~open_ones.exists(), **ended)

    def cancel(self, run: Run) -> bool:
        """Cancels an unfinished run: studies that are only listed end as cancelled, those under way come to theirs."""
        now = self._database.now()
        ended = {"state": EntryState.DONE, "outcome": StudyOutcome.CANCELLED, "ended_at": now, "reason": ""}
        listed = (entries.c.run_id == run.id) & (entries.c.state == EntryState.LISTED)
        with self._database.write() as connection:
            cancelled = _moving(run, _UNFINISHED).values(state=RunState.CANCELLED, ended_at=now)
            if not connection.execute(cancelled).rowcount:
                return False
            connection.execute(sa.update(entries).where(listed).values(ended))
        return True

    def forget(self, run: Run) -> bool:
        """Removes a run that is not at work, with its windows and entries; never jobs or results. False when it is."""
        idle = (runs.c.id == run.id) & runs.c.state.not_in(_AT_WORK)
        with self._database.write() as connection:
            if connection.execute(sa.select(runs.c.id).where(idle)).first() is None:
                return False
            for table in (entries, listing_windows):
                connection.execute(sa.delete(table).where(table.c.run_id == run.id))
            return connection.execute(sa.delete(runs).where(idle)).rowcount == 1

    def next_window(self, run: Run) -> ListingWindow | None:
        """Returns the earliest window that is to be asked about now; None when there is none."""
        due = (listing_windows.c.state == WindowState.TODO) & (listing_windows.c.next_try_at <= self._database.now())
        query = sa.select(listing_windows).where(listing_windows.c.run_id == run.id, due)
        query = query.order_by(listing_windows.c.lo, listing_windows.c.hi, listing_windows.c["keys"]).limit(1)
        return next(iter(self._database.select(ListingWindow, query)), None)

    def window_later(self, window: ListingWindow, reason: str, wait_seconds: float) -> bool:
        """Puts a window off, since the PACS did not answer; False when another process has ended it."""
        later = {"reason": reason, "next_try_at": self._database.now() + wait_seconds}
        return self._database.update(_todo(window).values(attempts=listing_windows.c.attempts + 1, **later)) == 1

    def window_failed(self, window: ListingWindow, reason: str) -> bool:
        """Ends a window whose studies the PACS does not list in full: TODO -> FAILED."""
        return self._database.update(_todo(window).values(state=WindowState.FAILED, reason=reason)) == 1

    def split(self, window: ListingWindow, parts: Sequence[Span]) -> bool:
        """Replaces a window by narrower ones, in one transaction: TODO -> SPLIT; False when it has ended."""
        with self._database.write() as connection:
            if not connection.execute(_todo(window).values(state=WindowState.SPLIT)).rowcount:
                return False
            for part in parts:
                _open(connection, window.run_id, part)
        return True

    def window_done(self, window: ListingWindow, found: Sequence[Mapping[str, Any]]) -> bool:
        """Ends a window with all its studies as LISTED entries, in one transaction; False when it has ended.

        `found`: columns of `entries`, `study_uid` at least. A study that is an entry already stays as it is.
        """
        with self._database.write() as connection:
            if not connection.execute(_todo(window).values(state=WindowState.DONE, matches=len(found))).rowcount:
                return False
            add_entries(connection, window.run_id, found, self._database.now())
        return True

    def _move(self, run: Run, before: Sequence[RunState], *conditions: sa.ColumnElement[bool], **values: Any) -> bool:
        return self._database.update(_moving(run, before).where(*conditions).values(values)) == 1


def add_entries(connection: sa.Connection, run_id: str, found: Sequence[Mapping[str, Any]], now: float) -> None:
    """Adds studies to a run as LISTED entries; one that is there stays as it is. Part of the caller's transaction."""
    for facts in found:
        row = {"run_id": run_id, "state": EntryState.LISTED, "listed_at": now, "next_try_at": now} | dict(facts)
        upsert(connection, entries, row, {})


def _moving(run: Run, before: Sequence[RunState]) -> sa.Update:
    """Returns the UPDATE of a run that is in one of these states."""
    return sa.update(runs).where(runs.c.id == run.id, runs.c.state.in_(before))


def _open(connection: sa.Connection, run_id: str, span: Span) -> None:
    """Adds a window that is to be asked about."""
    row = {"run_id": run_id, "lo": span.lo, "hi": span.hi, "keys": span.keys, "state": WindowState.TODO}
    upsert(connection, listing_windows, row, {})


def _todo(window: ListingWindow) -> sa.Update:
    """Returns the UPDATE of a window that is still to be asked about."""
    table = listing_windows
    key = (table.c.run_id == window.run_id) & (table.c.lo == window.lo) & (table.c.hi == window.hi)
    return sa.update(table).where(key, table.c["keys"] == window.keys, table.c.state == WindowState.TODO)

"""Entries: the studies of archive runs, from their listing to exactly one outcome.

Table `entries`, and `runs` where a retry starts a run again. Fetchers and the intake's leader write at once: each
transition is one UPDATE guarded by the state that it leaves and, where a fetcher makes it, by the number of its claim.

```
         claim             fetched            jobs_made
LISTED ---------> FETCHING ---------> FETCHED ---------> WAITING
   ^  <------------- | postpone,         | fetch_again      | fetch_again (images went missing)
   |                 | lost lease        v                  v
   +--------------------------------- LISTED             LISTED
any of these -> DONE(outcome) -> LISTED by a retry
```
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from worker.ledger.archive_states import EntryState, RunState, StudyOutcome
from worker.ledger.database import Database
from worker.ledger.records import Entry, Run
from worker.ledger.runs import add_entries
from worker.ledger.schema import entries, runs
from worker.ledger.states import those

_OPEN: Final = those(EntryState, lambda state: state.is_open)
_STORED: Final = (EntryState.FETCHED, EntryState.WAITING)


@dataclass(frozen=True)
class OpenStudies:
    """The studies of a run that are fetched or being fetched and have no outcome yet."""

    count: int
    bytes: int


class EntryLedger:
    """Lists the studies of a run, gives them to fetchers, and writes their outcomes."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, run: Run, found: Sequence[Mapping[str, Any]]) -> None:
        """Adds studies as LISTED entries: columns of `entries`, `study_uid` at least. One that is there stays."""
        with self._database.write() as connection:
            add_entries(connection, run.id, found, self._database.now())

    def of_run(self, run: Run, state: EntryState | None = None) -> list[Entry]:
        """Returns the entries of a run, of one state or of all, in the order in which they are fetched."""
        query = sa.select(entries).where(entries.c.run_id == run.id)
        query = query if state is None else query.where(entries.c.state == state)
        return self._database.select(Entry, query.order_by(entries.c.study_date, entries.c.study_uid))

    def get(self, run_id: str, study_uid: str) -> Entry | None:
        """Returns one entry; None when the run has no such study."""
        mine = (entries.c.run_id == run_id) & (entries.c.study_uid == study_uid)
        return next(iter(self._database.select(Entry, sa.select(entries).where(mine))), None)

    def counts(self, run: Run) -> Counter[tuple[EntryState, StudyOutcome | None]]:
        """Returns how many studies of a run are in each state, and how many that are DONE have each outcome."""
        query = sa.select(entries.c.state, entries.c.outcome, sa.func.count().label("studies"))
        grouped = query.where(entries.c.run_id == run.id).group_by(entries.c.state, entries.c.outcome)
        with self._database.read() as connection:
            rows = connection.execute(grouped).all()
        return Counter(
            {(EntryState(row.state), StudyOutcome(row.outcome) if row.outcome else None): row.studies for row in rows}
        )

    def open_studies(self, run: Run) -> OpenStudies:
        """Returns how many studies of a run are on the disk or on their way there, and the bytes of those."""
        query = sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(entries.c.bytes), 0))
        with self._database.read() as connection:
            count, size = connection.execute(query.where(entries.c.run_id == run.id, entries.c.state.in_(_OPEN))).one()
        return OpenStudies(int(count), int(size))

    def due(self, run: Run, limit: int) -> list[str]:
        """Returns the UIDs of the first `limit` studies that are to be fetched now."""
        due = (entries.c.state == EntryState.LISTED) & (entries.c.next_try_at <= self._database.now())
        query = sa.select(entries.c.study_uid).where(entries.c.run_id == run.id, due)
        with self._database.read() as connection:
            ordered = query.order_by(entries.c.study_date, entries.c.study_uid).limit(limit)
            return [str(uid) for uid in connection.scalars(ordered)]

    def claim(self, run_id: str, study_uid: str, lease_seconds: float) -> Entry | None:
        """Claims a study: LISTED -> FETCHING, and counts the attempt; None if not due, or its run is not at work."""
        now = self._database.now()
        working = runs.c.state.in_(those(RunState, lambda state: state.is_at_work))
        alive = sa.select(runs.c.id).where(runs.c.id == run_id, working, self._database.mine(runs)).exists()
        due = (entries.c.state == EntryState.LISTED) & (entries.c.next_try_at <= now)
        claimed = self._database.update_returning(
            Entry,
            sa.update(entries)
            .where(entries.c.run_id == run_id, entries.c.study_uid == study_uid, due, alive)
            .values(
                state=EntryState.FETCHING,
                attempts=entries.c.attempts + 1,
                claims=entries.c.claims + 1,
                lease_until=now + lease_seconds,
            ),
        )
        return claimed[0] if claimed else None

    def renew(self, entry: Entry, lease_seconds: float) -> bool:
        """Extends the lease of a claimed study; False if the claim is lost."""
        return self._leave(entry, [EntryState.FETCHING], lease_until=self._database.now() + lease_seconds)

    def postpone(self, entry: Entry, reason: str, wait_seconds: float, *, counts: bool = True) -> bool:
        """Puts a claimed study off: FETCHING -> LISTED; False if the claim is lost.

        `counts`: whether the attempt counts. It does not where the source does not answer: no study is to blame.
        """
        later = {"state": EntryState.LISTED, "reason": reason, "next_try_at": self._database.now() + wait_seconds}
        later |= {} if counts else {"attempts": entries.c.attempts - 1}
        return self._leave(entry, [EntryState.FETCHING], **later)

    def fetched(self, entry: Entry, *, images: int, size: int, seconds: float) -> bool:
        """Notes that a claimed study is in the store: FETCHING -> FETCHED; False if the claim is lost."""
        here: dict[str, Any] = {"images": images, "bytes": size, "fetch_s": seconds, "reason": ""}
        here |= {"fetched_at": self._database.now(), "state": EntryState.FETCHED}
        return self._leave(entry, [EntryState.FETCHING], **here)

    def jobs_made(self, entry: Entry) -> bool:
        """Notes that jobs of a study are at work: FETCHED -> WAITING."""
        return self._leave(entry, [EntryState.FETCHED], state=EntryState.WAITING)

    def fetch_again(self, entry: Entry, reason: str) -> bool:
        """Has a study fetched again whose images went missing before its jobs ended: FETCHED or WAITING -> LISTED."""
        again = {"state": EntryState.LISTED, "reason": reason, "next_try_at": self._database.now()}
        return self._leave(entry, _STORED, **again)

    def end(
        self, entry: Entry, outcome: StudyOutcome, reason: str = "", detail: Mapping[str, Any] | None = None
    ) -> bool:
        """Writes the one outcome of a study, with the state DONE; False if the entry has changed since it was read."""
        ended = {"state": EntryState.DONE, "outcome": outcome, "reason": reason, "outcome_detail": dict(detail or {})}
        return self._leave(entry, [entry.state], ended_at=self._database.now(), **ended)

    def retry(self, run: Run, outcomes: Collection[StudyOutcome]) -> int:
        """Lists the studies again that ended with one of these outcomes; returns how many. A DONE run goes on."""
        now = self._database.now()
        fresh = {"state": EntryState.LISTED, "outcome": None, "reason": "", "attempts": 0, "next_try_at": now}
        mine = (entries.c.run_id == run.id) & (entries.c.state == EntryState.DONE) & entries.c.outcome.in_(outcomes)
        alive = sa.select(runs.c.id).where(runs.c.id == run.id, runs.c.state != RunState.CANCELLED).exists()
        with self._database.write() as connection:
            again = sa.update(entries).where(mine, alive).values(fresh | {"ended_at": None, "outcome_detail": {}})
            count = connection.execute(again).rowcount
            if count:
                ended = (runs.c.id == run.id) & (runs.c.state == RunState.DONE)
                connection.execute(sa.update(runs).where(ended).values(state=RunState.RUNNING, ended_at=None))
        return count

    def free_lost_leases(self, max_attempts: int) -> list[Entry]:
        """Lists studies again whose fetcher fell silent, or ends them after the last attempt; returns those ended."""
        now = self._database.now()
        silent = (entries.c.state == EntryState.FETCHING) & (entries.c.lease_until < now)
        freed = sa.update(entries).where(silent)
        reason = "the fetcher died or fell silent"
        failed = {"state": EntryState.DONE, "outcome": StudyOutcome.FETCH_FAILED, "ended_at": now, "reason": reason}
        spent = freed.where(entries.c.attempts >= max_attempts).values(failed)
        ended = self._database.update_returning(Entry, spent)
        left = freed.where(entries.c.attempts < max_attempts)
        self._database.update(left.values(state=EntryState.LISTED, reason=reason, next_try_at=now))
        return ended

    def _leave(self, entry: Entry, before: Sequence[EntryState], **values: Any) -> bool:
        """Changes an entry that is in one of these states and has had no other claim since it was read."""
        mine = (entries.c.run_id == entry.run_id) & (entries.c.study_uid == entry.study_uid)
        same = entries.c.state.in_(before) & (entries.c.claims == entry.claims)
        return self._database.update(sa.update(entries).where(mine, same).values(values)) == 1

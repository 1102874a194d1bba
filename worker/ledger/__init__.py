"""The ledger: the database of facts about series, jobs and deliveries. Only this package writes it.

```
Ledger
  .series        what arrived, what is settled, why a protocol took it        tables series, decisions, decision_texts
  .studies       accession numbers; what people know a study by               table studies
  .reports       radiology reports and their links                            table reports
  .jobs          a job from QUEUED to the end of its segmentation             table jobs
  .listing       jobs as people look for them                                 reads jobs, studies
  .best_volume   only the job on a study's best volume lives                  table jobs
  .deliveries    results on their way to a destination; the job follows       tables deliveries, jobs
  .commitments   storage commitment of what was delivered                     tables deliveries, jobs
  .retention     what may be removed from the disk                            reads; notes removals in jobs
  .runs          archive runs, and the parts of their listings                 tables runs, windows, entries
  .entries       the studies of archive runs, each with one outcome            tables entries, runs
  .stores        which homes of images and results work on this ledger        table stores
  .clock         the time, and its repair                                     tables series, jobs, deliveries
```

Several processes work on it at once, each with a `Ledger` of its own. Each transition is one UPDATE guarded by the
state it leaves, so of any number of workers that try to claim a job exactly one sees a changed row; the others get
None or False. A process that is killed half way leaves the state as it was before the transition, or after it.

The queue may be lost: `jobs.due`, `deliveries.due` and `commitments.due` say what to enqueue again. The ledger itself
may be lost, too: `voxtell-dicom ledger rebuild` makes it again from the images and reports on the disk.
"""

import time
from collections.abc import Callable

from worker.ledger.best_volume import BestVolumeLedger
from worker.ledger.clock import LedgerClock
from worker.ledger.commitments import CommitmentLedger
from worker.ledger.database import Database
from worker.ledger.deliveries import DeliveryLedger
from worker.ledger.entries import EntryLedger
from worker.ledger.jobs import JobLedger
from worker.ledger.listing import JobFilter, ListingLedger
from worker.ledger.records import Decision, Delivery, Job, Report, Series, StudyFacts
from worker.ledger.reports import ReportLedger
from worker.ledger.retention import RetentionLedger
from worker.ledger.runs import RunLedger
from worker.ledger.series import SeriesLedger
from worker.ledger.states import DeliveryState, JobState, SeriesState
from worker.ledger.stores import StoreLedger
from worker.ledger.studies import StudyLedger
from worker.masking import SecretUrl

__all__ = [
    "Decision",
    "Delivery",
    "DeliveryState",
    "Job",
    "JobFilter",
    "JobState",
    "Ledger",
    "Report",
    "Series",
    "SeriesState",
    "StudyFacts",
]


class Ledger:
    """The ledger in SQLite or PostgreSQL, in parts that share one database. Safe to use from several threads.

    Opening it makes the tables or brings them up to date. Open it after a fork: connections must not be shared by
    processes. Every method of its parts raises LedgerError when the database does not answer.

    Args:
        url: SQLAlchemy URL of the database.
        clock: returns the time in seconds since 1970-01-01 UTC.
        store_id: whose series are settled, jobs done and results sent here (`Store.id`); None sees those of all stores.

    Raises:
        LedgerError: when the database does not answer or holds other tables.
    """

    def __init__(
        self, url: str | SecretUrl, clock: Callable[[], float] = time.time, *, store_id: str | None = None
    ) -> None:
        self.database = Database(url, clock, store_id=store_id)
        self.stores = StoreLedger(self.database)
        self.clock = LedgerClock(self.database)
        self.series = SeriesLedger(self.database)
        self.studies = StudyLedger(self.database)
        self.reports = ReportLedger(self.database)
        self.jobs = JobLedger(self.database)
        self.listing = ListingLedger(self.database)
        self.best_volume = BestVolumeLedger(self.database)
        self.deliveries = DeliveryLedger(self.database, self.jobs)
        self.commitments = CommitmentLedger(self.database, self.jobs)
        self.retention = RetentionLedger(self.database)
        self.runs = RunLedger(self.database)
        self.entries = EntryLedger(self.database)

    def close(self) -> None:
        """Closes the connections of this process."""
        self.database.close()

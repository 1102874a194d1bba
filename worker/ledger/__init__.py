"""The ledger: the facts about series, jobs and deliveries. Only this package writes them.

Several processes work on it at once. Each transition is one UPDATE guarded by the state it leaves, so of any number of
workers that try to claim a job exactly one sees a changed row. The queue may be lost: `to_segment` and `to_deliver` say
what to enqueue again.
"""

from worker.ledger.best_volume import RivalFacts
from worker.ledger.clock_repair import ClockFacts
from worker.ledger.records import Decision, Delivery, Job, Report, Series
from worker.ledger.reports import ReportFacts
from worker.ledger.retention import RetentionFacts
from worker.ledger.series import SeriesFacts
from worker.ledger.states import DeliveryState, JobState, SeriesState
from worker.ledger.studies import StudyFacts

__all__ = ["Decision", "Delivery", "DeliveryState", "Job", "JobState", "Ledger", "Report", "Series", "SeriesState"]


class Ledger(SeriesFacts, ClockFacts, ReportFacts, RetentionFacts, RivalFacts, StudyFacts):
    """Facts in SQLite or PostgreSQL. Safe to use from several threads and processes.

    Raises:
        LedgerError: the database does not answer.
    """

"""Everything the ledger knows of one study: for the question why it was segmented, or was not."""

import sqlalchemy as sa

from worker.ledger.records import Job, Series
from worker.ledger.schema import jobs, series
from worker.ledger.tables import Tables


class StudyFacts(Tables):
    """Questions about one study."""

    def jobs_of_study(self, study_uid: str) -> list[Job]:
        """Its jobs, oldest first."""
        query = sa.select(jobs).where(jobs.c.study_uid == study_uid)
        return self._select(Job, query.order_by(jobs.c.created_at, jobs.c.id))

    def newest_series(self) -> Series | None:
        """The series that got the last image of all, of any study."""
        return next(iter(self._select(Series, sa.select(series).order_by(series.c.last_at.desc()).limit(1))), None)

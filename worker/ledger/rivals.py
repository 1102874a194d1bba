"""Facts about rivals: the jobs of a protocol that takes only the best volume of a study, on other volumes of it."""

import sqlalchemy as sa

from worker.jobs import Work
from worker.ledger.schema import jobs
from worker.ledger.states import JobState
from worker.ledger.tables import Tables

_UNDECIDED = (JobState.QUEUED, JobState.SEGMENTING, JobState.REVIEW)  # nothing has left the node yet
_NO_RESULT = (*_UNDECIDED, JobState.FAILED, JobState.CANCELLED)


class RivalFacts(Tables):
    """Which volumes of a study are done, and which jobs a better volume makes needless."""

    def volumes_done(self, study_uid: str, protocol: str) -> set[tuple[str, str]]:
        """(series UID, volume's name or "") of the study that the protocol has segmented, with results to be sent."""
        query = sa.select(jobs.c.series_uid, _VOLUME.label("volume")).where(
            jobs.c.study_uid == study_uid, jobs.c.protocol == protocol, jobs.c.state.not_in(_NO_RESULT)
        )
        with self._engine.connect() as connection:
            return {(str(row.series_uid), str(row.volume)) for row in connection.execute(query)}

    def replace_rivals(self, work: Work) -> bool:
        """Cancels the jobs of this study and protocol on other volumes that have sent nothing; says whether there were.

        They are superseded by this work, also while a worker is at one of them.
        """
        other = (jobs.c.series_uid != work.series_uid) | ((work.volume or "") != _VOLUME)
        rivals = (jobs.c.study_uid == work.study_uid) & (jobs.c.protocol == work.protocol) & other
        reason = f"superseded by job {work.job_id}: a better volume of the study arrived"
        with self._engine.begin() as connection:
            cancelled = connection.execute(
                sa.update(jobs)
                .where(rivals, jobs.c.state.in_(_UNDECIDED))
                .values(state=JobState.CANCELLED, reason=reason, superseded_by=work.job_id, updated_at=self._clock())
            )
            return bool(cancelled.rowcount)


_VOLUME = sa.func.coalesce(jobs.c.work["volume"].as_string(), "")

"""A protocol that takes only the best volume of a study: jobs on other volumes of it end when a better one arrives.

Writes table `jobs`, in one transaction; the intake calls it.
"""

import sqlalchemy as sa

from worker.job_spec import JobSpec
from worker.ledger.database import Database
from worker.ledger.known_work import known_id
from worker.ledger.schema import jobs
from worker.ledger.states import JobState, those


class BestVolumeLedger:
    """Which volumes of a study are done, and which jobs a better volume makes needless."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def volumes_done(self, study_uid: str, protocol: str) -> set[tuple[str, str]]:
        """(series UID, volume's name or "") of the study that the protocol has segmented, with results to be sent."""
        done = jobs.c.state.in_(those(JobState, lambda state: state.has_results))
        mine = (jobs.c.study_uid == study_uid) & (jobs.c.protocol == protocol)
        query = sa.select(jobs.c.series_uid, _VOLUME.label("volume")).where(mine, done)
        with self._database.read() as connection:
            return {(str(row.series_uid), str(row.volume)) for row in connection.execute(query)}

    def prefer(self, spec: JobSpec) -> bool:
        """Makes the job of this work the one of its study and protocol; says whether it starts again.

        Jobs on other volumes that have sent nothing are CANCELLED and superseded by it, also while a worker is at one
        of them. It is QUEUED again if it had been cancelled for a volume that was better then.
        """
        now = self._database.now()
        other = (jobs.c.series_uid != spec.series_uid) | ((spec.volume or "") != _VOLUME)
        rivals = (jobs.c.study_uid == spec.study_uid) & (jobs.c.protocol == spec.protocol) & other
        again = {"state": JobState.QUEUED, "reason": "", "superseded_by": None, "attempts": 0, "updated_at": now}
        unsent = jobs.c.state.in_(those(JobState, lambda state: state.is_unsent))
        with self._database.write() as connection:
            job_id = known_id(connection, spec) or spec.job_id
            reason = f"superseded by job {job_id}: a better volume of the study arrived"
            cancelled = {"state": JobState.CANCELLED, "reason": reason, "superseded_by": job_id, "updated_at": now}
            connection.execute(sa.update(jobs).where(rivals, unsent, jobs.c.id != job_id).values(cancelled))
            mine = (jobs.c.id == job_id) & (jobs.c.state == JobState.CANCELLED) & jobs.c.superseded_by.is_not(None)
            return bool(connection.execute(sa.update(jobs).where(mine).values(again)).rowcount)


_VOLUME = sa.func.coalesce(jobs.c.work["volume"].as_string(), "")

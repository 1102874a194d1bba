"""Jobs of protocols with `take: best`: only the job on the best volume of a study goes on.

The intake thread calls it when it adds a job. Writes table `jobs`, in one transaction.
"""

import sqlalchemy as sa

from worker.job_spec import JobSpec
from worker.ledger.database import Database
from worker.ledger.known_work import known_id
from worker.ledger.schema import jobs
from worker.ledger.states import JobState, those


class BestVolumeLedger:
    """Says which volumes of a study are done, and cancels the jobs that a better volume makes needless."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def volumes_done(self, study_uid: str, protocol: str) -> set[tuple[str, str]]:
        """Returns (Series Instance UID, volume's name or "") of the study's volumes that have results of the protocol.

        Results that wait for review or have failed do not count: a better volume may still replace them.
        """
        done = jobs.c.state.in_(those(JobState, lambda state: state.has_results))
        mine = (jobs.c.study_uid == study_uid) & (jobs.c.protocol == protocol)
        query = sa.select(jobs.c.series_uid, _VOLUME.label("volume")).where(mine, done, self._database.mine(jobs))
        with self._database.read() as connection:
            return {(str(row.series_uid), str(row.volume)) for row in connection.execute(query)}

    def prefer(self, spec: JobSpec) -> bool:
        """Makes the job of this work the only one of its study and protocol; returns whether it starts again.

        Jobs on other volumes that have sent nothing become CANCELLED and superseded by it, also while a worker is at
        one. The job itself goes CANCELLED -> QUEUED if it had been cancelled for a volume that was better at the time.
        """
        now = self._database.now()
        other = (jobs.c.series_uid != spec.series_uid) | ((spec.volume or "") != _VOLUME)
        rivals = (jobs.c.study_uid == spec.study_uid) & (jobs.c.protocol == spec.protocol) & other
        rivals &= self._database.mine(jobs)
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

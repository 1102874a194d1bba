"""Finds the job that does a piece of work already, whatever id the version that wrote it gave to it."""

import sqlalchemy as sa

from worker.job_spec import JobSpec
from worker.ledger.schema import jobs


def known_id(connection: sa.Connection, spec: JobSpec) -> str | None:
    """Returns the id of the job that does this work; None when there is none. Part of the caller's transaction.

    Specifications are compared, not ids: what ids are made of may change from version to version, and work that was
    done before an upgrade must not be done again after it. Of several jobs the newest that is not superseded counts.
    """
    mine = (jobs.c.study_uid == spec.study_uid) & (jobs.c.series_uid == spec.series_uid)
    query = (
        sa.select(jobs.c.id, jobs.c.work)
        .where(mine, jobs.c.protocol == spec.protocol)
        .order_by(jobs.c.superseded_by.is_not(None), jobs.c.created_at.desc(), jobs.c.id)
    )
    rows = connection.execute(query)
    return next((str(row.id) for row in rows if spec.same_work(JobSpec.model_validate(row.work))), None)

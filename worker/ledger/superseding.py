"""Jobs on the same volume and protocol: a later job supersedes those whose input has changed.

Conditions on table `jobs`, and parts of a transaction that the caller has begun.
"""

import sqlalchemy as sa

from worker.job_spec import JobSpec
from worker.ledger.schema import jobs
from worker.ledger.states import JobState, those


def on_volume_of(spec: JobSpec) -> sa.ColumnElement[bool]:
    """Jobs of the same protocol on the same volume; a series that was one volume may have become several."""
    volume = jobs.c.work["volume"].as_string()
    same = sa.true() if spec.volume is None else volume.is_(None) | (volume == spec.volume)
    return (
        (jobs.c.study_uid == spec.study_uid)
        & (jobs.c.series_uid == spec.series_uid)
        & (jobs.c.protocol == spec.protocol)
        & same
    )


def came_before_removal(connection: sa.Connection, spec: JobSpec) -> bool:
    """Whether the work is on a part of the images of a job whose images were removed: they are being sent again."""
    removed = sa.select(jobs.c.work).where(on_volume_of(spec), jobs.c.cleaned_at.is_not(None))
    known = (set(row.work["instances"]) for row in connection.execute(removed))
    return any(set(spec.instances) < instances for instances in known)


def supersede_older(connection: sa.Connection, spec: JobSpec, now: float) -> None:
    """Marks the older jobs on the volume as superseded; those without results that may be sent are CANCELLED."""
    older = on_volume_of(spec) & (jobs.c.id != spec.job_id) & jobs.c.superseded_by.is_(None)
    connection.execute(sa.update(jobs).where(older).values(superseded_by=spec.job_id, updated_at=now))
    connection.execute(
        sa.update(jobs)
        .where(jobs.c.superseded_by == spec.job_id)
        .where(jobs.c.state.in_(those(JobState, lambda state: state.is_unsent)))
        .values(state=JobState.CANCELLED, reason=f"superseded by job {spec.job_id}: later images arrived")
    )


def replaces(spec: JobSpec, older: JobSpec) -> bool:
    """Whether the objects of `work` replace those of `older`, which is on the same series by the same protocol."""
    if older.shadow and not spec.shadow:
        return False
    return spec.volume == older.volume or not set(spec.instances).isdisjoint(older.instances)

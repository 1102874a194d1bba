"""Superseding: a later job on the same volume and protocol takes the place of those whose input has changed.

Functions with a `connection` are part of a transaction that the caller has begun.
"""

from collections.abc import Callable, Set

import sqlalchemy as sa

from worker.job_spec import JobSpec
from worker.ledger.schema import jobs
from worker.ledger.states import JobState, those


def on_volume_of(spec: JobSpec) -> sa.ColumnElement[bool]:
    """Returns a condition: jobs of the same protocol on the same volume, or on its series where that was one volume."""
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


def supersede_older(connection: sa.Connection, spec: JobSpec, job_id: str, now: float) -> None:
    """Marks the other jobs on the volume as superseded by this one; those that have sent nothing become CANCELLED.

    Where the images came again with other content, jobs that are being sent become so, too: what has not left yet must
    not, since it may stand under the wrong patient.
    """
    candidates = sa.select(jobs.c.id, jobs.c.work).where(
        on_volume_of(spec), jobs.c.id != job_id, jobs.c.superseded_by.is_(None)
    )
    rows = connection.execute(candidates).all()
    found = {str(row.id): JobSpec.model_validate(row.work) for row in rows}
    older = {other: its for other, its in found.items() if is_same_volume(spec, its)}
    wrong = {other for other, its in older.items() if its.revision != spec.revision}
    connection.execute(sa.update(jobs).where(jobs.c.id.in_(older)).values(superseded_by=job_id, updated_at=now))
    _cancel(connection, wrong, lambda state: state.is_unfinished, job_id, "its images came again with other content")
    _cancel(connection, older.keys() - wrong, lambda state: state.is_unsent, job_id, "later images arrived")


def _cancel(connection: sa.Connection, job_ids: Set[str], which: Callable[[JobState], bool], by: str, why: str) -> None:
    in_state = jobs.c.state.in_(those(JobState, which))
    reason = f"superseded by job {by}: {why}"
    connection.execute(
        sa.update(jobs).where(jobs.c.id.in_(job_ids), in_state).values(state=JobState.CANCELLED, reason=reason)
    )


def is_same_volume(spec: JobSpec, older: JobSpec) -> bool:
    """Whether a job among those `on_volume_of` is on the same volume, although a name may have been added to it.

    The first volume of a series has no name until a second one arrives, which shares no image with it.
    """
    return spec.volume == older.volume or not set(spec.instances).isdisjoint(older.instances)


def replaces(spec: JobSpec, older: JobSpec) -> bool:
    """Whether the objects of `spec` replace those of `older`, which is among the jobs `on_volume_of` it."""
    return is_same_volume(spec, older) and (spec.shadow or not older.shadow)

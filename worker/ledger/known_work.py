"""Finds the job that does a piece of work already, whatever id the version that wrote it gave to it."""

from collections.abc import Iterator
from typing import Final

import sqlalchemy as sa

from worker.job_spec import JobSpec
from worker.ledger.schema import jobs, stores
from worker.ledger.states import CANCELLED_BY_A_PERSON, IMAGES_REPLACED, JobState, those

ALIVE_SECONDS: Final = 600.0  # a store whose listener was not at work for longer is no more


def known_id(connection: sa.Connection, spec: JobSpec) -> str | None:
    """Returns the id of the job that does this work; None when there is none. Part of the caller's transaction.

    Specifications are compared, not ids: what ids are made of may change from version to version, and work that was
    done before an upgrade must not be done again after it. Of several jobs the newest that is not superseded counts.
    """
    return next((job_id for job_id, older in _older(connection, spec) if spec.same_work(older)), None)


def revised(connection: sa.Connection, spec: JobSpec, counted: str) -> JobSpec:
    """Returns a specification with the revision of the job that was made for the same content of the same images.

    The first content of images has no revision, unless the ledger has a job on another one: then it gets a revision,
    too. `counted`: the revision that a job of before has, which holds no content.
    """
    found = [older for _, older in _older(connection, spec) if is_same_but_for_content(spec, older)]
    known = [older for older in found if older.content == spec.content]
    known += [older for older in found if not older.content and older.revision == counted]
    if known:
        return spec.model_copy(update={"revision": known[0].revision})
    taken = any(older.revision == spec.revision for older in found)
    return spec.model_copy(update={"revision": spec.content}) if taken else spec


def is_same_but_for_content(spec: JobSpec, older: JobSpec) -> bool:
    """Whether two jobs do the same work, on whatever content of the images."""
    return spec.model_copy(update={"revision": ""}).same_work(older.model_copy(update={"revision": ""}))


def was_replaced(connection: sa.Connection, spec: JobSpec, job_id: str) -> bool:
    """Whether the job of that id, which does this work, ended or was superseded because of other content."""
    row = connection.execute(sa.select(jobs).where(jobs.c.id == job_id)).one()
    if row.state == JobState.CANCELLED and row.reason == CANCELLED_BY_A_PERSON:
        return False
    if row.superseded_by is None:
        return bool(row.state == JobState.CANCELLED and row.reason == IMAGES_REPLACED)
    standing = sa.select(jobs.c.work).where(jobs.c.superseded_by.is_(None), jobs.c.series_uid == spec.series_uid)
    others = (JobSpec.model_validate(other.work) for other in connection.execute(standing))
    return any(is_same_but_for_content(spec, other) and other.revision != spec.revision for other in others)


def adopt(
    connection: sa.Connection, job_id: str, store_id: str | None, now: float, *, images_came: bool = False
) -> None:
    """Moves a job to the store `store_id` where that of its images is no more: its home was lost, say.

    With `images_came`, since they were sent here, it moves from a store at work, too, unless that is busy with it or
    with its results. None moves nothing.
    """
    at_work = sa.select(stores.c.id).where(stores.c.id == jobs.c.store_id, stores.c.seen_at > now - ALIVE_SECONDS)
    free = ~at_work.exists()
    if images_came:
        free |= ~jobs.c.state.in_(those(JobState, lambda state: state.is_unfinished and state is not JobState.QUEUED))
    theirs = (jobs.c.id == job_id) & (jobs.c.store_id != store_id)
    if store_id is not None:
        connection.execute(sa.update(jobs).where(theirs, free).values(store_id=store_id))


def _older(connection: sa.Connection, spec: JobSpec) -> Iterator[tuple[str, JobSpec]]:
    """Yields the jobs of a protocol on a series with their ids, those first that are not superseded, newest first."""
    mine = (jobs.c.study_uid == spec.study_uid) & (jobs.c.series_uid == spec.series_uid)
    query = (
        sa.select(jobs.c.id, jobs.c.work)
        .where(mine, jobs.c.protocol == spec.protocol)
        .order_by(jobs.c.superseded_by.is_not(None), jobs.c.created_at.desc(), jobs.c.id)
    )
    for row in connection.execute(query):
        yield str(row.id), JobSpec.model_validate(row.work)

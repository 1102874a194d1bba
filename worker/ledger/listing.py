"""Jobs as people look for them: by state, time, study and patient, each with what people know its study by.

Reads tables `jobs` and `studies`.
"""

from dataclasses import dataclass

import sqlalchemy as sa

from worker.ledger.database import Database
from worker.ledger.records import Job, StudyFacts, as_record
from worker.ledger.schema import jobs, studies
from worker.ledger.states import JobState
from worker.ledger.studies import fact_columns


@dataclass(frozen=True)
class JobFilter:
    """Which jobs are listed; what is None takes every one."""

    state: JobState | None = None
    since: float | None = None  # changed at this time or later, in seconds since 1970-01-01 UTC
    study: str | None = None  # the study's UID or its accession number
    patient: str | None = None  # the Patient ID, or a part of the name, in capitals or not


class ListingLedger:
    """Lists jobs for people."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def jobs(self, wanted: JobFilter, limit: int | None = None) -> list[tuple[Job, StudyFacts]]:
        """Returns the newest jobs, newest first, each with the facts of its study."""
        query = (
            sa.select(jobs, *fact_columns())
            .outerjoin(studies, studies.c.study_uid == jobs.c.study_uid)
            .where(*_conditions(wanted))
            .order_by(jobs.c.created_at.desc(), jobs.c.id)
            .limit(limit)
        )
        with self._database.read() as connection:
            rows = connection.execute(query).mappings().all()
        return [(as_record(Job, {c.name: row[c] for c in jobs.columns}), _facts(row)) for row in rows]

    def count(self, wanted: JobFilter) -> int:
        """Returns how many jobs there are."""
        query = sa.select(sa.func.count()).select_from(jobs.outerjoin(studies, studies.c.study_uid == jobs.c.study_uid))
        with self._database.read() as connection:
            return int(connection.scalar(query.where(*_conditions(wanted))) or 0)


def _facts(row: sa.RowMapping) -> StudyFacts:
    """Returns what is noted of the study; empty where it has no row."""
    return StudyFacts(**{column.name: row[column] or "" for column in fact_columns()})


def _conditions(wanted: JobFilter) -> list[sa.ColumnElement[bool]]:
    conditions: list[sa.ColumnElement[bool]] = []
    if wanted.state is not None:
        conditions.append(jobs.c.state == wanted.state)
    if wanted.since is not None:
        conditions.append(jobs.c.updated_at >= wanted.since)
    if wanted.study is not None:
        conditions.append((jobs.c.study_uid == wanted.study) | (studies.c.accession_number == wanted.study))
    if wanted.patient is not None:
        named = sa.func.lower(studies.c.patient_name).contains(wanted.patient.lower(), autoescape=True)
        conditions.append((sa.func.lower(studies.c.patient_id) == wanted.patient.lower()) | named)
    return conditions

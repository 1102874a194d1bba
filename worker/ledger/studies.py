"""Studies: their accession numbers, by which a report that names no Study Instance UID finds its study, and what people
know them by.

Table `studies`, written when a study's headers are read. What names the patient goes with the images.
"""

from dataclasses import asdict, fields
from typing import Any

import sqlalchemy as sa

from worker.ledger.database import Database
from worker.ledger.records import StudyFacts
from worker.ledger.schema import series, studies


class StudyLedger:
    """Notes the accession numbers of studies, and finds the studies of a report."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def note_accession(self, study_uid: str, accession: str) -> None:
        """Notes the accession number of a study, so that a report that arrives later finds the study."""
        self._database.upsert(studies, {"study_uid": study_uid, "accession": accession}, {"accession": accession})

    def note_facts(self, study_uid: str, facts: StudyFacts) -> None:
        """Notes what people know a study by; what is empty in `facts` stays as it was."""
        said = {name: value for name, value in asdict(facts).items() if value}
        known = self.facts_of(study_uid)
        if any(getattr(known, name) != value for name, value in said.items()):
            self._database.upsert(studies, {"study_uid": study_uid, "accession": ""} | said, said)

    def with_accession(self, number: str) -> list[str]:
        """Returns the UIDs of the studies whose images say this accession number."""
        query = sa.select(studies.c.study_uid).where(
            studies.c.accession_number == number, studies.c.accession_number != ""
        )
        with self._database.read() as connection:
            return [str(row.study_uid) for row in connection.execute(query.order_by(studies.c.study_uid))]

    def facts_of(self, study_uid: str) -> StudyFacts:
        """Returns what people know a study by; empty where nothing is noted."""
        found = self._database.select(StudyFacts, sa.select(*fact_columns()).where(studies.c.study_uid == study_uid))
        return found[0] if found else StudyFacts()

    def of_report(self, study_uid: str, accession: str) -> list[str]:
        """Returns the UIDs of the studies of a report: the one it names, or else all with its accession number."""
        with self._database.read() as connection:
            return studies_of_report(connection, study_uid, accession)

    def last_image_at(self, study_uid: str) -> float | None:
        """Returns when the last image of the study arrived; None when none has."""
        with self._database.read() as connection:
            last = connection.scalar(sa.select(sa.func.max(series.c.last_at)).where(series.c.study_uid == study_uid))
        return None if last is None else float(last)


def studies_of_report(connection: sa.Connection, study_uid: str, accession: str) -> list[str]:
    """Returns what `StudyLedger.of_report` does, in the caller's transaction."""
    if study_uid:
        known = sa.select(series.c.study_uid).where(series.c.study_uid == study_uid).distinct()
    else:
        known = sa.select(studies.c.study_uid).where(studies.c.accession == accession)
    return [str(row.study_uid) for row in connection.execute(known)]


def fact_columns() -> list[Any]:
    """Returns the columns of `StudyFacts`."""
    return [studies.c[field.name] for field in fields(StudyFacts)]


def forget_facts(connection: sa.Connection, study_uid: str) -> None:
    """Empties what people know a study by, as part of the caller's transaction; its accession for reports stays."""
    connection.execute(sa.update(studies).where(studies.c.study_uid == study_uid).values(asdict(StudyFacts())))

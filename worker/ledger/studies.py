"""Studies: their accession numbers, and which of them a report belongs to.

Table `studies`, written when a study's headers are first read. A report that names no study finds it by that number.
"""

import sqlalchemy as sa

from worker.ledger.database import Database
from worker.ledger.schema import series, studies
from worker.ledger.states import SeriesState


class StudyLedger:
    """Studies and the accession numbers by which reports find them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def note_accession(self, study_uid: str, accession: str) -> None:
        """Notes the accession number of a study, so that a report that comes later finds it."""
        self._database.upsert(studies, {"study_uid": study_uid, "accession": accession}, {"accession": accession})

    def of_report(self, study_uid: str, accession: str) -> list[str]:
        """The UIDs of the studies here that a report with these links belongs to."""
        with self._database.read() as connection:
            return studies_of_report(connection, study_uid, accession)

    def last_image_at(self, study_uid: str) -> float | None:
        """When the study last got an image; None when nothing of it has arrived."""
        with self._database.read() as connection:
            last = connection.scalar(sa.select(sa.func.max(series.c.last_at)).where(series.c.study_uid == study_uid))
        return None if last is None else float(last)


def studies_of_report(connection: sa.Connection, study_uid: str, accession: str) -> list[str]:
    """The UIDs of the studies that a report with these links belongs to, inside a transaction."""
    if study_uid:
        known = sa.select(series.c.study_uid).where(series.c.study_uid == study_uid).distinct()
    else:
        known = sa.select(studies.c.study_uid).where(studies.c.accession == accession)
    return [str(row.study_uid) for row in connection.execute(known)]


def reopen(connection: sa.Connection, study_uid: str) -> None:
    """Opens the series of a study, so that the protocols are asked once more; their quiet time is over already.

    `settle` holds only for the time of the last image that it was asked about: the millisecond added here undoes
    a settling that is under way and has not seen what is new.
    """
    opened = {"state": SeriesState.RECEIVING, "last_at": series.c.last_at + 0.001}
    connection.execute(sa.update(series).where(series.c.study_uid == study_uid).values(opened))

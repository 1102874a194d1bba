"""Facts about reports: which arrived, where their bytes lie, and which study each belongs to. Never their text."""

import sqlalchemy as sa

from worker.ledger.records import Report
from worker.ledger.schema import reports, series, studies
from worker.ledger.states import SeriesState
from worker.ledger.tables import Tables


class ReportFacts(Tables):
    """Reports, and the accession numbers by which they find their study."""

    def report_arrived(self, report_id: str, *, study_uid: str, accession: str, source: str, path: str) -> bool:
        """Notes a report that lies on the disk; says whether it is new. The first arrival of the same bytes counts.

        In the same breath the series of its studies are opened, so that the protocols are asked once more: a report
        whose sender heard nothing, because the listener died, is no longer new when it comes again.
        """
        row = {
            "id": report_id,
            "study_uid": study_uid or None,
            "accession": accession or None,
            "source": source,
            "path": path,
            "received_at": self._clock(),
            "read_at": None,
        }
        insert = self._insert(reports).values(row).on_conflict_do_nothing(index_elements=[reports.c.id])
        with self._engine.begin() as connection:  # the count of rows is not to be had from every driver
            new = connection.execute(insert.returning(reports.c.id)).first() is not None
            for study in self._studies_of(connection, study_uid, accession) if new else ():
                self._ask_again(connection, study)
        return new

    def reports_on(self, study_uid: str, accession: str) -> list[Report]:
        """The reports that name the study, or its accession number and no study, the oldest first."""
        by_accession = reports.c.study_uid.is_(None) & (reports.c.accession == accession)
        mine = (reports.c.study_uid == study_uid) | by_accession if accession else reports.c.study_uid == study_uid
        return self._select(Report, sa.select(reports).where(mine).order_by(reports.c.received_at, reports.c.id))

    def report_read(self, report_id: str) -> None:
        """Notes when prompts were first made of a report."""
        unread = (reports.c.id == report_id) & reports.c.read_at.is_(None)
        self._changed(sa.update(reports).where(unread).values(read_at=self._clock()))

    def know_accession(self, study_uid: str, accession: str) -> None:
        """Notes the accession number of a study, so that a report that comes later finds it."""
        self._upsert(studies, {"study_uid": study_uid, "accession": accession}, {"accession": accession})

    def studies_of(self, study_uid: str, accession: str) -> list[str]:
        """The studies here that a report with these links belongs to."""
        with self._engine.connect() as connection:
            return self._studies_of(connection, study_uid, accession)

    @staticmethod
    def _studies_of(connection: sa.Connection, study_uid: str, accession: str) -> list[str]:
        if study_uid:
            known = sa.select(series.c.study_uid).where(series.c.study_uid == study_uid).distinct()
        else:
            known = sa.select(studies.c.study_uid).where(studies.c.accession == accession)
        return [str(row.study_uid) for row in connection.execute(known)]

    @staticmethod
    def _ask_again(connection: sa.Connection, study_uid: str) -> None:
        """Opens the series of a study, so that the protocols are asked once more; their quiet time is over already.

        `settle` holds only for the time of the last image that it was asked about: the millisecond added here undoes
        a settling that is under way and has not seen what is new.
        """
        opened = {"state": SeriesState.RECEIVING, "last_at": series.c.last_at + 0.001}
        connection.execute(sa.update(series).where(series.c.study_uid == study_uid).values(opened))

    def last_image_at(self, study_uid: str) -> float | None:
        """When the study last got an image; None when nothing of it has arrived."""
        with self._engine.connect() as connection:
            last = connection.scalar(sa.select(sa.func.max(series.c.last_at)).where(series.c.study_uid == study_uid))
        return None if last is None else float(last)

    def now(self) -> float:
        """The ledger's clock, in seconds since 1970-01-01 UTC."""
        return self._clock()

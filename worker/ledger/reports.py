"""Radiology reports: which arrived, where their bytes lie, and which study each belongs to. Never their text.

Table `reports`, written by `worker.reports.inbox` when a report has arrived and when it is first read.
"""

from collections import defaultdict

import sqlalchemy as sa

from worker.ledger.database import Database, insert
from worker.ledger.records import Report
from worker.ledger.schema import reports, series, studies
from worker.ledger.series import reopen
from worker.ledger.studies import studies_of_report


class ReportLedger:
    """Notes reports, and finds those of a study."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def arrived(self, report_id: str, *, study_uid: str, accession: str, source: str, path: str) -> bool:
        """Notes a report that lies on the disk; returns whether it is new. The same report counts once.

        In the same transaction the series of its studies become RECEIVING, so that the protocols are asked once more.
        With two transactions, a listener that dies in between would leave the report known and the protocols unasked,
        and the report would not be new when its sender repeats it.
        """
        row = {
            "id": report_id,
            "study_uid": study_uid or None,
            "accession": accession or None,
            "source": source,
            "path": path,
            "received_at": self._database.now(),
            "read_at": None,
        }
        with self._database.write() as connection:  # RETURNING, since not every driver counts the rows of an INSERT
            statement = insert(connection, reports).values(row).on_conflict_do_nothing(index_elements=[reports.c.id])
            new = connection.execute(statement.returning(reports.c.id)).first() is not None
            for study in studies_of_report(connection, study_uid, accession) if new else ():
                reopen(connection, study)
        return new

    def on_study(self, study_uid: str, accession: str) -> list[Report]:
        """Returns the reports that name the study, or no study and its accession number; the oldest first."""
        by_accession = reports.c.study_uid.is_(None) & (reports.c.accession == accession)
        mine = (reports.c.study_uid == study_uid) | by_accession if accession else reports.c.study_uid == study_uid
        query = sa.select(reports).where(mine).order_by(reports.c.received_at, reports.c.id)
        return self._database.select(Report, query)

    def with_studies(self) -> list[tuple[Report, list[str]]]:
        """Returns every report with the UIDs of its studies, of those that have ever arrived."""
        by_accession: dict[str, list[str]] = defaultdict(list)
        with self._database.read() as connection:
            arrived = set(connection.scalars(sa.select(series.c.study_uid).distinct()))
            for row in connection.execute(sa.select(studies.c.study_uid, studies.c.accession)):
                by_accession[row.accession].append(row.study_uid)
        found = []
        for report in self._database.select(Report, sa.select(reports)):
            linked = [report.study_uid] if report.study_uid else by_accession[report.accession or ""]
            found.append((report, [uid for uid in linked if uid in arrived]))
        return found

    def note_read(self, report_id: str) -> None:
        """Notes the time at which prompts were first made from a report; later calls change nothing."""
        unread = (reports.c.id == report_id) & reports.c.read_at.is_(None)
        self._database.update(sa.update(reports).where(unread).values(read_at=self._database.now()))

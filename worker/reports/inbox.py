"""Radiology reports that reach the node: kept on the disk, linked to their study, read when a protocol asks.

    home/reports/<id>            the bytes as received; written, fsynced, renamed, the folder fsynced
    home/reports/.<id>.<random>  an unfinished write; may be deleted at any time

The id is the SHA-256 of the study that the sender named beside the report, and of the bytes: two studies may have
reports of the same words.

The ledger knows where a report lies and which study it belongs to. Its text stays in the file: what leaves here are
prompts with their sentence. Concurrency: `take` runs on the threads of listener, MLLP and HTTP, `prompts_for` on the
intake thread; they share the ledger and the folder only.
"""

import hashlib
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Literal

from dicom_node.storage.durable import fsync, write_new
from worker.ledger import Ledger, Report
from worker.logs import get_logger
from worker.protocols.protocol import FromReport
from worker.report_language import (
    NotAReportError,
    ReportError,
    ReportLanguage,
    load_language,
)
from worker.report_language.formats.dicom_sr import is_dicom
from worker.report_language.formats.links import ReportLinks, normalised
from worker.report_language.formats.oru import ACCESSION_FIELDS
from worker.report_language.formats.read import report_links, report_text, single_reports
from worker.report_language.formats.report_file import MAX_BYTES
from worker.reports.narrative import Document
from worker.reports.reported import Reported, codec_for, current, language_of, reported_by
from worker.reports.sr_limits import require_ordinary
from worker.settings import Settings

log = get_logger(__name__)

Source = Literal["dicom", "hl7", "http"]
MOST_REPORTS = 100  # the newest of a study that are read: it has a few, and each new one asks its protocols again
_LINK_LENGTH = 64  # of the ledger's columns; a UID and an accession number (VR SH) have no more


class ReportInbox:
    """The reports of one node. One object may be shared by threads, and several processes may use one folder.

    `accession_fields` are the fields of an ORU that may hold the accession number, the surest first; `language` is that
    of the reports, None: English; `codec` is Python's name of the site's character set.

    Raises:
        OSError: when its folder cannot be made.
    """

    def __init__(
        self,
        home: Path,
        ledger: Ledger,
        accession_fields: Sequence[str] = ACCESSION_FIELDS,
        language: ReportLanguage | None = None,
        codec: str = "",
    ) -> None:
        self.folder = home / "reports"
        self._codec = codec
        self._ledger, self._accession_fields = ledger, tuple(accession_fields)
        self._language = language or load_language()
        self.folder.mkdir(parents=True, exist_ok=True)

    @classmethod
    def of(cls, settings: Settings, ledger: Ledger) -> "ReportInbox":
        """Opens the inbox that the settings describe.

        Raises:
            LanguageError: when the node has no such report language, or its files are not valid.
            OSError: when its folder cannot be made.
        """
        return cls(settings.home, ledger, settings.hl7_accession_fields, language_of(settings), codec_for(settings))

    def take(self, content: bytes, *, source: Source, study_uid: str = "", accession: str = "") -> str:
        """Keeps a report, links it and has the protocols asked again; returns its id.

        An ORU with orders of several studies is a report for each; all are taken or none, and the first id is returned.
        `study_uid` and `accession` win over what the report itself says. On return it is on the disk and in the ledger.

        Raises:
            ReportError: when the report cannot be read, or names neither study nor accession number.
            OSError: when its file could not be kept; its sender may send it again.
            LedgerError: when it could not be noted; its sender may send it again.
        """
        if len(content) > MAX_BYTES:
            raise ReportError(f"the report has {len(content)} bytes and at most {MAX_BYTES} are read; send it alone")
        if is_dicom(content):
            require_ordinary(content)
        reports = single_reports(content, self._accession_fields)
        if len(reports) > 1 and (study_uid or accession):
            raise NotAReportError(f"the message holds {len(reports)} reports; send each alone with its study")
        linked = [(report, self._links(report, study_uid, accession)) for report in reports]
        for report in reports:
            report_text(
                report, codec=self._codec
            )  # refused now, while the sender listens, and not when a protocol asks
        beside = f"{study_uid}\n{accession}\n" if study_uid or accession else ""
        ids = [hashlib.sha256(beside.encode() + report).hexdigest() for report in reports]
        for report_id, (report, _) in zip(ids, linked, strict=True):
            self._keep(report, report_id)
        for report_id, (_, links) in zip(ids, linked, strict=True):
            self._enter(report_id, links, source)
        return ids[0]

    def recover(self) -> int:
        """Enters into a new ledger the reports that lie on the disk; returns how many it did not know.

        What was linked only by what its sender said beside it stays unknown: such a report must be sent again.
        """
        files = [path for path in self.folder.iterdir() if not path.name.startswith(".")]
        entered = 0
        for path in sorted(files, key=lambda path: path.stat().st_mtime_ns):
            try:
                content = path.read_bytes()
                links = self._links(content, "", "")
            except ReportError:
                log.warning("report_without_study", report=path.name[:16])
                continue
            entered += self._enter(path.name, links, "dicom" if is_dicom(content) else "http")
        return entered

    def _enter(self, report_id: str, links: ReportLinks, source: Source) -> bool:
        """Enters a report into the ledger; returns whether it is new.

        Then the series of its studies become RECEIVING, so that the protocols are asked about them again.
        """
        new = self._ledger.reports.arrived(
            report_id, study_uid=links.study_uid, accession=links.accession, source=source, path=report_id
        )
        studies = self._ledger.studies.of_report(links.study_uid, links.accession) if new else []
        log.info("report_received", report=report_id[:16], source=source, new=new, studies=studies)
        return new

    def take_documents(self, documents: Iterable[Document]) -> None:
        """Takes the radiology reports among the stored objects of a series; a damaged one is logged and left."""
        for document in documents:
            try:
                with document.path.open("rb") as file:
                    content = file.read(MAX_BYTES + 1)  # of one that is larger, `take` says that it is
                self.take(content, source="dicom", study_uid=document.study_uid)
            except ReportError as error:
                log.warning("sr_without_report", sop_uid=document.sop_uid, problem=type(error).__name__)

    def prompts_for(self, options: FromReport, study_uid: str, accession: str, *, patient_id: str = "") -> Reported:
        """Reads the prompts of the study's reports, or says until when to wait for one.

        The newest whole report counts, with the addenda that came after it. The wait counts from the last image of the
        study. A report that was linked by its accession number alone and names another patient than `patient_id` is
        not used. A report that cannot be read any more is logged and left out.
        """
        if not options.use:
            return Reported()
        accession = normalised(accession)
        if accession:
            self._ledger.studies.note_accession(study_uid, accession)
        reports = self._ledger.reports.on_study(study_uid, accession)[-MOST_REPORTS:]
        texts = [text for report in reports if (text := self._text(report, patient_id))]
        if not texts:
            return self._waiting(options, study_uid)
        for report in reports:
            self._ledger.reports.note_read(report.id)
        newest = current(texts, self._language.rules.addenda)
        return reported_by("\n\n".join(newest), options, self._language)

    def forget(self, report: Report) -> None:
        """Removes a report's bytes; the ledger's line about it may stay."""
        (self.folder / report.path).unlink(missing_ok=True)
        fsync(self.folder)

    def _links(self, content: bytes, study_uid: str, accession: str) -> ReportLinks:
        """Returns the links of a report, where what its sender said beside it wins.

        Raises:
            NotAReportError: when there is no link, or one that is too long for the ledger.
        """
        found = report_links(content, self._accession_fields)
        links = replace(
            found, study_uid=study_uid.strip() or found.study_uid, accession=normalised(accession) or found.accession
        )
        if not links.study_uid and not links.accession:
            raise NotAReportError("the report names neither Study Instance UID nor accession number; send one with it")
        if max(len(links.study_uid), len(links.accession)) > _LINK_LENGTH:
            raise NotAReportError("the report's Study Instance UID or accession number is too long to be one")
        return links

    def _keep(self, content: bytes, report_id: str) -> None:
        """Puts the bytes on the disk, durably and under their final name only when they are complete."""
        final = self.folder / report_id
        if not final.exists():
            unfinished = self.folder / f".{report_id}.{uuid.uuid4().hex}"
            write_new(unfinished, content)
            unfinished.rename(final)
        fsync(self.folder)

    def _text(self, report: Report, patient_id: str) -> str:
        """Reads the report's text; empty when its file is gone or it is about another patient."""
        try:
            content = (self.folder / report.path).read_bytes()
            if report.study_uid is None and report_links(content, self._accession_fields).contradicts(patient_id):
                log.warning("report_of_another_patient", report=report.id[:16])
                return ""
            return report_text(content, codec=self._codec)
        except (OSError, ReportError) as error:
            log.warning("report_unreadable", report=report.id[:16], problem=type(error).__name__)
            return ""

    def _waiting(self, options: FromReport, study_uid: str) -> Reported:
        """Answers without a report: until when to wait for one, or that none has come."""
        last = self._ledger.studies.last_image_at(study_uid)
        until = (last or 0.0) + options.wait_minutes * 60
        if last is None or until <= self._ledger.clock.now():
            return Reported(line="no report came" if options.wait_minutes else "no report is there")
        at = datetime.fromtimestamp(until).astimezone()
        return Reported(waiting_until=until, line=f"waits for a report until {at:%H:%M}")

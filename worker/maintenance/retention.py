"""Removes images, results and reports from the disk, without losing an image that arrives during the removal.

A study or result is removed when its days are over, or, the oldest first, when the disk gets full. Nothing is removed
before every job on its study is finished and every result has been delivered (and promised, where the destination is
asked for storage commitment). What a job was and which objects it made stays in the ledger: the same images sent again
make no second job.

A study is removed in two steps, so that an image may still arrive in between (`dicom_node.removal`): one round sets it
aside, a later round removes it if nothing about it has changed in the ledger, or else puts it back. Whole studies are
removed, not series, because a protocol may choose among all series of a study. The reports of a study go with it.

`Retention.run` is a thread of every listener process. Several of them may work at once, and one that is killed half way
leaves a study aside, which the next round of any of them ends.
"""

import threading
from collections.abc import Collection

from dicom_node.errors import StoreError
from dicom_node.removal import PendingRemoval, StoreRemoval
from dicom_node.storage.replacements import any_replaced
from dicom_node.store import Store
from worker.ledger import Ledger
from worker.ledger.clock import SLACK_SECONDS
from worker.ledger.retention import RetentionNeed, RetentionStatus
from worker.logs import get_logger
from worker.maintenance.quarantine import trim
from worker.off_protocols import off_protocols
from worker.reports.inbox import ReportInbox
from worker.settings import Settings

log = get_logger(__name__)

DAY = 24 * 3600.0
ROUND_SECONDS = 60.0  # how often the disk is looked at
ASIDE_SECONDS = 60.0  # how long a study lies aside; a listener notes an image within milliseconds of storing it
FRESH_SECONDS = 3600.0  # what changed in the last hour stays, however full the disk is


class Retention:
    """Removes what the settings allow. Several processes may do so at once; in each it is used by one thread."""

    def __init__(self, settings: Settings, store: Store, ledger: Ledger) -> None:
        self._settings, self._store, self._ledger = settings, store, ledger
        self._removal = StoreRemoval(store, ledger.clock.now)
        self._reports = ReportInbox.of(settings, ledger)
        self._image_days = {
            RetentionNeed.UNUSED: settings.keep_unused_days,
            RetentionNeed.DELIVERED: settings.keep_images_days,
            RetentionNeed.FAILED: settings.keep_failed_days,
        }
        self._result_days = {
            RetentionNeed.DELIVERED: settings.keep_results_days,
            RetentionNeed.FAILED: settings.keep_failed_days,
        }

    def run(self, stop: threading.Event) -> None:
        """Does a round each minute until `stop` is set; an error is logged, and the next round tries again."""
        while not stop.is_set():
            try:
                self.tidy()
            except Exception:
                log.exception("retention_failed")
            stop.wait(ROUND_SECONDS)

    def tidy(self) -> None:
        """Does one round: ends what earlier rounds set aside, removes what is old, then makes room on a full disk."""
        trim(self._removal, self._settings, self._store.free_bytes())  # nobody needs what goes: before all else
        stuck = [study for study in self._removal.leaving() if not self._finish_removal(study)]
        now = self._ledger.clock.now()
        for use in self._studies() if any(self._image_days.values()) else ():
            if self._is_old(use, self._image_days, now):
                self._set_aside(use, "its days are over")
        for use in self._results() if any(self._result_days.values()) else ():
            if self._is_old(use, self._result_days, now):
                self._remove_results(use, "its days are over")
        self._relieve(now, stuck)
        self._forget_reports(now)
        if days := self._settings.keep_quarantine_days:
            for aside in self._removal.remove_from_quarantine(now - days * DAY):
                log.warning("quarantine_removed", file=aside.name, was_there_because=aside.reason)

    def _relieve(self, now: float, stuck: Collection[PendingRemoval]) -> None:
        """Removes the oldest images and results until there is room; logs `disk_nearly_full` if that is not enough.

        Studies set aside count as removed, except those that are `stuck` there because the disk does not let them go.
        """
        lacking = self._settings.clean_below_free_bytes - self._store.free_bytes()
        if lacking <= 0:
            return
        lacking -= sum(study.bytes() for study in self._removal.leaving() if study not in stuck)
        candidates = [(use, self._set_aside) for use in self._studies()]
        candidates += [(use, self._remove_results) for use in self._results() if not use.only_copy]
        for use, remove in sorted(candidates, key=lambda candidate: candidate[0].since):
            if lacking <= 0:
                return
            if use.need <= RetentionNeed.DELIVERED and use.since < now - FRESH_SECONDS:
                lacking -= remove(use, "the disk is getting full")
        if lacking > 0:
            log.warning("disk_nearly_full", missing_bytes=lacking)

    def _forget_reports(self, now: float) -> None:
        """Removes the reports of removed studies, and old reports whose study has never arrived."""
        days = self._settings.keep_unused_days
        for report, studies in self._ledger.reports.with_studies():
            if not (self._reports.folder / report.path).exists() or self._removal.holds(studies):
                continue
            if studies or 0 < days < (now - report.received_at) / DAY:
                self._reports.forget(report)
                log.info("report_removed", report=report.id[:16])

    def _studies(self) -> list[RetentionStatus]:
        """Returns the status of the studies in the store, without those that a protocol that is off may want."""
        here = self._removal.studies()
        unasked_since = min((one.unasked_since for one in off_protocols(self._settings.home)), default=float("inf"))
        return [
            use
            for use in self._ledger.retention.studies()
            if use.uid in here and (use.need is not RetentionNeed.UNUSED or use.since < unasked_since)
        ]

    def _results(self) -> list[RetentionStatus]:
        """Returns the status of the results that are in the store."""
        return self._ledger.retention.results(self._removal.jobs())

    @staticmethod
    def _is_old(use: RetentionStatus, days: dict[RetentionNeed, float], now: float) -> bool:
        """Whether the days of its need are over; 0 days keep it for ever."""
        limit = days.get(use.need, 0.0)
        return limit > 0 and use.since < now - limit * DAY

    def _set_aside(self, use: RetentionStatus, why: str) -> int:
        """Sets a study aside, unless its status has changed since it was listed; returns how many bytes it has.

        A study stays where images were replaced and a job of before holds no content: the counts beside the images tell
        its content from the next.
        """
        if any_replaced(self._settings.home / "studies" / use.uid) and not all(
            job.spec.content for job in self._ledger.jobs.of_study(use.uid)
        ):
            return 0
        with self._removal.alone():
            if self._ledger.retention.studies(use.uid) != [use]:
                return 0  # listing the studies, and the removal of those before it, may have taken minutes
            freed = self._removal.set_aside(use.uid, use.since)
        log.info("study_set_aside", study=use.uid, why=why, bytes=freed)
        return freed

    def _remove_results(self, use: RetentionStatus, why: str) -> int:
        """Removes a job's results, unless their status has changed since they were listed; returns how many bytes."""
        if self._ledger.retention.result(use.uid) != use:
            return 0  # such as a job that was started again meanwhile
        freed = self._removal.remove_results(use.uid)
        self._ledger.retention.note_removed(job_id=use.uid)
        log.info("results_removed", job=use.uid, why=why, bytes=freed)
        return freed

    def _finish_removal(self, study: PendingRemoval) -> bool:
        """Puts back or removes a study that was set aside, if it is time; False when the disk does not let it."""
        try:
            with self._removal.alone():
                if study.path.exists():  # else another process was first
                    self._end(study)
        except (StoreError, OSError) as error:
            log.error("study_stuck_aside", study=study.study_uid, problem=str(error))
            return False
        return True

    def _end(self, study: PendingRemoval) -> None:
        """Puts a study that was set aside back if anything about it has changed, or removes it when its time has come.

        Times are compared for equality with those that the ledger gave before, not by which is later: an image that was
        stored just before the study was set aside may be noted after that, under an earlier time. A study that was set
        aside in what is now the future is put back as well: the clock was set back, and later images look older.
        """
        now = self._ledger.clock.now()
        from_the_future = study.since > now + SLACK_SECONDS
        (use,) = self._ledger.retention.studies(study.study_uid) or [
            RetentionStatus(study.study_uid, RetentionNeed.NEEDED, now)
        ]
        if use.need is RetentionNeed.NEEDED or use.since != study.used_at or from_the_future:
            self._removal.put_back(study)
            log.info("study_put_back", study=study.study_uid)
        elif now >= study.since + ASIDE_SECONDS:
            self._ledger.retention.note_removed(study_uid=study.study_uid)
            self._removal.remove(study)
            log.info("study_removed", study=study.study_uid)

"""From a complete series to jobs: asks every protocol about every volume, and writes every answer into the ledger.

A protocol that takes all matching volumes is asked about the series that is complete. A protocol that takes the best is
asked about the whole study, and only when no series of it is arriving, no open association brings images of it, and
no image has come for the quiet time: another reconstruction may follow the one that is complete.

- A better volume that comes while nothing has been sent makes a new job; the one on the lesser volume is CANCELLED.
- A better volume that comes later is not segmented too: the protocol's first choice stands, and the decision says so.
  Late images of that first choice make a new job that supersedes the old, as for any series.

A protocol that waits for the study or for its report keeps the series unsettled, so that it is asked again, also after
a restart. Until its time or another image has come, `waits` spares the intake the look.

`Selection` is used by the intake thread alone; what it remembers is lost with the process and found again by asking.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from dicom_node.store import Store
from dicom_node.uids import SeriesKey
from worker.findings import Finding
from worker.job_spec import JobSpec, Prompt
from worker.ledger import Ledger, Series, SeriesState, StudyFacts
from worker.protocols import Protocol
from worker.protocols.on_this_node import inactive, job_spec
from worker.reports.inbox import ReportInbox
from worker.reports.reported import Reported
from worker.selection.answers import Judged, Question, SeriesFiles, judge
from worker.selection.choose import Verdict
from worker.selection.contents import with_content
from worker.selection.looks import Looks
from worker.selection.study_volumes import StudyVolume, log_unread
from worker.settings import Settings


@dataclass(frozen=True)
class Selected:
    """What became of one series that the protocols were asked about."""

    volumes: Sequence[StudyVolume]
    jobs: list[str]  # ids of new jobs, on this series or, where the best of the study is taken, on another
    ask_again_at: float | None  # seconds since 1970-01-01 UTC, if a protocol waits for the study or its report


class Selection:
    """Asks the protocols and adds jobs; holds what the intake thread remembers between two questions."""

    def __init__(self, settings: Settings, store: Store, ledger: Ledger, reports: ReportInbox, looks: Looks) -> None:
        self._settings, self._store, self._ledger, self._reports = settings, store, ledger, reports
        self._looks = looks
        self._waiting: dict[SeriesKey, tuple[float, float]] = {}  # series: its last image, when to ask again

    def waits(self, series: Series) -> bool:
        """Whether a protocol waits, the time to ask again has not come, and no image has arrived since it was asked."""
        last_at, until = self._waiting.get(series.series_key, (None, 0.0))
        return last_at == series.last_at and self._ledger.clock.now() < until

    def select(self, series: Series, protocols: Sequence[Protocol], *, study_open: bool = False) -> Selected:
        """Asks the protocols about a series, writes their decisions, and adds the jobs that are new.

        `study_open`: an association that has brought images of the study is still open. Writes the ledger's tables
        `decisions`, `jobs` and `studies`, and through the report inbox `reports`, where the series holds reports. The
        caller marks the series afterwards and enqueues the jobs.

        Raises:
            UnreadableError: when the disk does not give an image just now.
            LookError: when reading the headers came to no end.
            LedgerError: when the database does not answer.
        """
        others = [one for one in self._ledger.series.of_study(series.study_uid) if one.series_uid != series.series_uid]
        incomplete, quiet_at = self._incomplete(series, others, study_open)
        judged = self._judge(series, others, [self._question(series, one, incomplete) for one in protocols])
        self._note_facts(series, judged.volumes)
        added: list[str] = []
        waiting: list[float] = []
        for protocol, said in zip(protocols, judged.verdicts, strict=True):
            verdicts: Sequence[Verdict] = said
            reported = self._reported(protocol, verdicts)
            verdicts = [with_report(protocol, verdict, reported) for verdict in verdicts]
            self._write_down(protocol, verdicts)
            added += self._add_jobs(protocol, verdicts, reported)
            waiting += [reported.waiting_until] if reported.waiting_until is not None else []
            waiting += [quiet_at] if quiet_at is not None and any(verdict.waits for verdict in verdicts) else []
        again = min(waiting, default=None)
        self._waiting.pop(series.series_key, None)
        if again is not None:
            self._waiting[series.series_key] = (series.last_at, again)
        return Selected(judged.volumes, added, again)

    def _incomplete(self, series: Series, others: Sequence[Series], study_open: bool) -> tuple[str, float | None]:
        """Says why more of the study may come, or ""; and when to ask again, in seconds since 1970-01-01 UTC.

        The time is None where no look is needed: nothing more is expected, or a series that still arrives will lead to
        the question by itself.
        """
        now, quiet = self._ledger.clock.now(), self._settings.quiet_seconds
        arriving = sum(one.state is SeriesState.RECEIVING and not self.waits(one) for one in others)
        if arriving:
            return f"{arriving} of its series still arrive", None
        if study_open:
            return "an association that brings it is open", now + quiet
        quiet_at = max(one.last_at for one in (series, *others)) + quiet
        return (f"its last image came less than {quiet:g} s ago", quiet_at) if now < quiet_at else ("", None)

    def _question(self, series: Series, protocol: Protocol, incomplete: str) -> Question:
        done = self._ledger.best_volume.volumes_done(series.study_uid, protocol.name)
        return Question(protocol, incomplete, inactive(protocol, self._settings), done)

    def _judge(self, series: Series, others: Sequence[Series], questions: Sequence[Question]) -> Judged:
        """Has the child process judge the series, and takes the reports that it found among its objects."""
        needed = others if any(question.of_study for question in questions) else ()
        whole = [self._files(one) for one in needed if one.state.may_be_read]
        judged = self._looks.at(series.series_key, judge, self._files(series), whole, questions)
        log_unread(judged.unread)
        self._reports.take_documents(judged.documents)
        return judged

    def _note_facts(self, series: Series, volumes: Sequence[StudyVolume]) -> None:
        """Notes what people know the study by, unless the settings keep no names."""
        if not self._settings.keep_names or not volumes:
            return
        self._ledger.studies.note_facts(series.study_uid, study_facts(volumes[0]))

    def _files(self, series: Series) -> SeriesFiles:
        paths = tuple(self._store.series_paths(series.series_key))
        return SeriesFiles(series.series_key, paths, series.origin, self._settings.character_set or "")

    def _reported(self, protocol: Protocol, verdicts: Sequence[Verdict]) -> Reported:
        """Returns what the study's report asks for: nothing if the protocol takes no volume, or no report's prompts."""
        taken = [verdict.volume for verdict in verdicts if verdict.taken]
        if not taken or not protocol.report.use:
            return Reported()
        return self._reports.prompts_for(
            protocol.report, taken[0].study_uid, taken[0].accession, patient_id=taken[0].patient_id
        )

    def _write_down(self, protocol: Protocol, verdicts: Sequence[Verdict]) -> None:
        """Writes one decision per series, which `protocols explain --study` reads."""
        by_series: dict[SeriesKey, list[Verdict]] = {}
        for verdict in verdicts:
            by_series.setdefault(SeriesKey(verdict.volume.study_uid, verdict.volume.series_uid), []).append(verdict)
        for (study_uid, series_uid), mine in by_series.items():
            said = [verdict.on_volume for verdict in mine]
            self._ledger.series.decide(study_uid, series_uid, protocol.name, said)

    def _add_jobs(self, protocol: Protocol, verdicts: Sequence[Verdict], reported: Reported) -> list[str]:
        """Adds a job for each volume taken; returns the ids of those that are new, start again or may start earlier."""
        added: list[str] = []
        for verdict in verdicts:
            if not verdict.taken:
                continue
            spec = spec_of(protocol, verdict.volume, self._settings, reported.prompts)
            spec = with_content(spec, self._store, self._ledger, newer_wins=self._settings.conflict == "newer")
            jobs = self._ledger.jobs
            new = jobs.add(spec) or jobs.stands_again(spec) or jobs.hasten(spec)
            again = protocol.choose.take == "best" and self._ledger.best_volume.prefer(spec)
            if new or again:
                added.append(self._ledger.jobs.id_of(spec))
        return added


def study_facts(volume: StudyVolume) -> StudyFacts:
    """Returns what people know the study of a volume by."""
    return StudyFacts(
        volume.patient_id, volume.patient_name, volume.accession, volume.study_date, volume.study_description
    )


def with_report(protocol: Protocol, verdict: Verdict, reported: Reported) -> Verdict:
    """Adds the finding on the study's report to a verdict.

    The volume is not taken (yet) while the report is awaited, where a required report is missing, and where neither the
    protocol nor the report gives a prompt.
    """
    if not verdict.taken or not protocol.report.use:
        return verdict
    if reported.waiting_until is not None or (protocol.report.required and not reported.found):
        return verdict.but(Finding("a report", f"not there: {reported.line}", False))
    if not protocol.prompts and not reported.prompts:
        return verdict.but(Finding("something to segment", f"nothing: {reported.line}", False))
    return verdict.but(Finding("a report", reported.line, True)) if reported.found else verdict


def spec_of(
    protocol: Protocol,
    volume: StudyVolume,
    settings: Settings,
    from_report: Sequence[Prompt] = (),
) -> JobSpec:
    """Returns the job of a protocol on one volume, on the first content of its images.

    The prompts from the report follow the protocol's own; one whose name the protocol has already is left out.

    Raises:
        InactiveError: when the node lacks the protocol's model.
    """
    known = {prompt.label.casefold() for prompt in protocol.prompts}
    more = tuple(prompt for prompt in from_report if prompt.label.casefold() not in known)
    return job_spec(
        protocol,
        settings,
        SeriesKey(volume.study_uid, volume.series_uid),
        volume.instances,
        (*protocol.prompts, *more),
        volume=volume.name or None,
        frames=volume.frames,
    )

"""The history of a study that was sent to this node: why it was segmented, or was not.

`protocols explain --study UID` prints it: what arrived and from whom, what each protocol said at the time, what became
of each job and each delivery, and hints where nothing happened. The facts come from the ledger and the number of images
from the store; both are only read, and no protocol is asked again.
"""

from collections import Counter
from collections.abc import Iterator, Sequence

from dicom_node.conflicts import conflicts_in
from dicom_node.store import Store
from dicom_node.uids import SeriesKey
from worker.explain.explained import ExplainedSeries, ExplainedStudy, JobHistory, decided
from worker.explain.job_sentences import sentence_of
from worker.ledger import Decision, Job, Ledger, Series, SeriesState, StudyFacts
from worker.off_protocols import off_protocols
from worker.protocols import Protocol, inactive, unknown_destinations
from worker.selection.study_volumes import SCATTERED
from worker.settings import Settings


def history_of(
    study_uid: str, ledger: Ledger, store: Store, settings: Settings, protocols: Sequence[Protocol]
) -> ExplainedStudy:
    """Tells everything that the node knows of a study, also that nothing of it has arrived.

    `protocols` are those in force now; one that came after a series was complete is listed as not asked.

    Raises:
        LedgerError: when the database does not answer.
    """
    now = ledger.clock.now()
    decisions, jobs = ledger.series.decisions_on(study_uid), ledger.jobs.of_study(study_uid)
    names = [protocol.name for protocol in protocols]
    told = []
    for series in sorted(ledger.series.of_study(study_uid), key=lambda one: (one.first_at, one.series_uid)):
        mine = tuple(one for one in decisions if one.series_uid == series.series_uid)
        asked = {one.protocol for one in mine}
        told.append(
            ExplainedSeries(
                study_uid,
                series.series_uid,
                description="",
                images=len(store.series_paths(SeriesKey(study_uid, series.series_uid))),
                decisions=decided(mine),
                sentence=_arrival(series, mine, settings, now),
                jobs=tuple(_job_story(job, ledger, now) for job in jobs if job.series_uid == series.series_uid),
                not_asked=tuple(name for name in names if name not in asked) if series.state.is_complete else (),
                arrived=series,
            )
        )
    hints = (
        *_hints_on_arrival(study_uid, bool(told), ledger, store, settings),
        *_hints_on_series(told),
        *(one.sentence for one in conflicts_in(store.home, study_uid)),
        *_hints_on_protocols(protocols, settings),
    )
    about = ledger.studies.facts_of(study_uid) if settings.keep_names else StudyFacts()
    return ExplainedStudy(study_uid, about, _summary(study_uid, told), tuple(told), hints)


def _summary(study_uid: str, told: Sequence[ExplainedSeries]) -> str:
    """Writes one sentence on the study, such as "2 series arrived; 1 job: 1 delivered"."""
    if not told:
        return f"nothing of study {study_uid} has arrived at this node"
    arriving = sum(one.arrived is not None and one.arrived.state is SeriesState.RECEIVING for one in told)
    states = Counter(story.job.state for one in told for story in one.jobs)
    jobs = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
    parts = [f"{len(told)} series arrived" + (f", {arriving} of them still arriving" if arriving else "")]
    if jobs:
        parts.append(f"{states.total()} job{'s' if states.total() > 1 else ''}: {jobs}")
    elif arriving < len(told):
        parts.append("no protocol took one that is complete: the reasons stand below")
    return "; ".join(parts)


def _arrival(series: Series, decisions: Sequence[Decision], settings: Settings, now: float) -> str:
    """Says who sent the series, and whether it is complete, waits for a protocol, or is still arriving."""
    sender = f"from {series.calling_ae} at {series.address}, called as {series.called_ae}"
    if series.state is SeriesState.UNREADABLE:
        again = f"voxtell-dicom ledger look-again {series.study_uid} looks once more"
        return f"{sender}; it cannot be read: {series.reason}; {again}"
    if series.state.is_complete:
        return f"{sender}; complete"
    if any(decision.at >= series.last_at for decision in decisions):
        return f"{sender}; complete so far, and one of its protocols waits"
    return (
        f"{sender}; still arriving: the last image came {max(0.0, now - series.last_at):.0f} s ago, it is complete "
        f"after {settings.quiet_seconds:g} s without one and when its association has ended"
    )


def _job_story(job: Job, ledger: Ledger, now: float) -> JobHistory:
    """Returns a job with its deliveries, and its sentences joined into one."""
    deliveries = tuple(ledger.deliveries.of_job(job.id))
    return JobHistory(job, deliveries, sentence_of(job, deliveries, now))


def _hints_on_arrival(study_uid: str, arrived: bool, ledger: Ledger, store: Store, settings: Settings) -> Iterator[str]:
    """Yields what may be wrong when nothing of the study came: a lost ledger, a cut UID, the sender's settings."""
    if arrived:
        return
    if store.series_of(study_uid):
        yield (
            "its images are in the store but not in the ledger: stop the listener, run voxtell-dicom ledger rebuild, "
            "and start the listener again"
        )
        return
    begun = sorted({one.study_uid for one in ledger.series.known() if one.study_uid.startswith(study_uid)})
    if begun:
        yield f"the UID may be cut short: {begun[0]} has arrived"
    newest = ledger.series.newest()
    if newest is None:
        yield "no image of any study has ever arrived"
    else:
        minutes = (ledger.clock.now() - newest.last_at) / 60
        yield f"the last image of any study came {minutes:.0f} minutes ago from {newest.calling_ae} at {newest.address}"
    yield (
        f"the node listens at {settings.host}, port {settings.port}, as AE title {settings.ae_title}: check what the "
        "sender has; whom the listener refused, and why, stands in its log; voxtell-dicom doctor asks whether it is up"
    )


def _hints_on_series(told: Sequence[ExplainedSeries]) -> Iterator[str]:
    """Yields what is wrong with the series together: slices that came as a series each."""
    lone = sum(one.images == 1 for one in told)
    if lone >= SCATTERED:
        yield (
            f"{lone} series have one image each: if these are slices of one, an anonymiser gave every file a Series "
            "Instance UID of its own; send them with one"
        )


def _hints_on_protocols(protocols: Sequence[Protocol], settings: Settings) -> Iterator[str]:
    """Yields what is wrong with the protocols, whatever the study: none there, one inactive, a destination unknown."""
    if not protocols:
        yield f"{settings.protocols_folder} holds no protocol that can be read: nothing is segmented"
    yield from (one.sentence for one in off_protocols(settings.home))
    idle: dict[str, list[str]] = {}
    for protocol in protocols:
        if why := inactive(protocol, settings):
            idle.setdefault(why.partition(" is inactive: ")[2], []).append(f"'{protocol.name}'")
        yield from unknown_destinations(protocol, settings)
    for why, names in idle.items():
        which = f"protocol {names[0]} is" if len(names) == 1 else f"protocols {', '.join(names)} are"
        yield f"{which} inactive: {why}"

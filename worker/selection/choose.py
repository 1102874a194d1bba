"""Which volumes of a study a protocol takes, and why. Pure functions; the node, `run` and `explain` share this rule.

A protocol takes a volume when
1. all its conditions hold for the images of the series;
2. the images make one regular volume, if need be on a resampled grid where the protocol has that;
3. the volume is of no kind that `choose: {never: ...}` lists;
4. with `choose: {take: best}`, it ranks first among the volumes of the study for which 1 to 3 hold.
"""

from collections.abc import Sequence, Set
from dataclasses import dataclass, replace

from dicom_node.ranking.facts import VolumeFacts
from dicom_node.ranking.order import Wish, rank, refused, wish_for
from worker.findings import Finding, VolumeFindings
from worker.protocols import Match, Protocol
from worker.protocols.described import names_itself
from worker.protocols.preferences import Preference
from worker.selection.study_volumes import StudyVolume

COMPLETE = "a complete study"
REGULAR = "one regular volume"


@dataclass(frozen=True)
class Verdict:
    """What a protocol says to one volume, with each condition that was judged.

    `findings` are in the order in which they were judged; the volume is taken only if all of them hold.
    """

    volume: StudyVolume
    taken: bool
    findings: tuple[Finding, ...]

    @property
    def reason(self) -> str:
        """One sentence: what was satisfied if the volume is taken, else what was not."""
        return self.on_volume.reason

    @property
    def on_volume(self) -> VolumeFindings:
        """The findings, with the name of the volume."""
        return VolumeFindings(self.volume.name, self.findings)

    @property
    def waits(self) -> bool:
        """Whether the volume may be taken once the study is complete."""
        return not self.taken and self.findings[-1].condition == COMPLETE

    def but(self, finding: Finding) -> "Verdict":
        """Returns the same verdict with one more finding, which must hold too."""
        return Verdict(self.volume, self.taken and bool(finding.holds), (*self.findings, finding))


Done = Set[tuple[str, str]]
"""(Series Instance UID, volume's name) of what a protocol has segmented already; no name where it was the only one."""


def choose(
    protocol: Protocol,
    volumes: Sequence[StudyVolume],
    *,
    incomplete: str = "",
    inactive: str = "",
    done: Done = frozenset(),
) -> list[Verdict]:
    """Returns a verdict on every volume, in the order of `volumes`.

    Args:
        volumes: of one study; for a protocol that takes all volumes one series is enough.
        incomplete: why more of the study may come, as a phrase. A protocol that takes the best then takes nothing yet.
        inactive: why the protocol cannot run on this node at all (`worker.protocols.on_this_node.inactive`).
        done: volumes that the protocol has segmented. The best stays the best once it is done: a better volume that
            comes later is not segmented too.
    """
    verdicts = [_fits(protocol, volume) for volume in volumes]
    if inactive:
        verdicts = [verdict.but(Finding("an active protocol", f"not: {inactive}", False)) for verdict in verdicts]
    if protocol.choose.take == "all":
        return verdicts
    if incomplete:
        waiting = Finding(COMPLETE, f"not: {incomplete}", False)
        return [verdict.but(waiting) if verdict.taken else verdict for verdict in verdicts]
    return _best(protocol, verdicts, done)


def _fits(protocol: Protocol, volume: StudyVolume) -> Verdict:
    """Judges a volume by itself: conditions, geometry, kind. The other volumes of the study play no part."""
    matches, findings = protocol.ask(volume.candidate)
    if volume.resampled and protocol.engine.resample_spacing:
        volume = replace(volume, facts=volume.resampled, problem="")
    if volume.facts is None:
        way_out = (
            "; or let the protocol resample it (engine: {resample_spacing: true}, or run --resample-spacing)"
            if volume.resampled
            else ""
        )
        said = f"not: {volume.problem}{way_out}"
        return Verdict(volume, False, (*findings, Finding(REGULAR, said, False)))
    verdict = Verdict(volume, matches, (*findings, Finding(REGULAR, _shape(volume.facts), True)))
    if why := refused(volume.facts, protocol.choose.never):
        return verdict.but(Finding(f"none of {', '.join(protocol.choose.never)}", why, False))
    return verdict


def _shape(facts: VolumeFacts) -> str:
    """Describes a volume's geometry for people, such as "120 slices, 3.00 mm apart, axial"."""
    if facts.resampled_mm is not None:
        resampled = f"up to {facts.spacing_mm:.2f} mm apart, resampled to {facts.resampled_mm:.2f} mm"
        return f"{facts.slices} slices, {resampled}, {facts.plane}"
    return f"{facts.slices} slices, {facts.spacing_mm:.2f} mm apart, {facts.plane}"


def _best(protocol: Protocol, verdicts: Sequence[Verdict], done: Done) -> list[Verdict]:
    """Keeps only the best of the volumes that were taken; the verdict on each of the others says what is better."""
    decided = list(verdicts)
    fitting = [index for index, verdict in enumerate(verdicts) if verdict.taken]
    first_choice = [index for index in fitting if _is_done(verdicts[index].volume, done)]
    order = sorted(first_choice or fitting, key=lambda index: _natural(verdicts[index].volume))
    for index in set(fitting) - set(order):
        already = f"not: {verdicts[order[0]].volume.label} is, and stays the protocol's choice"
        decided[index] = verdicts[index].but(Finding("nothing of the study segmented yet", already, False))
    taken = [verdicts[index].volume for index in order]
    labels = [volume.label for volume in taken]
    for number, place in enumerate(
        rank(labels, [_wish(one, taken, protocol.match) for one in protocol.choose.prefer]), start=1
    ):
        index = order[place.volume]
        why = f"number {number}, {place.behind_first}" if place.behind_first else "number 1"
        decided[index] = verdicts[index].but(Finding(f"the best of {len(taken)}", why, number == 1))
    return decided


def _is_done(volume: StudyVolume, done: Done) -> bool:
    """Whether the volume is among those done, also under no name: it may have got one when a second volume came."""
    return bool({(volume.series_uid, volume.name), (volume.series_uid, "")} & done)


def _natural(volume: StudyVolume) -> tuple[float, str, str]:
    """Returns the sort key that decides when no preference does: the smaller series number goes first."""
    try:
        number = float(volume.series_number)
    except ValueError:
        number = float("inf")
    return number, volume.series_uid, volume.name


def _wish(preference: Preference, volumes: Sequence[StudyVolume], match: Match) -> Wish:
    """Scores the volumes by a preference: a named quality, or 1.0 where its conditions hold and 0.0 elsewhere."""
    if preference == "named":
        near = [names_itself(match.region, volume.candidate, match.words) for volume in volumes]
        return Wish("named", tuple(score for score, _ in near), tuple(words for _, words in near))
    if isinstance(preference, str):
        return wish_for(preference, [volume.facts for volume in volumes if volume.facts is not None])
    answers = [preference.ask(volume.candidate) for volume in volumes]
    named = [finding.condition for finding in answers[0][1]] if answers else []
    return Wish(
        " and ".join(named),
        tuple(float(holds) for holds, _ in answers),
        tuple(" and ".join(finding.found for finding in findings) for _, findings in answers),
    )

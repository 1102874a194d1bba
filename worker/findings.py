"""What a protocol found of each of its conditions, and the sentence that follows: why a volume was taken or not.

Selection makes findings, the ledger keeps them, `protocols explain` prints them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

Answer = bool | None
"""Yes, no, or None: it cannot be known."""


@dataclass(frozen=True)
class Finding:
    """One condition, what was found, and whether that satisfies it (None: it cannot be known).

    `level` counts the groups (`any`, `all`, `not`) around it. A group is a finding of its own and precedes its members.
    As text: "Modality equals 'CT': no, it is MR".
    """

    condition: str
    found: str
    holds: Answer
    level: int = 0

    def __str__(self) -> str:
        if self.holds is None:
            return f"{self.condition}: not known"
        return f"{self.condition}: {'yes' if self.holds else 'no'}" + (f", it is {self.found}" if self.found else "")


@dataclass(frozen=True)
class VolumeFindings:
    """The findings on one volume, in the order in which they were judged; `volume` is "" for the only one of a series.

    The volume is taken when all of them hold.
    """

    volume: str
    findings: tuple[Finding, ...]

    @property
    def taken(self) -> bool:
        """Whether the protocol takes the volume."""
        return all(finding.holds for finding in self.findings if not finding.level)

    @property
    def reason(self) -> str:
        """One sentence: what was satisfied if the volume is taken, else what was not."""
        return "; ".join(str(one) for one in decisive(self.findings, self.taken))


def decisive(findings: Sequence[Finding], taken: bool) -> list[Finding]:
    """Returns the findings that are the reason for the answer: those that hold if it is yes, those that do not if no.

    Members of a group count only where the group's own answer is of that kind.
    """
    chosen: list[Finding] = []
    within = -1  # members at this level or deeper belong to a group that is not the reason
    for finding in findings:
        if 0 <= within <= finding.level:
            continue
        within = -1
        if bool(finding.holds) is taken or finding.level:
            chosen.append(finding)
        else:
            within = finding.level + 1
    return chosen


def reason_of(volumes: Sequence[VolumeFindings]) -> str:
    """Returns in one line why a series was taken or not.

    Where it holds several volumes, those with the same reason are named together: "NAME, NAME: reason | NAME: reason".
    """
    groups: dict[str, list[str]] = {}
    for one in volumes:
        groups.setdefault(one.reason, []).append(one.volume)
    if len(volumes) == 1:
        return next(iter(groups))
    return " | ".join(f"{', '.join(names)}: {reason}" for reason, names in groups.items())

"""Whether a series shows a region of the body, by the words of its headers; and what else these say.

The words nearest to the series decide: Series Description, then Protocol Name with Study Description, then Body Part
Examined. So the neck series of a study "CT Neck/Chest/Abdomen" is of the neck and the trunk series is not; only a
series whose own words name no region is what its study says. A protocol's name that shares no region with the study's
description counts alone. "Whole body" names no part: it speaks against none.
"""

from collections.abc import Collection, Sequence

from worker.findings import Finding
from worker.protocols.attributes import Candidate
from worker.protocols.words import OwnWords, regions_in, said_in, vocabulary

TEXTS = ("SeriesDescription", "ProtocolName", "StudyDescription", "BodyPartExamined")
"""Attributes whose words are read, the nearest to the series first."""


def ask_region(wanted: Sequence[str], candidate: Candidate, own: OwnWords) -> Finding:
    """Judges whether the series shows one of the regions `wanted`."""
    named = {text: _named(candidate, text, own) for text in TEXTS}
    source, regions = _nearest(named)
    condition = f"region {' or '.join(wanted)}"
    if source is None:
        return Finding(condition, "", None)
    holds = bool(set(wanted) & regions)
    spanning = vocabulary().spanning & set(wanted)
    if spanning and not holds and regions <= _harmless(named):
        holds = any(spanning & (of_text or frozenset()) for of_text in named.values())
        source = next((text for text in TEXTS if spanning & (named[text] or frozenset())), source)
        regions = frozenset(spanning) if holds else regions
    return Finding(condition, f"{' and '.join(sorted(regions)) or 'no region'} by {source}", holds)


def ask_says(wanted: str, candidate: Candidate, own: OwnWords) -> Finding:
    """Judges whether the headers say what the list `wanted` is about."""
    open_ = False
    for text in vocabulary().looked_at[wanted]:
        contents = candidate.values(text)
        open_ |= contents is None
        for values in contents or ():
            if found := said_in(" ".join(map(str, values)), wanted, own):
                return Finding(f"says {wanted}", f"'{found}' in {text}", True)
    return Finding(f"says {wanted}", "" if open_ else "in none of its words", None if open_ else False)


def names_itself(wanted: Collection[str], candidate: Candidate, own: OwnWords) -> tuple[float, str]:
    """Returns how near to the series its own words name one of the regions, 0 to 2, and the words for people."""
    counted = set(wanted) - vocabulary().kernels
    for score, text in ((2.0, "SeriesDescription"), (1.0, "ProtocolName")):
        if named := counted & (_named(candidate, text, own) or frozenset()):
            return score, f"{' and '.join(sorted(named))} in {text}"
    return 0.0, "no region in its own words"


def _named(candidate: Candidate, text: str, own: OwnWords) -> frozenset[str] | None:
    """Returns the regions that an attribute names in all images together; None where it cannot be known."""
    contents = candidate.values(text)
    if contents is None:
        return None
    return frozenset().union(*(regions_in(" ".join(map(str, values)), own) for values in contents))


def _nearest(named: dict[str, frozenset[str] | None]) -> tuple[str | None, frozenset[str]]:
    """Returns which attribute decides on the regions, and these; None where a nearer one cannot be known."""
    spanning = vocabulary().spanning
    series, protocol, study, part = (named[text] for text in TEXTS)
    if series is None:
        return None, frozenset()
    if series - spanning:
        return "SeriesDescription", series
    if protocol is None or study is None:
        return None, frozenset()
    of_study, of_protocol = study - spanning, protocol - spanning
    if of_protocol and not of_protocol & of_study:
        return "ProtocolName", of_protocol | series
    if of_study:
        return "StudyDescription", of_study | of_protocol | series
    if part is None:
        return None, frozenset()
    return "BodyPartExamined", part | series


def _harmless(named: dict[str, frozenset[str] | None]) -> frozenset[str]:
    """Returns the regions that speak against no whole body: all where the series' own words name none but a kernel."""
    own = (named["SeriesDescription"] or frozenset()) - vocabulary().spanning - vocabulary().kernels
    return frozenset() if own else vocabulary().region_names

"""Places that two findings of a sentence share.

"nodules and consolidation in the left lung"     ->  both in the left lung
"left basal atelectasis/effusion"                ->  both left basal
"right renal lesion consistent with a cyst"      ->  one thing under two names: a right renal cyst
"""

import itertools
from collections.abc import Sequence

from worker.report_language.findings.places import (
    DESCRIPTION,
    DROPPED,
    NAMES_PLACE,
    PASSED_OVER,
    WHERE,
    Mention,
    Span,
    aside_end,
)
from worker.report_language.language.chunks import Chunk
from worker.report_language.language.lexicon import Lexicon, WordKind

_BETWEEN_FINDINGS = (DROPPED - {WordKind.MEASURE}) | {WordKind.JOIN, WordKind.ARTICLE, WordKind.PARTITIVE}
_BETWEEN_NAMES = PASSED_OVER | DESCRIPTION | {WordKind.ARTICLE, WordKind.JOIN, WordKind.WORD, WordKind.POSITION}


def share_places(chunks: Sequence[Chunk], found: Sequence[Mention], lexicon: Lexicon) -> None:
    """Gives a finding without a place that of the finding it is joined to, in place.

    Joined by "and" or "with" ("nodules and consolidation in the left lung"), by a slash, or as another name of one
    thing ("right renal lesion consistent with a cyst").
    """
    for first, second in zip(reversed(found[:-1]), reversed(found[1:]), strict=True):
        between = chunks[first.end : second.start]
        joined = between and all(
            piece.kind in _BETWEEN_FINDINGS or piece.concept in lexicon.companions for piece in between
        )
        needs = not (first.place or first.apart or _names_place(chunks, first) or chunks[first.head].located)
        if joined and needs and second.place:
            first.place = list(second.place)
        with_it = between and all(piece.concept in lexicon.companions for piece in between)
        bare = not (second.place or second.apart or _names_place(chunks, second) or chunks[second.head].located)
        if with_it and first.place and bare:
            second.place = list(first.place)
    for first, second in itertools.pairwise(found):
        if _is_joined(chunks, first, second) or _is_other_name(chunks, first.end, second.start, lexicon):
            _share_as_one(chunks, first, second)


def _is_joined(chunks: Sequence[Chunk], first: Mention, second: Mention) -> bool:
    """Whether "left basal atelectasis/effusion" or "left hydronephrosis and hydroureter" joins two findings."""
    between = chunks[first.end : second.start]
    alike = chunks[first.head].concept == chunks[second.head].concept
    return len(between) == 1 and between[0].kind is WordKind.JOIN and (between[0].concept == "/" or alike)


def _names_place(chunks: Sequence[Chunk], mention: Mention) -> bool:
    """Whether the finding's own words name a side or site: "right renal" of "right renal lesion"."""
    return any(chunks[i].kind in NAMES_PLACE for start, end in mention.kept for i in range(start, end))


def _is_other_name(chunks: Sequence[Chunk], start: int, end: int, lexicon: Lexicon) -> bool:
    """Whether ", 9 mm, consistent with a" stands from `start` to `end`: both findings are one thing."""
    told = False
    while start < end:
        piece = chunks[start]
        told = told or piece.concept in lexicon.same_as
        aside = aside_end(chunks, start)
        passed = piece.kind in _BETWEEN_NAMES or piece.concept in lexicon.same_as | lexicon.companions
        if not (aside or passed):
            return False
        start = aside or start + 1
    return told


def _share_as_one(chunks: Sequence[Chunk], first: Mention, second: Mention) -> None:
    """Gives the place of one finding to the other, in place, whichever has none.

    "Right renal lesion consistent with a cyst": the cyst gets "right renal".
    """
    for giver, taker in ((first, second), (second, first)):
        if taker.place or taker.apart or _names_place(chunks, taker) or chunks[taker.head].located:
            continue
        taker.place, taker.apart, taker.whole = list(giver.place), giver.apart, giver.whole
        taker.kept = [*_where(chunks, giver), *taker.kept]


def _where(chunks: Sequence[Chunk], mention: Mention) -> list[Span]:
    """Returns the words of place before a finding: "right renal" of "right renal lesion"."""
    if not _names_place(chunks, mention):
        return []
    own = [i for start, end in mention.kept for i in range(start, end)]
    return [(i, i + 1) for i in own if chunks[i].kind in WHERE and i != mention.head]

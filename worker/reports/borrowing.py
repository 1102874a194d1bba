"""Places that a sentence names apart from its findings: "The left kidney contains a cyst"."""

from collections.abc import Sequence

from .chunks import Chunk
from .lexicon import Kind, Lexicon
from .places import WHERE, Mention, Span, is_numbered


def sites_named(chunks: Sequence[Chunk], mention: Mention) -> list[str]:
    """The concepts of the sites in the finding's own words; a side alone is none."""
    spans = [*mention.kept, *mention.place]
    own = [chunks[i] for start, end in spans for i in range(start, end)]
    return [piece.concept for piece in own if piece.kind in (Kind.SITE, Kind.SITE_ADJECTIVE)]


def borrow_place(chunks: Sequence[Chunk], found: Sequence[Mention], lexicon: Lexicon) -> None:
    """Give findings without a place the one named before them: "The left kidney contains a cyst"."""
    for mention in found:
        if mention.borrowed is not None or chunks[mention.head].concept in lexicon.self_located:
            continue
        sites = sites_named(chunks, mention)
        if not sites:
            mention.borrowed = _place_before(chunks, mention.start, found, lexicon)
        elif mention.place and lexicon.parts.issuperset(sites):
            mention.whole = _place_before(chunks, mention.start, found, lexicon)
        elif not mention.place and not _has_side(chunks, mention.kept):
            place = _place_before(chunks, mention.start, found, lexicon)
            if place and _has_side(chunks, [place]) and _is_same_organ(chunks, place, sites):
                mention.borrowed = place  # "Both kidneys show parapelvic cysts"


def _has_side(chunks: Sequence[Chunk], spans: Sequence[Span]) -> bool:
    return any(chunks[i].side for start, end in spans for i in range(start, end))


def _is_same_organ(chunks: Sequence[Chunk], place: Span, sites: Sequence[str]) -> bool:
    return {chunks[i].concept for i in range(*place) if chunks[i].kind is Kind.SITE} == set(sites)


def _place_before(chunks: Sequence[Chunk], start: int, found: Sequence[Mention], lexicon: Lexicon) -> Span | None:
    """The nearest place before `start` in the same clause that belongs to no other finding."""
    at = start - 1
    while at >= 0 and not _ends_clause(chunks, at):
        if chunks[at].kind is Kind.SITE:
            if any(_owns(mention, at) for mention in found):
                return None
            first = at
            while first > 0 and chunks[first - 1].kind in WHERE | {Kind.ARTICLE}:
                first -= 1
            while chunks[first].kind is Kind.ARTICLE:
                first += 1
            first = _with_preposition(chunks, first)
            return None if chunks[at].concept in lexicon.regions else (first, _after_place(chunks, at + 1, lexicon))
        at -= 1
    return None


def _owns(mention: Mention, at: int) -> bool:
    """Whether a place is part of a finding's phrase; the subject of "is enlarged" stays free for others."""
    told_of = mention.borrowed is not None and mention.borrowed[0] <= at < mention.borrowed[1]
    return mention.start <= at < mention.end and not told_of


def _with_preposition(chunks: Sequence[Chunk], first: int) -> int:
    """Where a place begins with its preposition, if the clause begins there: "In the left lung, ..."."""
    at = first - 1
    if at > 0 and chunks[at].kind is Kind.ARTICLE:
        at -= 1
    opens = at == 0 or (at > 0 and chunks[at - 1].kind in (Kind.MARK, Kind.JOIN))
    return at if opens and chunks[at].kind is Kind.PREPOSITION else first


def _ends_clause(chunks: Sequence[Chunk], at: int) -> bool:
    """Whether a clause ends at `at`: a semicolon, or a comma before "and"."""
    comma = chunks[at].concept == "," and at + 1 < len(chunks) and chunks[at + 1].kind is Kind.JOIN
    return comma or chunks[at].concept == ";"


def _after_place(chunks: Sequence[Chunk], end: int, lexicon: Lexicon) -> int:
    while end < len(chunks) and (chunks[end].kind in WHERE or is_numbered(chunks, end, lexicon)):
        end += 1
    return end

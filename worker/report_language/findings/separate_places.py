"""Places that a sentence names apart from its findings, before them.

"The left kidney contains a cyst"        ->  cyst: apart "left kidney"
"In the left lung, there is a nodule"    ->  nodule: apart "in the left lung"
"Both kidneys show parapelvic cysts"     ->  cysts: apart "both kidneys", which says more than "parapelvic"
"""

from collections.abc import Sequence

from worker.report_language.findings.places import NAMES_PLACE, WHERE, Mention, Span, has_side, is_numbered
from worker.report_language.language.chunks import Chunk
from worker.report_language.language.lexicon import Lexicon, WordKind


def sites_named(chunks: Sequence[Chunk], mention: Mention) -> list[str]:
    """Lists the concepts of the sites in the finding's own words.

    "Nodule in the right upper lobe abutting the pleura" names "lobe": a side alone is no site, nor is a neighbour.
    """
    spans = [*mention.kept, *(span for span in mention.place if chunks[span[0]].kind is not WordKind.RELATION)]
    own = [chunks[i] for start, end in spans for i in range(start, end)]
    return [piece.concept for piece in own if piece.kind in (WordKind.SITE, WordKind.SITE_ADJECTIVE)]


def add_separate_places(chunks: Sequence[Chunk], found: Sequence[Mention], lexicon: Lexicon) -> None:
    """Gives findings without a place the one that the sentence names before them, in place.

    "The left kidney contains a cyst": the cyst gets "left kidney". Not over the end of a clause, nor over a word such
    as "although", nor when the place belongs to another finding.
    """
    for mention in found:
        if mention.apart is not None or chunks[mention.head].located:
            continue
        sites = sites_named(chunks, mention)
        if not sites:
            mention.apart = _place_before(chunks, mention.start, found, lexicon)
        elif mention.place and lexicon.parts.issuperset(sites):
            mention.whole = _place_before(chunks, mention.start, found, lexicon)
        elif not mention.place:
            place = _place_before(chunks, mention.start, found, lexicon)
            if place and _tells_more(chunks, place, mention, sites, lexicon):
                mention.apart = place


def _tells_more(chunks: Sequence[Chunk], place: Span, mention: Mention, sites: Sequence[str], lexicon: Lexicon) -> bool:
    """Whether the place before a finding says more than the finding's own site: a side of the same organ, or a level.

    "Both kidneys show parapelvic cysts": "both kidneys" gives the side. `sites` are the concepts of the own site.
    """
    if any(lexicon.is_code(chunks[i].concept) for i in range(*place)):
        return lexicon.code_sites.issuperset(sites)
    sided = has_side(chunks, [place]) and not has_side(chunks, mention.kept)
    return sided and _is_same_organ(chunks, place, sites)


def _is_same_organ(chunks: Sequence[Chunk], place: Span, sites: Sequence[str]) -> bool:
    """Whether the place names the same organs as `sites`: "kidneys" and "parapelvic" are one concept."""
    return {chunks[i].concept for i in range(*place) if chunks[i].kind is WordKind.SITE} == set(sites)


def _place_before(chunks: Sequence[Chunk], start: int, found: Sequence[Mention], lexicon: Lexicon) -> Span | None:
    """Finds the nearest place before `start` in the same clause; None where it belongs to another finding.

    Whole regions ("the abdomen") and places before a turn ("although") do not count.
    """
    at = start - 1
    while at >= 0 and not _ends_clause(chunks, at):
        if chunks[at].concept in lexicon.turns:
            return None
        if chunks[at].kind is WordKind.SITE:
            level = lexicon.is_code(chunks[at].concept)  # told of "disc disease at L4-L5" it holds for the bulge too
            if any(_owns(chunks, one, at, lexicon) for one in found if chunks[one.head].drawable or not level):
                return None
            first = at
            while first > 0 and chunks[first - 1].kind in WHERE | {WordKind.ARTICLE}:
                first -= 1
            while chunks[first].kind is WordKind.ARTICLE:
                first += 1
            first = _whole_of(chunks, first)
            if first > 1 and chunks[first - 1].kind is WordKind.JOIN and chunks[first - 1].concept != ",":
                first = _joined_place(chunks, first)
            first = _with_preposition(chunks, first)
            return None if chunks[at].concept in lexicon.regions else (first, _after_place(chunks, at + 1, lexicon))
        at -= 1
    return None


def _whole_of(chunks: Sequence[Chunk], first: int) -> int:
    """Finds where "basal segments of the lower lobes" begins when `first` is "lower"; `first` when no part is named."""
    at = first - 1
    while at > 0 and chunks[at].kind is WordKind.ARTICLE:
        at -= 1
    part = at > 0 and chunks[at].kind is WordKind.PREPOSITION and chunks[at - 1].kind in (WordKind.SITE, WordKind.PLACE)
    if not part:
        return first
    at -= 1
    while at > 0 and chunks[at - 1].kind in WHERE:
        at -= 1
    return at


def _joined_place(chunks: Sequence[Chunk], first: int) -> int:
    """Finds where "left epididymis and testis" begins when `first` is "testis"; `first` when no site is joined."""
    at = first - 1
    while at > 0 and chunks[at - 1].kind in WHERE:
        at -= 1
    return at if any(chunks[i].kind in NAMES_PLACE | {WordKind.POSITION} for i in range(at, first - 1)) else first


def _owns(chunks: Sequence[Chunk], mention: Mention, at: int, lexicon: Lexicon) -> bool:
    """Whether the place at `at` is part of a finding's phrase.

    That of a state with a companion is free: in "dilated bile duct with a stone" the stone lies in the bile duct.
    """
    followed = mention.end < len(chunks) and chunks[mention.end].concept in lexicon.companions
    if chunks[mention.head].kind is WordKind.STATE and followed:
        return False
    told_of = mention.apart is not None and mention.apart[0] <= at < mention.apart[1]
    return mention.start <= at < mention.end and not told_of


def _with_preposition(chunks: Sequence[Chunk], first: int) -> int:
    """Finds where a place begins with its preposition, if the clause begins there: "In the left lung, ..."."""
    at = first - 1
    if at > 0 and chunks[at].kind is WordKind.ARTICLE:
        at -= 1
    opens = at == 0 or (at > 0 and chunks[at - 1].kind in (WordKind.MARK, WordKind.JOIN))
    return at if opens and chunks[at].kind is WordKind.PREPOSITION else first


def _ends_clause(chunks: Sequence[Chunk], at: int) -> bool:
    """Whether a clause ends at `at`: a semicolon, or a comma before "and"."""
    comma = chunks[at].concept == "," and at + 1 < len(chunks) and chunks[at + 1].kind is WordKind.JOIN
    return comma or chunks[at].concept == ";"


def _after_place(chunks: Sequence[Chunk], end: int, lexicon: Lexicon) -> int:
    """Returns the position after the words of place that go on at `end`: the 7 of "segment 7"."""
    while end < len(chunks) and (chunks[end].kind in WHERE or is_numbered(chunks, end, lexicon)):
        end += 1
    return end

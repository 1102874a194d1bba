"""Phrases that name a finding: what stands before the finding, where it is, and what of it the prompt keeps.

`[small] solid nodule [of 8 mm, is seen] in the right upper lobe`: the finding draws in the modifiers, sides and sites
before it and the place after it; sizes, numbers and words of change are passed over and dropped.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from .chunks import Chunk
from .lexicon import Kind, Lexicon

Span = tuple[int, int]  # chunks from, to (exclusive)

_DROPPED = frozenset({Kind.SIZE, Kind.CHANGE, Kind.QUANTITY, Kind.MEASURE})
_DESCRIPTION = frozenset({Kind.MODIFIER, Kind.STATE})
_WHERE = frozenset({Kind.SIDE, Kind.POSITION, Kind.SITE, Kind.SITE_ADJECTIVE, Kind.PLACE})
_NAMES_PLACE = frozenset({Kind.SIDE, Kind.SITE, Kind.SITE_ADJECTIVE})
_PASSED_OVER = frozenset({Kind.FILLER, Kind.MEASURE, Kind.NUMBER, Kind.SIZE, Kind.CHANGE, Kind.QUANTITY})
_LONGEST_ASIDE = 12  # chunks in a parenthesis that may stand between a finding and its place


@dataclass(slots=True)
class Mention:
    """A finding named in a sentence; spans count the chunks of the sentence."""

    head: int
    start: int  # of the words before the head that belong to it
    end: int  # after its place
    kept: list[Span] = field(default_factory=list)  # what the prompt shows, the place left out
    place: list[Span] = field(default_factory=list)  # "in the right upper lobe", each with its preposition
    borrowed: Span | None = None  # a place from elsewhere in the sentence


def mentions(chunks: Sequence[Chunk], lexicon: Lexicon) -> list[Mention]:
    """The findings of a sentence in order, each with its own words and place."""
    found: list[Mention] = []
    for head, piece in enumerate(chunks):
        taken = found[-1].end if found else 0
        if piece.kind is Kind.FINDING:
            found.append(_around(chunks, head, taken, lexicon))
        elif piece.kind is Kind.STATE and not _describes_finding(chunks, head):
            mention = _state(chunks, head, taken, lexicon)
            if mention:
                found.append(mention)
    _share_places(chunks, found)
    return found


def _around(chunks: Sequence[Chunk], head: int, taken: int, lexicon: Lexicon) -> Mention:
    start = _start(chunks, head, taken, lexicon)
    mention = Mention(head, start, head + 1)
    mention.kept = _kept(chunks, start, head)
    _add_place(chunks, mention, lexicon)
    return mention


def _start(chunks: Sequence[Chunk], head: int, taken: int, lexicon: Lexicon) -> int:
    """Where the words that describe the head begin; `taken` chunks belong to the finding before."""
    at = head
    while at > taken:
        before = chunks[at - 1]
        if (
            before.kind in _DROPPED | _DESCRIPTION | _WHERE
            or _is_numbered(chunks, at - 1, lexicon)
            or (before.kind is Kind.NUMBER and chunks[at].kind in _DESCRIPTION | _WHERE | {Kind.FINDING})
            or before.kind is Kind.PARTITIVE
        ):
            at -= 1
        elif (before.kind is Kind.ARTICLE and at - 2 >= taken and chunks[at - 2].kind is Kind.PARTITIVE) or (
            before.kind is Kind.JOIN and at - 2 >= taken and _alike(chunks[at - 2], chunks[at])
        ):
            at -= 2
        else:
            break
    return at


def _alike(first: Chunk, second: Chunk) -> bool:
    """Whether `first and second` describe the same thing: two sides, two positions, two looks."""
    groups = ({Kind.MODIFIER, Kind.STATE, Kind.SIZE, Kind.CHANGE}, {Kind.SIDE}, {Kind.POSITION, Kind.SITE_ADJECTIVE})
    return any(first.kind in group and second.kind in group for group in groups)


def _is_numbered(chunks: Sequence[Chunk], at: int, lexicon: Lexicon) -> bool:
    """Whether a number counts a site: the 7 of "segment 7", the 5 of "L4-5", "7th rib"."""
    if chunks[at].kind is not Kind.NUMBER:
        return False
    if at + 1 < len(chunks) and chunks[at + 1].concept in lexicon.counted:
        return True
    before = chunks[at - 1]
    return at > 0 and before.kind is Kind.SITE and (before.concept in lexicon.numbered or before.concept[-1:].isdigit())


def _kept(chunks: Sequence[Chunk], start: int, head: int) -> list[Span]:
    """The words before and of the head that the prompt keeps."""
    kept: list[Span] = []
    for at in range(start, head + 1):
        piece = chunks[at]
        if piece.kind in _DROPPED | {Kind.PARTITIVE, Kind.ARTICLE}:
            continue
        if piece.kind is Kind.NUMBER and (at == 0 or chunks[at - 1].kind is not Kind.SITE):
            continue
        if piece.kind is Kind.JOIN and (not kept or kept[-1][1] != at or chunks[at + 1].kind in _DROPPED):
            continue
        if kept and kept[-1][1] == at:
            kept[-1] = (kept[-1][0], at + 1)
        else:
            kept.append((at, at + 1))
    return kept


def _add_place(chunks: Sequence[Chunk], mention: Mention, lexicon: Lexicon) -> None:
    """Draw in the places after the head: "(image 4) is seen in the lower pole of the left kidney"."""
    at = mention.end
    while at < len(chunks):
        piece = chunks[at]
        aside = _aside_end(chunks, at)
        if aside:
            at = aside
        elif piece.kind in _PASSED_OVER:
            at += 1
        elif piece.kind is Kind.PREPOSITION or (piece.kind is Kind.SIDE and piece.side):
            end = _place_end(chunks, at + (piece.kind is Kind.PREPOSITION), lexicon)
            if not end:
                return
            mention.place.append((at, end))
            at = mention.end = end
        else:
            if piece.concept == "," and not mention.place and _is_list_place(chunks, at + 1, lexicon):
                mention.end = _place_end(chunks, at + 1, lexicon)
                mention.borrowed = (at + 1, mention.end)
            return


def _aside_end(chunks: Sequence[Chunk], at: int) -> int:
    """The position after a short parenthesis without a finding at `at`, or 0."""
    if chunks[at].concept != "(":
        return 0
    for end in range(at + 1, min(at + _LONGEST_ASIDE, len(chunks))):
        if chunks[end].kind is Kind.FINDING:
            return 0
        if chunks[end].concept == ")":
            return end + 1
    return 0


def _is_list_place(chunks: Sequence[Chunk], at: int, lexicon: Lexicon) -> bool:
    """Whether "acute infarct, left thalamus" goes on with a bare place: it must end its clause."""
    end = _place_end(chunks, at, lexicon)
    if not end or chunks[end - 1].kind not in (Kind.SITE, Kind.PLACE) or chunks[at].kind is Kind.ARTICLE:
        return False
    return end == len(chunks) or chunks[end].concept in (",", ";", "(", ")", ".", ":")


def _place_end(chunks: Sequence[Chunk], at: int, lexicon: Lexicon) -> int:
    """Where the place that starts at `at` ends ("the right upper and left lower lobes"), or 0 when it is none."""
    end, named = _run_end(chunks, at, lexicon)
    if end < len(chunks) and chunks[end].kind is Kind.FINDING:
        return 0
    if not named and at < end < len(chunks) and chunks[end].kind is Kind.PREPOSITION:
        return _place_end(chunks, end + 1, lexicon)  # "the anterior aspect of the left kidney"
    while end < len(chunks) and chunks[end].kind is Kind.JOIN and end > at:
        step = 2 if end + 1 < len(chunks) and chunks[end].concept == "," and chunks[end + 1].kind is Kind.JOIN else 1
        after, also = _run_end(chunks, end + step, lexicon)
        if after == end + step or not also or _starts_clause(chunks, after):
            break
        end, named = after, named or also
    return end if named else 0


def _run_end(chunks: Sequence[Chunk], at: int, lexicon: Lexicon) -> tuple[int, bool]:
    """(end of the words of place from `at`, whether they name a place)."""
    end, named = at, False
    while end < len(chunks):
        kind = chunks[end].kind
        if kind in _NAMES_PLACE:
            named = True
        elif (kind is Kind.FINDING and chunks[end].concept in lexicon.title_findings and end > at) or (
            kind not in _WHERE | {Kind.ARTICLE, Kind.MODIFIER, Kind.PARTITIVE}
            and not _is_numbered(chunks, end, lexicon)
        ):
            break
        end += 1
    while end > at and chunks[end - 1].kind in (Kind.ARTICLE, Kind.MODIFIER, Kind.PARTITIVE):
        end -= 1
    return end, named


def _starts_clause(chunks: Sequence[Chunk], at: int) -> bool:
    """Whether the place before `at` is the subject or the adjective of what follows, and no second place."""
    if at == len(chunks) or chunks[at].kind is not Kind.FILLER:
        return at < len(chunks) and chunks[at].kind in (Kind.FINDING, Kind.STATE)
    return at + 1 < len(chunks) and chunks[at + 1].kind in (Kind.WORD, Kind.STATE, Kind.MODIFIER)


def _describes_finding(chunks: Sequence[Chunk], at: int) -> bool:
    """Whether a state is the adjective of a finding ("enlarged lymph nodes")."""
    for piece in chunks[at + 1 :]:
        if piece.kind is Kind.FINDING:
            return True
        if piece.kind not in _WHERE | _DESCRIPTION | _DROPPED:
            return False
    return False


def _state(chunks: Sequence[Chunk], head: int, taken: int, lexicon: Lexicon) -> Mention | None:
    """A state with the site it is told of: "dilated bile duct", "the spleen is enlarged"; None without a site."""
    end, _ = _run_end(chunks, head + 1, lexicon)
    if any(chunks[i].kind is Kind.SITE for i in range(head + 1, end)):
        start = _start(chunks, head, taken, lexicon)
        mention = Mention(head, start, end)
        mention.kept = [*_kept(chunks, start, head), (head + 1, end)]
        _add_place(chunks, mention, lexicon)
        return mention
    subject = _subject(chunks, head, taken)
    if subject is None:
        return None
    mention = Mention(head, subject[0], head + 1, kept=[(head, head + 1)])
    mention.borrowed = subject
    return mention


def _subject(chunks: Sequence[Chunk], head: int, taken: int) -> Span | None:
    """The site that a predicate is told of: "spleen" in "the spleen is mildly enlarged"."""
    at = head
    linked = False
    while at > taken and chunks[at - 1].kind in _PASSED_OVER | {Kind.MODIFIER, Kind.ARTICLE}:
        linked = linked or chunks[at - 1].kind is Kind.FILLER
        at -= 1
    end = at
    while at > taken and chunks[at - 1].kind in _WHERE:
        at -= 1
    return (at, end) if linked and any(chunks[i].kind is Kind.SITE for i in range(at, end)) else None


def _share_places(chunks: Sequence[Chunk], found: Sequence[Mention]) -> None:
    """In "nodules and consolidation in the left lung" the place holds for both."""
    for first, second in zip(reversed(found[:-1]), reversed(found[1:]), strict=True):
        between = chunks[first.end : second.start]
        joined = between and all(piece.kind in (Kind.JOIN, Kind.ARTICLE) for piece in between)
        own = any(chunks[i].kind in _NAMES_PLACE for a, b in first.kept for i in range(a, b))
        if joined and not first.place and not own and second.place:
            first.place = list(second.place)


def names_site(chunks: Sequence[Chunk], mention: Mention) -> bool:
    """Whether the finding's own words say in which organ it is; a side alone does not."""
    spans = [*mention.kept, *mention.place]
    return any(chunks[i].kind in (Kind.SITE, Kind.SITE_ADJECTIVE) for start, end in spans for i in range(start, end))


def borrow_place(chunks: Sequence[Chunk], found: Sequence[Mention], lexicon: Lexicon) -> None:
    """Give findings without a place the one named before them: "The left kidney contains a cyst"."""
    for mention in found:
        own = any(
            chunks[i].kind in (Kind.SITE, Kind.SITE_ADJECTIVE)
            for a, b in mention.kept + mention.place
            for i in range(a, b)
        )
        if not own and mention.borrowed is None:
            mention.borrowed = _place_before(chunks, mention.start, found, lexicon)


def _place_before(chunks: Sequence[Chunk], start: int, found: Sequence[Mention], lexicon: Lexicon) -> Span | None:
    """The nearest place before `start` in the same clause that belongs to no other finding."""
    at = start - 1
    while at >= 0 and chunks[at].concept != ";":
        if chunks[at].kind is Kind.SITE:
            if any(mention.start <= at < mention.end for mention in found):
                return None
            first = at
            while first > 0 and chunks[first - 1].kind in _WHERE | {Kind.ARTICLE}:
                first -= 1
            while chunks[first].kind is Kind.ARTICLE:
                first += 1
            return None if chunks[at].concept in lexicon.regions else (first, _after_place(chunks, at + 1))
        at -= 1
    return None


def _after_place(chunks: Sequence[Chunk], end: int) -> int:
    while end < len(chunks) and chunks[end].kind in _WHERE:
        end += 1
    return end

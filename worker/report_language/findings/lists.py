"""Lists under one finding, where every item is a finding of its own with its own place.

    "Nodules: RUL 5 mm, LLL 4 mm"  ->  "nodules in the RUL", "nodules in the LLL"

The heading may also be the line above the items, or a title. `mentions` asks `listed` for each finding of a sentence.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from worker.report_language.findings.places import (
    DESCRIPTION,
    PASSED_OVER,
    Mention,
    Span,
    aside_end,
    has_side,
    is_numbered,
    place_end,
)
from worker.report_language.language.chunks import Chunk, chunk
from worker.report_language.language.lexicon import Lexicon, WordKind
from worker.report_language.language.sentences import Sentence

_OPENS_LIST = frozenset({":", "-", "–", "—"})
_BEFORE_COLON = PASSED_OVER | {WordKind.PLACE}  # "Lesion 1:", "Nodules are seen as follows:"
_BEFORE_PLACE = PASSED_OVER | DESCRIPTION | {WordKind.ARTICLE, WordKind.JOIN}
_AFTER_PLACE = PASSED_OVER | DESCRIPTION | {WordKind.POSITION, WordKind.ARTICLE}
_LONGEST_OPENING = 6  # chunks from the finding to its colon


def listed(chunks: Sequence[Chunk], kept: Sequence[Span], head: int, lexicon: Lexicon) -> list[Mention]:
    """Finds the items of a list under the finding `head`, each as a mention of it; empty when it heads no list.

    "Nodules: RUL 5 mm, LLL 4 mm" has two items, "RUL 5 mm" and "LLL 4 mm". `kept` are the finding's own words up to the
    head. An item must name a place and nothing else of weight: "none in the left lung" and "5 mm nodule in the lingula"
    are no items.
    """
    start = _list_start(chunks, head)
    if not start:
        return []
    found = []
    for first, last in _items(chunks, start):
        mention = _item(chunks[:last], first, kept, head, lexicon)
        if mention is not None:
            found.append(mention)
    return found


def as_item(sentence: Sentence, lexicon: Lexicon) -> Sentence:
    """Joins a sentence with the line that heads its list, if there is one; other sentences come back as they are.

    "RUL: 5 mm" under the line "Nodules:" becomes "Nodules: RUL: 5 mm", whose span stays that of its own line.
    """
    of_title = sentence.heading is None
    heading = sentence.title if sentence.heading is None else sentence.heading.tokens
    if not heading or heading[-1].norm != ":":
        return sentence
    own = chunk(sentence.tokens, lexicon)
    heads = [i for i, piece in enumerate(chunk(heading, lexicon)) if piece.kind is WordKind.FINDING]
    told = any(piece.kind in (WordKind.MEASURE, WordKind.STATE) or piece.concept == "(" for piece in own)
    denied = any(piece.kind is WordKind.OUTSIDE or (piece.kind is WordKind.FINDING and not piece.look) for piece in own)
    if not heads or denied or (of_title and not told):
        return sentence
    title = () if of_title else sentence.title
    tokens = [*heading, *title, *sentence.tokens]
    if not listed(chunk(tokens, lexicon), [(heads[-1], heads[-1] + 1)], heads[-1], lexicon):
        return sentence
    above = () if sentence.heading is None else sentence.heading.title
    start = min(token.start for token in (*title, *sentence.tokens))
    return replace(sentence, tokens=tokens, title=above, span=(start, sentence.span[1]), heading=None)


def _list_start(chunks: Sequence[Chunk], head: int) -> int:
    """Finds the position after the mark that opens the list of the finding `head`: the colon of "Nodules:"; else 0."""
    at = head + 1
    while at < len(chunks) and at - head < _LONGEST_OPENING and chunks[at].kind in _BEFORE_COLON:
        at += 1
    return at + 1 if at + 1 < len(chunks) and chunks[at].concept in _OPENS_LIST else 0


def _items(chunks: Sequence[Chunk], start: int) -> Iterator[Span]:
    """Yields the items from `start`, cut at semicolons and full stops, and at commas and "and" that end an item.

    "RUL 5 mm and LLL 4 mm" is cut at "and"; "right upper, middle and lower lobes" is one item.
    """
    first = at = start
    while at < len(chunks):
        inside = aside_end(chunks, at)
        if inside:
            at = inside
            continue
        if chunks[at].concept in (";", ".") or (chunks[at].kind is WordKind.JOIN and _item_ends(chunks, at)):
            yield first, at
            first = at + 1
        at += 1
    yield first, len(chunks)


def _item_ends(chunks: Sequence[Chunk], at: int) -> bool:
    """Whether the comma or "and" at `at` ends an item: it does after a size or look, and not between positions."""
    before = chunks[at - 1]
    if before.kind in (WordKind.MEASURE, WordKind.MODIFIER) or before.concept == ")":
        return True
    return chunks[at].concept == "," and before.kind not in (WordKind.SIDE, WordKind.POSITION, WordKind.JOIN)


def _item(chunks: Sequence[Chunk], first: int, kept: Sequence[Span], head: int, lexicon: Lexicon) -> Mention | None:
    """Reads the item from `first`: the finding `head` with its place and looks; None when the item names no place.

    "Nodules: 5 mm solid, in the RUL" becomes a mention with the looks "solid" and the place "in the RUL".
    """
    at = first
    looks: list[Span] = []
    while (
        at < len(chunks)
        and (chunks[at].kind in _BEFORE_PLACE or chunks[at].look)
        and not is_numbered(chunks, at, lexicon)
    ):
        if chunks[at].kind in DESCRIPTION or chunks[at].look:
            looks.append((at, at + 1))
        at += 1
    preposition = at < len(chunks) and chunks[at].kind is WordKind.PREPOSITION
    start = at + preposition
    end = place_end(chunks, start, lexicon)
    if not end:
        return None
    place = (at, end)
    while end < len(chunks):
        piece = chunks[end]
        counted = (
            piece.kind is WordKind.WORD
            and end + 1 < len(chunks)
            and chunks[end + 1].kind in (WordKind.NUMBER, WordKind.MEASURE)
        )
        aside = aside_end(chunks, end)
        if not (aside or counted or piece.kind in _AFTER_PLACE or piece.look or piece.concept in _OPENS_LIST):
            return None
        if piece.kind in DESCRIPTION or piece.look:
            looks.append((end, end + 1))
        end = aside or end + 1
    return _placed(chunks, place, looks, kept, head)


def _placed(chunks: Sequence[Chunk], place: Span, looks: list[Span], kept: Sequence[Span], head: int) -> Mention:
    """Returns the mention of an item; where the place goes depends on its words.

    "in the RUL" stands behind the finding, "RUL" is worded by the template of sites, and "left pleural" stands before
    the finding: "left pleural effusion".
    """
    mention = Mention(head, head, head + 1)
    kinds = [chunks[i].kind for i in range(*place)]
    sided = has_side(chunks, [place])  # "Bilateral nodules: RUL, LLL": each has one side
    words = [i for start, end in kept for i in range(start, end) if i < head]
    own = [(i, i + 1) for i in words if not (sided and chunks[i].kind is WordKind.SIDE)]
    if kinds[0] is WordKind.PREPOSITION:
        mention.kept, mention.place = [*looks, *own, (head, head + 1)], [place]
    elif WordKind.SITE in kinds:
        mention.kept, mention.apart = [*looks, *own, (head, head + 1)], place
    else:
        told = [*own, place] if WordKind.SITE_ADJECTIVE in kinds else [place, *own]  # "left pleural effusion"
        mention.kept = [*looks, *told, (head, head + 1)]
    return mention

"""Places in a sentence, and which finding they belong to.

    "nodule is seen in the right upper and left lower lobes"  ->  place of "nodule": "in the right upper ... lobes"
    "4 mm nodule RUL"                                         ->  place apart: "RUL"
    "left pleural effusion"                                   ->  no place: the words describe the finding

A place is a run of sides, positions and sites. Functions return the position after what they found, and 0 for nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from worker.report_language.language.chunks import Chunk
from worker.report_language.language.lexicon import Lexicon, WordKind

Span = tuple[int, int]  # chunks from, to (exclusive)

DROPPED = frozenset({WordKind.SIZE, WordKind.CHANGE, WordKind.QUANTITY, WordKind.MEASURE})
DESCRIPTION = frozenset({WordKind.MODIFIER, WordKind.STATE})
WHERE = frozenset({WordKind.SIDE, WordKind.POSITION, WordKind.SITE, WordKind.SITE_ADJECTIVE, WordKind.PLACE})
NAMES_PLACE = frozenset({WordKind.SIDE, WordKind.SITE, WordKind.SITE_ADJECTIVE})
PASSED_OVER = DROPPED | {WordKind.FILLER, WordKind.NUMBER}
_WITHIN_PLACE = frozenset(
    {WordKind.ARTICLE, WordKind.MODIFIER, WordKind.PARTITIVE, WordKind.SIZE, WordKind.QUANTITY, WordKind.CHANGE}
)
_LEADS_TO_PLACE = frozenset({WordKind.PREPOSITION, WordKind.RELATION, WordKind.FILLER})
_ENDS_LIST_PLACE = frozenset({WordKind.SITE, WordKind.SITE_ADJECTIVE, WordKind.PLACE, WordKind.SIDE})
_AFTER_COUNT = frozenset({WordKind.JOIN, WordKind.MARK, WordKind.PREPOSITION, WordKind.FILLER})
_OPENS_BARE_PLACE = frozenset({WordKind.POSITION, WordKind.SITE})
_LONGEST_COUNT = 6  # chunks of "4th, 5th and 6th"
_LONGEST_ASIDE = 12  # chunks in a parenthesis that may stand between a finding and its place


@dataclass(slots=True)
class Mention:
    """A finding named in a sentence; positions and spans count the chunks of the sentence.

    Of "2 small solid nodules in the right upper lobe" `head` is 3 ("nodules"), `start` 1 ("small"), `kept` [(2, 4)]
    ("solid nodules") and `place` [(4, 8)] ("in the right upper lobe").
    """

    head: int
    start: int  # of the words before the head that belong to it
    end: int  # after its place
    kept: list[Span] = field(default_factory=list)  # what the prompt shows, the place left out
    place: list[Span] = field(default_factory=list)  # "in the right upper lobe", each with its preposition
    apart: Span | None = None  # a place from elsewhere in the sentence
    whole: Span | None = None  # the organ, named elsewhere, that the place is a part of


def add_place(chunks: Sequence[Chunk], mention: Mention, lexicon: Lexicon) -> None:
    """Adds the places after the head, in place: "(image 4) is seen in the lower pole of the left kidney".

    Sizes, numbers, fillers and asides before the place are passed over; `mention.end` moves behind the last place.
    """
    at = mention.end
    while at < len(chunks):
        piece = chunks[at]
        # After a place, a size tells of one of several: "nodules in both lungs, the largest 9 mm in the left".
        told = bool(mention.place) or has_side(chunks, mention.kept)
        aside = aside_end(chunks, at) or (0 if told else _measured_end(chunks, at))
        if aside:
            at = aside
        elif _leads_on(chunks, at, mention, lexicon):
            at += 1
        elif piece.kind in (WordKind.PREPOSITION, WordKind.RELATION):
            end = place_end(chunks, at + 1, lexicon)
            if not end:
                within = _finding_end(chunks, at + 1, lexicon)
                mention.place += [(at, within)] if within and not mention.place else []
                return
            if piece.kind is WordKind.PREPOSITION or not mention.place:
                mention.place.append((at, end))
            at = mention.end = end
        elif mention.place and (end := _second_place_end(chunks, at, lexicon)):
            mention.place.append((at, end))
            at = mention.end = end
        else:
            if not mention.place:
                _add_bare_place(chunks, mention, at, lexicon)
            return


def _finding_end(chunks: Sequence[Chunk], at: int, lexicon: Lexicon) -> int:
    """Returns the position after a known finding in which another one lies, or 0.

    "Thrombus in the right iliac aneurysm": the place of the thrombus is "the right iliac aneurysm".
    """
    if at + 1 >= len(chunks) or chunks[at].kind is not WordKind.ARTICLE or chunks[at].concept not in lexicon.definite:
        return 0
    end, _ = run_end(chunks, at, lexicon)
    return end + 1 if end < len(chunks) and chunks[end].kind is WordKind.FINDING else 0


def _second_place_end(chunks: Sequence[Chunk], at: int, lexicon: Lexicon) -> int:
    """Returns the position after "and in the left kidney" at `at`, or 0."""
    if chunks[at].kind is not WordKind.JOIN or at + 2 >= len(chunks) or chunks[at + 1].kind is not WordKind.PREPOSITION:
        return 0
    end = place_end(chunks, at + 2, lexicon)
    return end if end and (end == len(chunks) or chunks[end].kind is WordKind.MARK) else 0


def _leads_on(chunks: Sequence[Chunk], at: int, mention: Mention, lexicon: Lexicon) -> bool:
    """Whether the chunk at `at` may stand between a finding and its place: "is seen", "8 mm", a colon, "areas"."""
    piece = chunks[at]
    if piece.concept == ",":
        return _is_place_between_commas(chunks, at, lexicon)
    if piece.kind is WordKind.PLACE and at == mention.head + 1:
        return True  # "consolidation areas in both lungs"
    return piece.kind in PASSED_OVER or piece.concept == ":" or _is_predicate(chunks, at, mention)


def _is_place_between_commas(chunks: Sequence[Chunk], at: int, lexicon: Lexicon) -> bool:
    """Whether ", on the right," begins at `at`: a place that commas set apart."""
    if at + 1 == len(chunks) or chunks[at + 1].kind is not WordKind.PREPOSITION:
        return False
    end = place_end(chunks, at + 2, lexicon)
    return bool(end) and (end == len(chunks) or chunks[end].concept in {",", "."})


def _is_predicate(chunks: Sequence[Chunk], at: int, mention: Mention) -> bool:
    """Whether a look after the head leads to its place: "hemorrhage layering in the sinus"."""
    if chunks[at].kind is not WordKind.MODIFIER:
        return False
    return at > mention.end or (at + 1 < len(chunks) and chunks[at + 1].kind is WordKind.PREPOSITION)


def has_side(chunks: Sequence[Chunk], spans: Sequence[Span]) -> bool:
    """Whether one of the spans names a side."""
    return any(chunks[i].side for start, end in spans for i in range(start, end))


def _add_bare_place(chunks: Sequence[Chunk], mention: Mention, at: int, lexicon: Lexicon) -> None:
    """Adds a place without a preposition, in place: "4 mm nodule RUL", "infarct, left thalamus", "cyst upper pole".

    One with a site becomes `mention.apart`, so that the prompt is worded with a preposition: "nodule in the RUL".
    """
    if (chunks[at].side and not has_side(chunks, mention.kept)) or lexicon.is_code(chunks[at].concept):
        start = at
    elif chunks[at].concept == "," and _is_list_place(chunks, at + 1, lexicon):
        start = at + 1
    elif at == mention.head + 1 and chunks[at].kind in _OPENS_BARE_PLACE and _is_list_place(chunks, at, lexicon):
        start = at
    else:
        return
    end = place_end(chunks, start, lexicon)
    if not end:
        return
    mention.end = end
    if any(chunks[i].kind is WordKind.SITE for i in range(start, end)):
        mention.apart = (start, end)
    else:
        mention.place.append((start, end))


def aside_end(chunks: Sequence[Chunk], at: int) -> int:
    """Returns the position after a short parenthesis at `at` that holds no finding, such as "(image 4)"; or 0."""
    if chunks[at].concept != "(":
        return 0
    for end in range(at + 1, min(at + _LONGEST_ASIDE, len(chunks))):
        if chunks[end].kind is WordKind.FINDING:
            return 0
        if chunks[end].concept == ")":
            return end + 1
    return 0


def _measured_end(chunks: Sequence[Chunk], at: int) -> int:
    """Returns the position after ", 12 mm," or "of up to 12 mm" at `at`, or 0: a size may stand before the place."""
    comma = chunks[at].concept == ","
    if not comma and chunks[at].kind is not WordKind.PREPOSITION:
        return 0
    end = at + 1
    while end < min(at + _LONGEST_ASIDE, len(chunks)) and chunks[end].kind in PASSED_OVER | {
        WordKind.ARTICLE,
        WordKind.JOIN,
    }:
        if comma and chunks[end].concept == ",":
            break
        end += 1
    if all(piece.kind is not WordKind.MEASURE for piece in chunks[at:end]):
        return 0
    closed = comma and end < len(chunks) and chunks[end].concept == ","
    follows = end + closed < len(chunks) and chunks[end + closed].kind in _LEADS_TO_PLACE
    return end + closed if follows else 0


def _is_list_place(chunks: Sequence[Chunk], at: int, lexicon: Lexicon) -> bool:
    """Whether "acute infarct, left thalamus" goes on with a bare place: it must end its clause."""
    end = place_end(chunks, at, lexicon)
    closed = end and (chunks[end - 1].kind in _ENDS_LIST_PLACE or is_numbered(chunks, end - 1, lexicon))
    if not closed or chunks[at].kind is WordKind.ARTICLE:
        return False
    closes = end == len(chunks) or chunks[end].kind is WordKind.FILLER
    return closes or chunks[end].concept in (",", ";", "(", ")", ".", ":")


def place_end(chunks: Sequence[Chunk], at: int, lexicon: Lexicon) -> int:
    """Finds where the place that starts at `at` ends; 0 when no place starts there.

    Places that are joined are one: "the right upper and left lower lobes". A run of words before a finding is none: it
    describes the finding ("left pleural effusion").
    """
    end, named = run_end(chunks, at, lexicon)
    if end < len(chunks) and chunks[end].kind is WordKind.FINDING:
        return 0
    while end < len(chunks) and end > at:
        join = aside_end(chunks, end) or end  # "the right clavicle (middle third) and the scapula"
        if join == len(chunks) or chunks[join].kind is not WordKind.JOIN:
            break
        step = (
            2
            if join + 1 < len(chunks) and chunks[join].concept == "," and chunks[join + 1].kind is WordKind.JOIN
            else 1
        )
        after, also = run_end(chunks, join + step, lexicon)
        run = chunks[join + step : after]
        kinds = {piece.kind for piece in run}
        aside = named and kinds == {WordKind.SIDE}  # "both lobes, right more than left"
        counted = any(
            {chunks[end - 1].kind} == kinds == {kind} for kind in (WordKind.POSITION, WordKind.NUMBER)
        )  # "V/VIII"
        if not run or aside or (named and not also and not counted) or _starts_clause(chunks, after):
            break
        end, named = after, named or also
    if not named and at < end < len(chunks) and chunks[end].kind is WordKind.PREPOSITION:
        return place_end(chunks, end + 1, lexicon)  # "the floor and medial wall of the left orbit"
    return end if named else 0


def run_end(chunks: Sequence[Chunk], at: int, lexicon: Lexicon) -> tuple[int, bool]:
    """Returns (end of the words of place from `at`, whether they name a place).

    "the right upper lobe is" ends before "is" and names one; "upper" alone names none. It is one run without "and".
    """
    end, named = at, False
    while end < len(chunks):
        kind = chunks[end].kind
        if kind in NAMES_PLACE:
            named = True
        elif kind is WordKind.PLACE and end > at and chunks[end - 1].kind is WordKind.POSITION:
            named = True  # "in the inferior wall"
        elif not (
            kind in WHERE | _WITHIN_PLACE or is_numbered(chunks, end, lexicon) or _is_unknown_of_site(chunks, end)
        ):
            break
        end += 1
    while end > at and chunks[end - 1].kind in _WITHIN_PLACE:
        end -= 1
    return end, named


def _is_unknown_of_site(chunks: Sequence[Chunk], at: int) -> bool:
    """Whether the unknown word at `at` belongs to the site after it: "the iliotibial band", "Guyon canal"."""
    return (
        chunks[at].kind is WordKind.WORD
        and at + 1 < len(chunks)
        and chunks[at + 1].kind in (WordKind.SITE, WordKind.PLACE)
    )


def _starts_clause(chunks: Sequence[Chunk], at: int) -> bool:
    """Whether the words before `at` belong to what follows and are no second place.

    In "nodule in the left lung and the liver is enlarged" the liver is the subject of another clause.
    """
    if at == len(chunks) or chunks[at].kind is not WordKind.FILLER:
        return at < len(chunks) and chunks[at].kind in (WordKind.FINDING, WordKind.STATE)
    return at + 1 < len(chunks) and chunks[at + 1].kind in (WordKind.WORD, WordKind.STATE, WordKind.MODIFIER)


def is_numbered(chunks: Sequence[Chunk], at: int, lexicon: Lexicon) -> bool:
    """Whether a number counts a site: the 7 of "segment 7", the 5 of "L4-5", the 4th of "4th through 6th ribs"."""
    if chunks[at].kind is not WordKind.NUMBER:
        return False
    if at > 0 and chunks[at - 1].kind is WordKind.SITE:
        before = chunks[at - 1].concept
        if before in lexicon.numbered or before[-1].isdigit():
            return True
    counts_nothing = at + 1 == len(chunks) or chunks[at + 1].kind in _AFTER_COUNT
    if at > 1 and chunks[at - 1].kind is WordKind.JOIN and counts_nothing and is_numbered(chunks, at - 2, lexicon):
        return True  # "segments 7/8", not "segment 7, 2 nodules"
    after = at + 1
    while after < min(at + _LONGEST_COUNT, len(chunks)) and chunks[after].kind in (WordKind.JOIN, WordKind.NUMBER):
        after += 1
    return after < len(chunks) and chunks[after].concept in lexicon.counted

"""Phrases that name a finding: which words before and after the finding belong to it, and which the prompt keeps.

    "A small solid nodule of 8 mm is seen in the right upper lobe"
       dropped      kept      passed over         place                ->  solid nodule in the right upper lobe

A finding draws in the modifiers, sides and sites before it, and the place after it (`places`). Sizes, numbers and words
of change are passed over and dropped. A state ("enlarged") is a finding only together with a site.
"""

from collections.abc import Sequence

from worker.report_language.findings.lists import listed
from worker.report_language.findings.places import (
    DESCRIPTION,
    DROPPED,
    PASSED_OVER,
    WHERE,
    Mention,
    Span,
    add_place,
    is_numbered,
    place_end,
    run_end,
)
from worker.report_language.findings.shared_places import share_places
from worker.report_language.language.chunks import Chunk
from worker.report_language.language.lexicon import Lexicon, WordKind

_BEFORE_HEAD = DROPPED | DESCRIPTION | WHERE | {WordKind.PARTITIVE}
# An unknown word between one of these and a finding is its adjective: "left epididymal cyst", "2 cm interloop abscess".
_BEFORE_ADJECTIVE = DROPPED | DESCRIPTION | {WordKind.SIDE, WordKind.ARTICLE}
_OF_PREDICATE = PASSED_OVER | {
    WordKind.MODIFIER,
    WordKind.ARTICLE,
    WordKind.JOIN,
    WordKind.WORD,
}  # "is anteverted and enlarged"
_LONGEST_NAME = 5  # chunks of "(4R)"
_COUNTED = DESCRIPTION | WHERE | {WordKind.FINDING, WordKind.NUMBER}


def mentions(chunks: Sequence[Chunk], lexicon: Lexicon, *, titled: bool = False) -> list[Mention]:
    """Finds the findings that a sentence names, in order, each with its own words and place.

    "Small left effusion and a cyst in the liver" has two: "left effusion" without a place behind it, and "cyst" with
    the place "in the liver". With `titled`, when the sentence's title names an organ, a state alone is a finding too
    ("Spleen: mildly enlarged").
    """
    found: list[Mention] = []
    of_title = titled and not any(piece.kind is WordKind.SITE for piece in chunks)  # "Spleen: mildly enlarged"
    for head, piece in enumerate(chunks):
        taken = found[-1].end if found else 0
        if any(first <= head < last for one in found for first, last in one.kept):
            continue  # the look of a list's item: "Nodules: RUL 4 mm ground glass"
        if piece.kind is WordKind.FINDING:
            one = _around(chunks, head, taken, lexicon)
            found.extend(listed(chunks, one.kept, head, lexicon) or [one])
        elif piece.kind is WordKind.STATE and not _describes_finding(chunks, head):
            mention = _state(chunks, head, taken, lexicon)
            if mention is None and of_title and _ends_clause(chunks, head + 1, lexicon):
                mention = Mention(head, head, head + 1, kept=[(head, head + 1)])
            if mention is not None:
                found.append(mention)
    share_places(chunks, found, lexicon)
    return found


def _around(chunks: Sequence[Chunk], head: int, taken: int, lexicon: Lexicon) -> Mention:
    """Returns the finding at `head` with the words before it, from chunk `taken` on, and the places after it."""
    start = _start(chunks, head, taken)
    mention = Mention(head, start, head + 1)
    mention.kept = _kept(chunks, start, head, lexicon)
    add_place(chunks, mention, lexicon)
    return mention


def _start(chunks: Sequence[Chunk], head: int, taken: int) -> int:
    """Finds where the words that describe the head begin; the first `taken` chunks belong to the finding before.

    "There is a small solid nodule": at "small". "left hilar and mediastinal nodes": at "left".
    """
    at = head
    while at > taken:
        before = chunks[at - 1]
        counts = before.kind is WordKind.NUMBER and chunks[at].kind in _COUNTED  # "2 nodules", "3rd to 7th ribs"
        opens = at == 1 or (at - 2 >= taken and chunks[at - 2].kind in _BEFORE_ADJECTIVE)
        unknown = before.kind is WordKind.WORD and opens
        if before.kind in _BEFORE_HEAD or counts or (unknown and at == head):
            at -= 1
        elif before.kind is WordKind.ARTICLE and at - 2 >= taken and chunks[at - 2].kind is WordKind.PARTITIVE:
            at -= 2
        elif before.concept == ")" and at < head + 1 and _aside_start(chunks, at, taken) < at:
            at = _aside_start(chunks, at, taken)
        elif before.kind is WordKind.JOIN and _joined(chunks, at, taken) < at:
            at = _joined(chunks, at, taken)
        else:
            break
    return at


def _aside_start(chunks: Sequence[Chunk], at: int, taken: int) -> int:
    """Finds where the "(4R)" of "paratracheal (4R) nodes" begins when `at` is after it.

    Returns `at` when the aside is no mere name.
    """
    for start in range(at - 2, max(taken, at - _LONGEST_NAME) - 1, -1):
        if chunks[start].concept == "(":
            return start if start > taken and chunks[start - 1].kind in WHERE else at
        if chunks[start].kind in (WordKind.FINDING, WordKind.OUTSIDE):
            break
    return at


def _joined(chunks: Sequence[Chunk], at: int, taken: int) -> int:
    """Finds where "hilar, or" begins in "hilar, or axillary nodes" when `at` is "axillary".

    Returns `at` when nothing is joined.
    """
    before = at - 1
    while before >= taken and chunks[before].kind is WordKind.JOIN and at - before < 3:
        before -= 1
    if before > taken and chunks[before].concept == ")":  # "left iliac (14 mm) and right iliac nodes"
        before = _aside_start(chunks, before + 1, taken) - 1
    return before if before >= taken and _alike(chunks[before], _next_kept(chunks, at)) else at


def _next_kept(chunks: Sequence[Chunk], at: int) -> Chunk:
    """Returns the first chunk from `at` that is not dropped from a phrase: "right" in "small right effusion"."""
    while chunks[at].kind in DROPPED and at + 1 < len(chunks):
        at += 1
    return chunks[at]


def _alike(first: Chunk, second: Chunk) -> bool:
    """Whether `first and second` describe the same finding: two sides, two positions, two looks.

    "solid and calcified nodule" joins two looks; in "calcified and right nodule" the words are unlike.
    """
    if first.kind in (WordKind.SITE_ADJECTIVE, WordKind.POSITION, WordKind.SITE) and second.kind in (
        WordKind.SIDE,
        WordKind.SITE,
    ):
        # "subcarinal and right hilar nodes", "right upper and lower lobe nodules", "liver and lung lesions"
        return True
    if (
        first.kind in (WordKind.MODIFIER, WordKind.POSITION)
        and second.kind is WordKind.FINDING
        and second.end - second.start > 1
    ):
        return True  # "centrilobular and paraseptal emphysema"
    groups = (
        DESCRIPTION | DROPPED,
        {WordKind.MODIFIER, WordKind.POSITION},
        {WordKind.SIDE},
        {WordKind.POSITION, WordKind.SITE_ADJECTIVE},
        {WordKind.NUMBER},
    )
    return any(first.kind in group and second.kind in group for group in groups)


def _kept(chunks: Sequence[Chunk], start: int, head: int, lexicon: Lexicon) -> list[Span]:
    """Returns the words before the head, and the head, that the prompt keeps: "solid nodules" of "2 solid nodules".

    Dropped are sizes, measures, words of change and quantity, articles, asides, and numbers that count no site.
    """
    kept: list[Span] = []
    aside = False
    for at in range(start, head + 1):
        piece = chunks[at]
        aside = piece.concept == "(" or (aside and chunks[at - 1].concept != ")")
        if aside:
            continue
        if piece.kind in DROPPED | {WordKind.PARTITIVE, WordKind.ARTICLE}:
            continue
        if piece.kind is WordKind.NUMBER and not is_numbered(chunks, at, lexicon):
            continue
        if piece.kind is WordKind.JOIN and not (kept and _still_joins(chunks, at, kept[-1][1] - 1)):
            continue
        if kept and kept[-1][1] == at:
            kept[-1] = (kept[-1][0], at + 1)
        else:
            kept.append((at, at + 1))
    return kept


def _still_joins(chunks: Sequence[Chunk], at: int, last: int) -> bool:
    """Whether the "and" at `at` still has like words on both sides once others are dropped.

    `last` is the chunk kept before it. "small and calcified nodule" loses "small", and so its "and".
    """
    while chunks[last].kind is WordKind.JOIN:
        last -= 1
    while chunks[at].kind is WordKind.JOIN:
        at += 1
    return _alike(chunks[last], _next_kept(chunks, at))


def _describes_finding(chunks: Sequence[Chunk], at: int) -> bool:
    """Whether the state at `at` is only the adjective of a finding, as in "enlarged lymph nodes"."""
    for piece in chunks[at + 1 :]:
        if piece.kind is WordKind.FINDING:
            return True
        if piece.kind not in WHERE | DESCRIPTION | DROPPED:
            return False
    return False


def _state(chunks: Sequence[Chunk], head: int, taken: int, lexicon: Lexicon) -> Mention | None:
    """Reads the state at `head` with the site it is told of; None without a site.

    The site follows ("dilated bile duct", one phrase) or is the subject ("the spleen is enlarged", a place apart).
    """
    first = _after_looks(chunks, head)
    end = place_end(chunks, first, lexicon) or run_end(chunks, first, lexicon)[0]
    if any(chunks[i].kind is WordKind.SITE for i in range(head + 1, end)):
        start = _start(chunks, head, taken)
        mention = Mention(head, start, end)
        *before, (opening, _) = _kept(chunks, start, head, lexicon)
        mention.kept = [*before, (opening, end)]
        add_place(chunks, mention, lexicon)
        return mention
    subject = _subject(chunks, head, taken, lexicon)
    if subject is None:
        return None
    mention = Mention(head, subject[0], head + 1, kept=[(head, head + 1)])
    mention.apart = subject
    _add_side_told_later(chunks, mention, lexicon)
    return mention


def _add_side_told_later(chunks: Sequence[Chunk], mention: Mention, lexicon: Lexicon) -> None:
    """Adds the side after a predicate, in place: "on the left" of "the ureters are dilated on the left"."""
    add_place(chunks, mention, lexicon)
    told = [chunks[i] for start, end in mention.place for i in range(start, end)]
    if not any(piece.side for piece in told) or any(piece.kind is WordKind.SITE for piece in told):
        mention.place.clear()  # no side, or a site of its own, which is not where the state is


def _after_looks(chunks: Sequence[Chunk], head: int) -> int:
    """Returns the position after "dilated, fluid-filled", where the site of the state may start."""
    at = head + 1
    while at + 1 < len(chunks) and chunks[at].kind is WordKind.JOIN and chunks[at + 1].kind in DESCRIPTION:
        at += 2
    return at


def _subject(chunks: Sequence[Chunk], head: int, taken: int, lexicon: Lexicon) -> Span | None:
    """Finds the site that a predicate is told of: "spleen" in "the spleen is mildly enlarged"."""
    at = head
    linked = False
    while at > taken and chunks[at - 1].kind in _OF_PREDICATE:
        linked = linked or chunks[at - 1].kind is WordKind.FILLER
        at -= 1
    end = at
    told = all(
        piece.kind in (WordKind.MEASURE, WordKind.SIZE, WordKind.CHANGE) or piece.concept == ","
        for piece in chunks[end:head]
    )
    linked = linked or (told and _ends_clause(chunks, head + 1, lexicon))  # "Spleen 14 cm, enlarged."
    while at > taken and chunks[at - 1].kind in WHERE:
        at -= 1
    return (at, end) if linked and any(chunks[i].kind is WordKind.SITE for i in range(at, end)) else None


def _ends_clause(chunks: Sequence[Chunk], at: int, lexicon: Lexicon) -> bool:
    """Whether a clause ends before `at`, so that a state there is told of what stands before it."""
    if at + 1 < len(chunks) and chunks[at].kind is WordKind.PREPOSITION and chunks[at + 1].kind is WordKind.MEASURE:
        return True  # "Ascending aorta aneurysmal at 5.1 cm"
    ends = at == len(chunks) or chunks[at].kind in (WordKind.MARK, WordKind.JOIN, WordKind.MEASURE)
    return ends or chunks[at].concept in lexicon.companions  # "Heart enlarged with ..."

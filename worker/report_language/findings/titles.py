"""Titles: which organ a title names ("Left kidney:"), and of which side."""

from collections.abc import Sequence
from dataclasses import replace

from worker.report_language.findings.places import WHERE, is_numbered
from worker.report_language.language.chunks import Chunk
from worker.report_language.language.lexicon import Lexicon, WordKind

BILATERAL = "bilateral"  # the name that every lexicon gives to both sides


def titled_organ(title: Sequence[Chunk], lexicon: Lexicon) -> Chunk | None:
    """Finds the organ that a title names: "Left kidney:" gives the kidney with side "left".

    None when the title names no organ, several of them, or a region too wide to say where a finding is ("Abdomen:").
    """
    organs: list[Chunk] = []
    start = 0
    for i, piece in enumerate(title):
        if piece.kind not in WHERE:
            start = i + 1
        elif piece.kind is WordKind.SITE:
            last = i
            while last + 1 < len(title) and _counts(title, last + 1, piece, lexicon):  # "Segment 6", "Segment II"
                last += 1
            if last + 1 < len(title) and title[last + 1].kind is WordKind.SIDE:  # "Knee RT"
                last += 1
            side = side_of(title[start : last + 1])
            whole = replace(piece, start=title[start].start, end=title[last].end, side=side)
            joined = organs and organs[-1].start == whole.start  # "L4-L5"
            organs[-1:] = [whole] if joined else [*organs[-1:], whole]
    if len(organs) == 2 and _is_one_place(organs, title, lexicon):
        organs = [replace(organs[1], start=organs[0].start, side=side_of(organs))]
    return organs[0] if len(organs) == 1 and organs[0].concept not in lexicon.regions else None


def _is_one_place(organs: Sequence[Chunk], title: Sequence[Chunk], lexicon: Lexicon) -> bool:
    """Whether two sites of a title are one place: "L5/S1", "Lobe of the parotid", "Right parotid, superficial lobe"."""
    between = [piece for piece in title if organs[0].end <= piece.start and piece.end <= organs[1].start]
    kinds = {piece.kind for piece in between}
    if all(lexicon.is_code(organ.concept) for organ in organs):
        return kinds == {WordKind.JOIN}
    part = any(organ.concept in lexicon.parts for organ in organs) or organs[0].concept == organs[1].concept
    comma = [piece.concept for piece in between] == [","]
    return part and (comma or (WordKind.PREPOSITION in kinds and kinds <= {WordKind.PREPOSITION, WordKind.ARTICLE}))


def _counts(title: Sequence[Chunk], at: int, site: Chunk, lexicon: Lexicon) -> bool:
    """Whether the chunk at `at` is the number of the site before it: the 6 of "Segment 6", the II of "Segment II"."""
    roman = title[at].kind is WordKind.POSITION and site.concept in lexicon.numbered
    return roman or is_numbered(title, at, lexicon)


def contradict(title: str, own: str) -> bool:
    """Whether a title of this side cannot hold a finding of that side: "Right kidney:" none on the left or on both."""
    return bool(title and own) and title not in (own, BILATERAL)


def side_of(chunks: Sequence[Chunk]) -> str:
    """Returns the side that the chunks name: left, right, "" for none, and bilateral for both."""
    sides = {piece.side for piece in chunks if piece.side}
    return BILATERAL if len(sides) > 1 else next(iter(sides), "")

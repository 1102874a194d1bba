"""A sentence as chunks: each the longest term of the lexicon, a measure, a number, a mark or another word.

    "2 small nodules in the right upper lobe, 2 x 3 cm."
     2 | small | nodules | in | the | right | upper lobe | , | 2 x 3 cm | .

Everything in `findings` counts in chunks; a chunk counts in the tokens of its sentence.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from worker.report_language.language.lexicon import Lexicon, WordKind
from worker.report_language.language.tokens import Token

_TIMES = frozenset({"x", "×", "-", "–", "*"})
_DASH = "–"
_LONGEST_MEASURE = 12  # tokens: "2.1 cm x 1.4 cm x 0.9 cm" has eight


@dataclass(frozen=True, slots=True)
class Chunk:
    """Tokens `start` to `end` (exclusive) of the sentence, and what they are.

    `concept` is what the spellings of a term share ("nodules" and "nodule" have "nodule"), or the word itself.
    """

    start: int
    end: int
    kind: WordKind
    concept: str
    drawable: bool = True
    side: str = ""
    within: tuple[str, ...] = ()  # concepts of the sites that a finding of several words names: "esophageal varices"
    look: bool = False  # a finding that is also the look of another: "ground glass"
    located: bool = False  # a finding whose name says where it is: "cardiomegaly"


def chunk(tokens: Sequence[Token], lexicon: Lexicon) -> list[Chunk]:
    """Cuts a sentence into chunks, in order and without a gap.

    "8 mm solid nodule in the right upper lobe" is the measure "8 mm", the modifier "solid", the finding "nodule", the
    preposition "in", the article "the", the side "right" and the site "upper lobe".
    """
    chunks: list[Chunk] = []
    position = 0
    while position < len(tokens):
        found = (
            _measure(tokens, position, lexicon) or _term(tokens, position, lexicon) or _other(tokens, position, lexicon)
        )
        chunks.append(found)
        position = found.end
    return _compounds(chunks)


def _term(tokens: Sequence[Token], position: int, lexicon: Lexicon) -> Chunk | None:
    """Finds the longest term of the lexicon at `position`: "pleural effusion" and not "pleural"; None without one."""
    found = lexicon.longest(tokens, position)
    if found is None:
        return None
    end, entry = found
    within = _sites_within(tokens[position:end], lexicon) if entry.kind is WordKind.FINDING else ()
    within += (entry.located,) if entry.located else ()
    located = entry.located is not None
    return Chunk(position, end, entry.kind, entry.concept, entry.drawable, entry.side, within, entry.look, located)


def _sites_within(term: Sequence[Token], lexicon: Lexicon) -> tuple[str, ...]:
    """Returns the concepts of sites in a finding of several words: the esophagus in "esophageal varices"."""
    found = [hit[1] for i in range(len(term) - 1) if (hit := lexicon.longest(term[:-1], i))]
    return tuple(entry.concept for entry in found if entry.kind in (WordKind.SITE, WordKind.SITE_ADJECTIVE))


def _other(tokens: Sequence[Token], position: int, lexicon: Lexicon) -> Chunk:
    """Makes a chunk of what the lexicon lacks: a number or a range of numbers ("4th to 7th"), a word, a mark."""
    norm = tokens[position].norm
    end = position + 1
    ranged = end + 1 < len(tokens) and (tokens[end].norm == _DASH or tokens[end].norm in lexicon.ranges)
    if norm[0].isdigit() and ranged and tokens[end + 1].norm[0].isdigit():
        return Chunk(position, end + 2, WordKind.NUMBER, norm)  # "4th to 7th"
    if norm[0].isdigit() and end < len(tokens) and tokens[end].joined and tokens[end].norm[0].isdigit():
        return Chunk(position, end + 1, WordKind.NUMBER, norm)  # "4-6"
    kind = WordKind.NUMBER if norm[0].isdigit() else WordKind.WORD if norm[0].isalpha() else WordKind.MARK
    return Chunk(position, end, kind, norm)


def _measure(tokens: Sequence[Token], position: int, lexicon: Lexicon) -> Chunk | None:
    """Reads a measure: `8 mm`, `2 x 3 cm`, `2 cm x 3 cm`, `5 to 6 mm`; None for a number without a unit."""
    end, at = 0, position
    limit = min(position + _LONGEST_MEASURE, len(tokens))
    while at < limit and tokens[at].norm[0].isdigit():
        at += 1
        if at < limit and _is_unit(tokens, at, lexicon):
            at += 1
            end = at
        if at < limit and (tokens[at].norm in _TIMES or tokens[at].norm in lexicon.between_sizes):
            at += 1
        elif at == limit or not tokens[at].joined:  # "5-6 mm"
            break
    return Chunk(position, end, WordKind.MEASURE, "") if end else None


def _is_unit(tokens: Sequence[Token], position: int, lexicon: Lexicon) -> bool:
    """Whether a unit of length or volume stands at `position`: "mm"."""
    found = lexicon.longest(tokens, position)
    return found is not None and found[1].kind is WordKind.UNIT


def _compounds(chunks: list[Chunk]) -> list[Chunk]:
    """Makes the first of two adjacent findings a modifier of the second, in place: "calcification focus" is a focus."""
    for i in range(len(chunks) - 1):
        first, second = chunks[i], chunks[i + 1]
        if first.kind is second.kind is WordKind.FINDING:
            chunks[i] = Chunk(first.start, first.end, WordKind.MODIFIER, first.concept)
    return chunks

"""The words of a prompt: a finding's phrase and place as the report wrote them, in one line.

| the sentence says | prompt |
|---|---|
| 2 small solid nodules in the right upper lobe | solid nodules in the right upper lobe |
| The left kidney contains a cyst. | cyst in the left kidney |
| The spleen is mildly enlarged. | enlarged spleen |
| KIDNEYS: 3 mm stone on the left | stone in the left kidney |
| Left kidney: cyst in the upper pole | cyst in the upper pole of the left kidney |
| C3-4: left foraminal disc protrusion | left foraminal disc protrusion at C3-4 |
| LEFT: small effusion | left effusion |

The words that join a finding and a place come from templates of the lexicon file ("{finding} in the {site}").
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from worker.report_language.findings.places import WHERE, Mention, Span, aside_end, is_numbered
from worker.report_language.findings.separate_places import sites_named
from worker.report_language.findings.titles import BILATERAL, contradict, side_of, titled_organ
from worker.report_language.language.chunks import Chunk, chunk
from worker.report_language.language.lexicon import Lexicon, WordKind
from worker.report_language.language.sentences import Sentence
from worker.report_language.language.tokens import Token

_OF_PLACE = frozenset({WordKind.SIDE, WordKind.POSITION, WordKind.SITE, WordKind.SITE_ADJECTIVE})
_LEADING = frozenset({WordKind.PREPOSITION, WordKind.RELATION, WordKind.ARTICLE})
_LONGEST_ABBREVIATION = 5
_WORD_PART = re.compile(r"[^-/]+")
_NUMBER = re.compile(r" (?:\d+\w?|[ivx]+[ab]?)$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class PromptText:
    """A prompt with the site and side that it names."""

    prompt: str
    site: str  # "right upper lobe", empty when none is named
    side: str  # left, right, bilateral or empty
    key: frozenset[str]  # concepts of site and side: equal for "RUL nodule" and "nodule in the right upper lobe"


class PromptWriter:
    """Writes the prompts of one sentence's findings, in the report's own words.

    `text` is the report, `chunks` those of the sentence without its title.
    """

    def __init__(self, text: str, sentence: Sentence, chunks: Sequence[Chunk], lexicon: Lexicon) -> None:
        self.span = sentence.span
        self.sentence = text[slice(*self.span)]
        self._text, self._tokens, self._chunks, self._lexicon = text, sentence.tokens, chunks, lexicon
        self._of = lexicon.file.part_of.partition("{finding}")[2].split()[:1]  # "of", in the language of the report
        self._title = sentence.title
        self._title_chunks = chunk(sentence.title, lexicon)

    def of(self, mention: Mention) -> PromptText:
        """Writes the prompt of a finding, with its place and side.

        The place is that of its own phrase, else the one that the sentence names apart from it, else the organ of the
        title: "Left kidney: 2 cm cyst" gives "cyst in the left kidney" with site "left kidney" and side "left".
        """
        mention = replace(mention, place=[span for span in mention.place if not self._is_beside(span)])
        if mention.apart is not None and contradict(
            side_of(self._pieces([mention.apart])), side_of(self._pieces([*mention.kept, *mention.place]))
        ):
            mention = replace(mention, apart=None)  # "**Right kidney** A cyst on the left": not in that kidney
        organ = self._organ_for(mention)
        if organ is not None and mention.apart is None and self._lies_in(organ, mention):
            return self._in_titled_organ(mention, organ)
        finding = self._words([*mention.kept, *mention.place])
        if organ is not None and self._tells_level(organ, mention):
            level = self._title_words(organ)
            site = f"{self._words(self._own_place(mention))} {level}".strip()
            named = self._pieces([*mention.kept, *mention.place])
            return PromptText(
                self._lexicon.file.located_at.format(finding=finding, site=level),
                site,
                side_of(named),
                self._key(mention, named, organ),
            )
        place = _merged(mention.place)
        if mention.apart is not None:
            side = (
                place if self._kind(mention.head) is WordKind.STATE else []
            )  # the side: "dilated ureters on the left"
            finding = self._with_place(mention, self._words(mention.kept) if side else finding)
            finding = " ".join([finding, *(self._words([span]) for span in side)])
            place = [mention.apart, *side]
        site = self._words([self._bare(span) for span in place] or self._own_place(mention))
        own = [span for span in place if self._kind(span[0]) is not WordKind.RELATION]  # a neighbour is another place
        named = self._pieces([*mention.kept, *own])
        if mention.whole is not None:
            whole = self._words([self._bare(mention.whole)])
            finding = self._lexicon.file.part_of.format(finding=finding, site=whole)
            named += self._pieces([mention.whole])
        elif organ is not None and (place or self._kind(mention.head) is WordKind.STATE) and self._are_parts(named):
            finding = self._lexicon.file.part_of.format(finding=finding, site=self._title_words(organ))
            return PromptText(finding, site, side_of([*named, organ]), self._key(mention, named, organ))
        told = self._title_chunks[0] if self._title_chunks else None
        if told is not None and told.kind is WordKind.SIDE and not side_of(named):  # "LEFT: small effusion"
            side_word = self._title_words(told)
            return PromptText(
                self._lexicon.file.sided.format(side=side_word, finding=finding),
                site or side_word,
                told.side,
                self._key(mention, named, told),
            )
        return PromptText(finding, site, side_of(named), self._key(mention, named))

    def _is_beside(self, span: Span) -> bool:
        """Whether the span names a side of a neighbour and not of the finding: "left" of "left of the gallbladder"."""
        behind = self._chunks[span[1] : span[1] + 1]
        sides = all(piece.kind is WordKind.SIDE for piece in self._pieces([span]))
        return sides and any(piece.kind is WordKind.PREPOSITION and piece.concept in self._of for piece in behind)

    def _organ_for(self, mention: Mention) -> Chunk | None:
        """Returns the organ of the title.

        None where the finding's own name says where it is ("cardiomegaly"), and where the sentence names another side
        than the title ("RIGHT KIDNEY: no stone. A cyst is seen on the left."): it speaks of another organ then.
        """
        if self._chunks[mention.head].located:
            return None
        organ = titled_organ(self._title_chunks, self._lexicon)
        own = side_of(self._pieces([*mention.kept, *mention.place, *([mention.apart] if mention.apart else [])]))
        if organ is None or contradict(organ.side, own):
            return None
        if organ.side == BILATERAL and own not in ("", BILATERAL):  # "Both kidneys: cyst on the left" is in one
            site = next(piece for piece in self._title_chunks[::-1] if piece.kind is WordKind.SITE)
            return replace(organ, start=site.start, side="")
        return organ

    def _lies_in(self, organ: Chunk, mention: Mention) -> bool:
        """Whether the title tells the finding's place: it names none, or that organ without a side ("interpolar")."""
        own = sites_named(self._chunks, mention)
        within = set(self._chunks[mention.head].within) - self._lexicon.wide_sites
        if within and organ.concept not in within:
            return False  # "Liver: esophageal varices"
        pieces = self._pieces([*mention.kept, *mention.place])
        return not own or ({organ.concept} == set(own) and bool(organ.side) and not side_of(pieces))

    def _tells_level(self, organ: Chunk, mention: Mention) -> bool:
        """Whether the title is a level ("C3-4:") and the finding names its site but no level of its own."""
        own = sites_named(self._chunks, mention)
        free = mention.apart is None and mention.whole is None
        return free and self._lexicon.is_code(organ.concept) and bool(own) and self._lexicon.code_sites.issuperset(own)

    def first_site(self) -> str:
        """Returns the first site that the sentence, or else its title, names; "" when there is none."""
        for at, piece in enumerate(self._chunks):
            if piece.kind is WordKind.SITE:
                return self._words([(at, at + 1)])
        organ = titled_organ(self._title_chunks, self._lexicon)
        return self._title_words(organ) if organ else ""

    def _with_place(self, mention: Mention, finding: str) -> str:
        """Words the finding with the place that the sentence names apart from it: "cyst in the left kidney"."""
        start, end = mention.apart or (0, 0)
        site = self._words([self._bare((start, end))])
        if self._kind(mention.head) is WordKind.STATE or self._kind(start) is not WordKind.PREPOSITION:
            both = self._chunks[start].side == BILATERAL
            return self._located(mention, finding, site, both=both)
        return f"{finding} {self._words([(start, end)])}"

    def _located(self, mention: Mention, finding: str, site: str, *, both: bool = False) -> str:
        """Joins a finding and a site by the lexicon's template for them.

        "nodule" and "left lung": "nodule in the left lung"; "cysts" and "both kidneys": "cysts in both kidneys";
        "protrusion" and "L4-5": "protrusion at L4-5"; the state "enlarged" and "spleen": "enlarged spleen".
        """
        file = self._lexicon.file
        if self._kind(mention.head) is WordKind.STATE:
            return file.state_of.format(state=finding, site=site)
        code = self._lexicon.is_code(re.split(r"[-/ ]", site.casefold())[0])
        bare = both or _NUMBER.search(site) is not None  # "in both lungs", "in segment 6"
        template = file.located_at if code else file.located_bilateral if bare else file.located
        return template.format(finding=finding, site=site)

    def _are_parts(self, named: Sequence[Chunk]) -> bool:
        """Whether the finding's place is only a part of some organ, as "in the upper pole" is."""
        sites = [piece.concept for piece in named if piece.kind in (WordKind.SITE, WordKind.SITE_ADJECTIVE)]
        return bool(sites) and all(site in self._lexicon.parts for site in sites)

    def _pieces(self, spans: Sequence[Span]) -> list[Chunk]:
        """Returns the chunks of the spans, in their order."""
        return [self._chunks[i] for start, end in spans for i in range(start, end)]

    def _key(self, mention: Mention, named: Sequence[Chunk], organ: Chunk | None = None) -> frozenset[str]:
        """Returns the concepts of site and side by which a repeated finding is recognised.

        "RUL nodule" and "nodule in the right upper lobe" share theirs. `named` are the chunks of the finding's place,
        `organ` that of the title.
        """
        head = self._chunks[mention.head]
        words = [self._words([(mention.head, mention.head + 1)])] if head.concept in self._lexicon.told_apart else []
        words += head.within
        for piece in named:
            words += self._place_key(piece, self._tokens)
        if organ is not None:
            words += self._place_key(organ, self._title)
        return frozenset(words)

    def _place_key(self, piece: Chunk, tokens: Sequence[Token]) -> list[str]:
        """Returns the concept of a place, its side, and its own words where the concept covers more than this place."""
        if piece.kind not in _OF_PLACE | {WordKind.NUMBER}:
            return []
        words = piece.concept.split()
        own = [self._lexicon.singular(token.norm) for token in tokens[piece.start : piece.end]]
        if piece.concept in self._lexicon.wide_sites:
            words = own
        elif len(own) > 1 and piece.kind is WordKind.SITE and not piece.side:  # the distal ureter is not all of it
            words = [*words, *own]
        return [*words, piece.side] if piece.side else words

    def _title_words(self, organ: Chunk) -> str:
        """Returns the title's words for the organ, in lower case but for site codes: "left kidney", "L4", "RUL"."""
        words = self._text[self._title[organ.start].start : self._title[organ.end - 1].end]
        code = self._lexicon.is_code(organ.concept) or (
            organ.side and organ.kind is WordKind.SITE and organ.end - organ.start == 1
        )  # "L4", "RUL"
        return words if code else " ".join(words.lower().split())

    def _in_titled_organ(self, mention: Mention, organ: Chunk) -> PromptText:
        """Words a finding in the organ of the title: "KIDNEYS: 3 mm stone on the left" is in the left kidney."""
        words = self._title_words(organ).split()
        named = self._pieces([*mention.kept, *mention.place])
        kept = list(mention.kept)
        singular = self._lexicon.singular(words[-1])
        if side_of(named) not in ("", BILATERAL) and singular != words[-1] and mention.place:
            told = next(piece for piece in named if piece.side)
            side_word = self._text[self._tokens[told.start].start : self._tokens[told.end - 1].end]
            words = [side_word.lower(), *words[:-1], singular]
        else:
            kept += mention.place
        site = " ".join(words)
        finding = self._located(mention, self._words(kept), site)
        return PromptText(finding, site, side_of([*named, organ]), self._key(mention, named, organ))

    def _own_place(self, mention: Mention) -> list[Span]:
        """Returns the words of place before the finding, with the "and" between them: "hilar and mediastinal"."""
        kept = [i for start, end in mention.kept for i in range(start, end)]
        place = [i for i in kept if self._kind(i) in WHERE or is_numbered(self._chunks, i, self._lexicon)]
        joins = [i for i in kept if self._kind(i) is WordKind.JOIN and place and place[0] < i < place[-1]]
        return _merged([(i, i + 1) for i in sorted([*place, *joins])])

    def _kind(self, i: int) -> WordKind:
        """Returns the kind of chunk i."""
        return self._chunks[i].kind

    def _bare(self, span: Span) -> Span:
        """Leaves out the preposition and article before a place."""
        start, end = span
        while start < end - 1 and self._kind(start) in _LEADING:
            start += 1
        return start, end

    def _words(self, spans: Sequence[Span]) -> str:
        """Returns the report's own words of the spans in one line, without asides, in lower case but for abbreviations.

        "Solid Nodule in the RUL (image 4)" is "solid nodule in the RUL".
        """
        words: list[str] = []
        for start, end in spans:
            for first, last in self._without_asides(start, end):
                opening, closing = self._tokens[self._chunks[first].start], self._tokens[self._chunks[last - 1].end - 1]
                words.extend(self._text[opening.start : closing.end].split())
        joined = " ".join(_WORD_PART.sub(lambda part: self._cased(part.group()), word) for word in words)
        return joined.replace(" ,", ",")

    def _without_asides(self, start: int, end: int) -> Iterator[Span]:
        """Yields the parts of the span outside parentheses: of "frontal lobe (18 mm) and pons" these are two."""
        at = start
        while at < end:
            aside = aside_end(self._chunks, at)
            if aside and start < at:
                yield start, at
            start = aside or start
            at = aside or at + 1
        if start < end:
            yield start, end

    def _cased(self, word: str) -> str:
        """Returns a word in lower case, an abbreviation ("RUL", "IVb") as it is.

        In a sentence all in capitals no word counts as an abbreviation.
        """
        capitals = sum(letter.isupper() for letter in word)
        short = len(word) <= _LONGEST_ABBREVIATION and (word.isupper() or capitals > 1)
        article = word.casefold() in self._lexicon.file.words.articles
        return word if short and not article and not self.sentence.isupper() else word.lower()


def _merged(spans: Sequence[Span]) -> list[Span]:
    """Joins the spans that touch: [(1, 2), (2, 4), (6, 7)] becomes [(1, 4), (6, 7)]."""
    merged: list[Span] = []
    for start, end in spans:
        if merged and merged[-1][1] == start:
            merged[-1] = (merged[-1][0], end)
        else:
            merged.append((start, end))
    return merged

"""The words of a language or site style: findings, sites, sides and the words around them (`lexicon.<language>.toml`).

The data file is described in docs/reference/reports.md. Each term is one or more words; hyphens count as blanks and
letter case does not count. The longest term that starts at a token wins: "pleural effusion" before "pleural".
"""

import re
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from worker.report_language.errors import LanguageError
from worker.report_language.language.tokens import Spelling, Token, tokenize


class WordKind(StrEnum):
    """What a word is in the phrase that names a finding; the comments give examples."""

    FINDING = "finding"  # nodule, pleural effusion
    STATE = "state"  # enlarged, dilated: a finding once it stands with a site
    SITE = "site"  # liver, upper lobe
    PLACE = "place"  # aspect, region: says where only together with other words
    SITE_ADJECTIVE = "site adjective"  # hepatic
    SIDE = "side"
    POSITION = "position"  # upper, subpleural
    MODIFIER = "modifier"  # solid, calcified
    SIZE = "size"  # small, moderate: dropped from the phrase
    CHANGE = "change"  # stable, new: dropped
    QUANTITY = "quantity"  # several, multiple: dropped
    MEASURE = "measure"  # 8 mm, 2 x 3 cm: dropped
    NUMBER = "number"
    UNIT = "unit"
    PREPOSITION = "preposition"
    RELATION = "relation"  # abutting, adjacent to: tells a neighbour
    ARTICLE = "article"
    JOIN = "join"  # and, or, comma, slash
    PARTITIVE = "partitive"  # "area of": as in "areas of consolidation"
    FILLER = "filler"  # is seen, measuring: may stand between a finding and its site
    OUTSIDE = "outside"  # shows, possible: never an adjective of the finding after it
    WORD = "word"
    MARK = "mark"


@dataclass(frozen=True, slots=True)
class LexiconEntry:
    """What a term means: its kind, and the concept that its spellings share.

    "nodule", "nodules" and "nodular lesion" share the concept "nodule".
    """

    kind: WordKind
    concept: str
    drawable: bool = True
    side: str = ""
    look: bool = False  # a finding that is also the look of another: "ground glass"
    located: str | None = None  # of a finding whose name says where it is: the concept of its site, or ""


_DASHES = frozenset("-–")
_SHORTEST_ADJECTIVE = 6  # letters: "styloid" is one, "year" is none

Terms = dict[str, list[str]]
Side = Literal["left", "right", "bilateral"]
"""The concepts of sides, the same in every language."""


class SurroundingWords(BaseModel):
    """The words around a finding, a list for each kind."""

    model_config = ConfigDict(extra="forbid")

    places: list[str] = []
    positions: list[str] = []
    modifiers: list[str] = []
    sizes: list[str] = []
    changes: list[str] = []
    quantities: list[str] = []
    units: list[str] = []
    prepositions: list[str] = []
    relations: list[str] = []
    articles: list[str] = []
    joins: list[str] = []
    partitives: list[str] = []
    fillers: list[str] = []
    outside: list[str] = []


class LexiconFile(BaseModel):
    """The data file as written; every field is a table, a list of terms or a template.

    A table gives the terms of each concept, such as `nodule = ["nodule", "nodular lesion"]`.
    """

    model_config = ConfigDict(extra="forbid")

    language: str
    located: str  # template of a finding with a site taken from elsewhere in the sentence: "{finding} in the {site}"
    located_bilateral: str  # the same for a site on both sides: "{finding} in {site}"
    located_at: str  # the same for a site code: "{finding} at {site}"
    part_of: str  # template of a finding in a part of an organ that the title names: "{finding} of the {site}"
    sided: str  # template of a finding on the side that the title names: "{side} {finding}"
    state_of: str  # template of a state told of a site: "{state} {site}"
    plurals: list[tuple[str, str]] = []
    spelling: list[tuple[str, str]] = []
    ordinal_endings: list[str] = []  # behind a number: the "th" of "7th rib"
    ordinal_dot: bool = False  # "7. Rippe": a dot between a number and a site of `counted_sites` ends no sentence
    between_sizes: list[str] = []  # words between the numbers of a size: the "by" of "2 by 3 cm"
    ranges: list[str] = []  # words between two numbers that stand for all from one to the other: "4th to 7th"
    finding_endings: list[tuple[str, str]] = []
    not_findings: list[str] = []
    site_codes: list[str] = []
    numbered_sites: list[str] = []  # concepts that a number may follow: "segment 7"
    counted_sites: list[str] = []  # concepts that a number may precede: "7th rib"
    wide_sites: list[str] = []  # concepts of sites that cover many places: only the same words are the same place
    told_apart: list[str] = []  # findings that only their own words tell apart
    self_located: dict[str, str] = {}  # findings, or terms of them, whose name says where they are: concept of the site
    code_sites: list[str] = []  # concepts of sites whose level a site code tells
    same_as: list[str] = []  # "consistent with": the findings on both sides of it are one thing
    companions: list[str] = []  # "with": the findings on both sides of it share their place
    others: list[str] = []  # "another": the finding is none that was named before
    definite: list[str] = []  # articles of what is known already: "the"
    turns: list[str] = []  # "although": a place before it does not hold for what follows
    adjective_endings: list[str] = []  # of words that no list holds and that describe the finding after them
    parts: list[str] = []
    regions: list[str] = []
    title_findings: list[str] = []  # terms that are also organs: they may stand in a title ("Lymph nodes:")
    findings: Terms
    no_volume: Terms = {}
    states: Terms = {}
    sites: Terms
    site_adjectives: Terms = {}
    sided_sites: dict[Side, Terms] = {}
    sides: dict[Side, list[str]]
    words: SurroundingWords


class Lexicon:
    """The terms of one language, ready to be looked up by their first word. Never changed after it is built."""

    def __init__(self, file: LexiconFile) -> None:
        self.file = file
        self.spelling = Spelling(tuple(file.spelling), tuple(file.ordinal_endings))
        self.numbered = frozenset(file.numbered_sites)
        self.counted = frozenset(file.counted_sites)
        self.wide_sites = frozenset(file.wide_sites)
        self.told_apart = frozenset(file.told_apart)
        self.self_located = file.self_located
        self.between_sizes = frozenset(file.between_sizes)
        self.ranges = frozenset(file.ranges)
        self.code_sites = frozenset(file.code_sites)
        self.companions = frozenset(file.companions)
        self.same_as = frozenset(file.same_as)
        self.turns = frozenset(file.turns)
        self.definite = frozenset(file.definite)
        self.others = frozenset(file.others)
        self.parts = frozenset(file.parts)
        self.regions = frozenset(file.regions)
        self.title_findings = frozenset(file.title_findings)
        self._codes = [re.compile(pattern) for pattern in file.site_codes]
        self._not_findings = frozenset(file.not_findings)
        self._adjective_endings = tuple(file.adjective_endings)
        self._by_first: dict[str, list[tuple[tuple[str, ...], LexiconEntry]]] = {}
        for term, entry in _entries(file):
            self._add(term, entry)
        for candidates in self._by_first.values():
            candidates.sort(key=lambda candidate: -len(candidate[0]))

    def _add(self, term: str, entry: LexiconEntry) -> None:
        """Enters a term, and its plural where its kind has one: "upper lobe" and "upper lobes"."""
        if entry.kind is WordKind.FINDING:
            look = term in self.file.words.modifiers
            entry = replace(entry, look=look, located=self.self_located.get(term, self.self_located.get(entry.concept)))
        words = tuple(token.norm for token in tokenize(term, self.spelling))
        forms = [words]
        if entry.kind in (WordKind.FINDING, WordKind.SITE, WordKind.PLACE):
            forms.append((*words[:-1], self._plural(words[-1])))
        if entry.kind is WordKind.PARTITIVE:  # "area of", "areas of"
            forms.append((self._plural(words[0]), *words[1:]))
        for form in dict.fromkeys(forms):
            self._by_first.setdefault(form[0], []).append((form, entry))

    def _plural(self, word: str) -> str:
        """Forms the plural of a word by the first ending that fits ("artery": "arteries"); else the word itself."""
        for singular, plural in self.file.plurals:
            if word.endswith(singular):
                return word.removesuffix(singular) + plural
        return word

    def tokens(self, text: str) -> list[Token]:
        """Cuts a text into tokens in the spelling of the language; see `tokenize`."""
        tokens = tokenize(text, self.spelling)
        return self._with_ordinals(tokens) if self.file.ordinal_dot else tokens

    def _with_ordinals(self, tokens: Sequence[Token]) -> list[Token]:
        """Joins numbers with the dot of an ordinal: "7. Rippe", "4. bis 7. Rippe"; the "8." of "Segment 8." stays."""
        joined: list[Token] = []  # from the last to the first
        counts = ordinal = False  # what was read last counts on, or is an ordinal
        at = len(tokens) - 1
        while at >= 0:
            dot = at > 0 and tokens[at].norm == "." and tokens[at - 1].end == tokens[at].start
            if counts and dot and tokens[at - 1].norm.isdigit():
                number = tokens[at - 1]
                joined.append(Token(number.start, tokens[at].end, f"{number.norm}.", number.joined))
                counts, ordinal = False, True
                at -= 2
                continue
            _, entry = self.longest(tokens, at) or (at, None)
            joins = tokens[at].norm in self.ranges | _DASHES or (entry is not None and entry.kind is WordKind.JOIN)
            counts = (ordinal and joins) or (entry is not None and entry.concept in self.counted)
            ordinal = False
            joined.append(tokens[at])
            at -= 1
        return joined[::-1]

    def longest(self, tokens: Sequence[Token], position: int) -> tuple[int, LexiconEntry] | None:
        """Finds the longest term that starts at `tokens[position]`; of terms of equal length, the first declared.

        Returns (position after its last token, its entry), or None. A word that no list holds may still be known by its
        form: a site code ("L4"), or an ending.
        """
        for words, entry in self._by_first.get(tokens[position].norm, ()):
            end = position + len(words)
            if end <= len(tokens) and all(tokens[position + i].norm == word for i, word in enumerate(words) if i):
                return end, entry
        return self._by_form(tokens[position].norm, position)

    def _by_form(self, word: str, position: int) -> tuple[int, LexiconEntry] | None:
        """Recognises a word by its form: a site code ("L4"), a finding ("-oma"), an adjective ("-oid")."""
        if self.is_code(word):
            return position + 1, LexiconEntry(WordKind.SITE, word)
        if word not in self._not_findings:
            for ending, of_concept in self.file.finding_endings:
                if word.endswith(ending):
                    concept = word.removesuffix(ending) + of_concept
                    return position + 1, LexiconEntry(WordKind.FINDING, concept, located=self.self_located.get(word))
        if word.endswith(self._adjective_endings) and len(word) >= _SHORTEST_ADJECTIVE:
            return position + 1, LexiconEntry(WordKind.MODIFIER, word)
        return None

    def is_code(self, word: str) -> bool:
        """Whether a word is a site code such as "L4"."""
        return any(code.fullmatch(word) for code in self._codes)

    def singular(self, word: str) -> str:
        """Returns the singular of a plural that the lexicon has ("kidneys": "kidney"); other words as they are."""
        for singular, plural in self.file.plurals:
            if word.endswith(plural) and len(word) > len(plural) + 2:
                candidate = word[: len(word) - len(plural)] + singular
                if candidate in self._by_first:
                    return candidate
        return word


def _entries(file: LexiconFile) -> Iterator[tuple[str, LexiconEntry]]:
    """Yields every term with its entry, findings first: where two fields hold the same term, the earlier one wins."""
    for concept, terms in file.no_volume.items():
        yield from ((term, LexiconEntry(WordKind.FINDING, concept, drawable=False)) for term in terms)
    for table, kind in ((file.findings, WordKind.FINDING), (file.states, WordKind.STATE)):
        yield from _of_table(table, kind)
    for side, table in file.sided_sites.items():
        yield from _of_table(table, WordKind.SITE, side)
    for side, terms in file.sides.items():
        yield from ((term, LexiconEntry(WordKind.SIDE, side, side=side)) for term in terms)
    yield from _of_table(file.sites, WordKind.SITE)
    yield from _of_table(file.site_adjectives, WordKind.SITE_ADJECTIVE)
    words = file.words
    lists = (
        (WordKind.PLACE, words.places), (WordKind.POSITION, words.positions), (WordKind.MODIFIER, words.modifiers),
        (WordKind.SIZE, words.sizes), (WordKind.CHANGE, words.changes), (WordKind.QUANTITY, words.quantities),
        (WordKind.UNIT, words.units), (WordKind.PREPOSITION, words.prepositions),
        (WordKind.RELATION, words.relations), (WordKind.ARTICLE, words.articles),
        (WordKind.JOIN, words.joins), (WordKind.PARTITIVE, words.partitives), (WordKind.FILLER, words.fillers),
        (WordKind.OUTSIDE, words.outside),
    )  # fmt: skip
    for kind, terms in lists:
        yield from ((term, LexiconEntry(kind, term)) for term in terms)


def _of_table(table: Terms, kind: WordKind, side: str = "") -> Iterable[tuple[str, LexiconEntry]]:
    """Returns the terms of a table of concepts, each with its entry."""
    return ((term, LexiconEntry(kind, concept, side=side)) for concept, terms in table.items() for term in terms)


def load_lexicon(path: Path) -> Lexicon:
    """Loads the lexicon of a TOML file.

    Raises:
        LanguageError: when the file cannot be read or is not valid; names the file and the field that is wrong.
    """
    try:
        return Lexicon(LexiconFile.model_validate(tomllib.loads(path.read_text("utf-8"))))
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise LanguageError(f"{path}: {field}: {first['msg']}; correct this field") from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, re.error) as error:
        raise LanguageError(f"{path}: {error}; correct the file") from error

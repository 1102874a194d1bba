"""The words of a language or site style: findings, sites, sides and the words around them (`lexicon.<language>.toml`).

docs/reference/reports.md describes the data file. Each term is one or more words; hyphens count as blanks and letter
case does not count. The longest term that starts at a token wins.
"""

import re
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import lru_cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from worker.report_language.errors import LanguageError
from worker.report_language.language.tokens import Token, tokenize


class Kind(StrEnum):
    """What a word is in the phrase that names a finding."""

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
class Entry:
    """What a term means: its kind and the concept that its spellings share."""

    kind: Kind
    concept: str
    drawable: bool = True
    side: str = ""
    look: bool = False  # a finding that is also the look of another: "ground glass"
    located: str | None = None  # of a finding whose name says where it is: the concept of its site, or ""


_SHORTEST_ADJECTIVE = 6  # letters: "styloid" is one, "year" is none

Terms = dict[str, list[str]]


class Words(BaseModel):
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
    """The data file as written; every field is a table or a list of terms."""

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
    sided_sites: dict[str, Terms] = {}
    sides: Terms
    words: Words


class Lexicon:
    """The terms of one language, ready to be looked up."""

    def __init__(self, file: LexiconFile) -> None:
        self.file = file
        self.spelling = tuple(file.spelling)
        self.numbered = frozenset(file.numbered_sites)
        self.counted = frozenset(file.counted_sites)
        self.wide_sites = frozenset(file.wide_sites)
        self.told_apart = frozenset(file.told_apart)
        self.self_located = file.self_located
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
        self._by_first: dict[str, list[tuple[tuple[str, ...], Entry]]] = {}
        for term, entry in _entries(file):
            self._add(term, entry)
        for candidates in self._by_first.values():
            candidates.sort(key=lambda candidate: -len(candidate[0]))

    def _add(self, term: str, entry: Entry) -> None:
        if entry.kind is Kind.FINDING:
            look = term in self.file.words.modifiers
            entry = replace(entry, look=look, located=self.self_located.get(term, self.self_located.get(entry.concept)))
        words = tuple(token.norm for token in tokenize(term, self.spelling))
        forms = [words]
        if entry.kind in (Kind.FINDING, Kind.SITE, Kind.PLACE):
            forms.append((*words[:-1], self._plural(words[-1])))
        if entry.kind is Kind.PARTITIVE:  # "area of", "areas of"
            forms.append((self._plural(words[0]), *words[1:]))
        for form in dict.fromkeys(forms):
            self._by_first.setdefault(form[0], []).append((form, entry))

    def _plural(self, word: str) -> str:
        for singular, plural in self.file.plurals:
            if word.endswith(singular):
                return word.removesuffix(singular) + plural
        return word

    def longest(self, tokens: Sequence[Token], position: int) -> tuple[int, Entry] | None:
        """(end, entry) of the longest term at `tokens[position]`; of equals, the first declared."""
        for words, entry in self._by_first.get(tokens[position].norm, ()):
            end = position + len(words)
            if end <= len(tokens) and all(tokens[position + i].norm == word for i, word in enumerate(words) if i):
                return end, entry
        return self._by_form(tokens[position].norm, position)

    def _by_form(self, word: str, position: int) -> tuple[int, Entry] | None:
        """Site codes ("L4"), findings ("-oma") and adjectives ("-oid") known by their ending."""
        if self.is_code(word):
            return position + 1, Entry(Kind.SITE, word)
        if word not in self._not_findings:
            for ending, of_concept in self.file.finding_endings:
                if word.endswith(ending):
                    concept = word.removesuffix(ending) + of_concept
                    return position + 1, Entry(Kind.FINDING, concept, located=self.self_located.get(word))
        if word.endswith(self._adjective_endings) and len(word) >= _SHORTEST_ADJECTIVE:
            return position + 1, Entry(Kind.MODIFIER, word)
        return None

    def is_code(self, word: str) -> bool:
        """Whether a word is a site code such as "L4"."""
        return any(code.fullmatch(word) for code in self._codes)

    def singular(self, word: str) -> str:
        """The singular of a plural site or finding word; other words as they are."""
        for singular, plural in self.file.plurals:
            if word.endswith(plural) and len(word) > len(plural) + 2:
                candidate = word[: len(word) - len(plural)] + singular
                if candidate in self._by_first:
                    return candidate
        return word


def _entries(file: LexiconFile) -> Iterator[tuple[str, Entry]]:
    """Every term with its entry, findings first: where two fields hold the same term, the earlier one wins."""
    for concept, terms in file.no_volume.items():
        yield from ((term, Entry(Kind.FINDING, concept, drawable=False)) for term in terms)
    for table, kind in ((file.findings, Kind.FINDING), (file.states, Kind.STATE)):
        yield from _of_table(table, kind)
    for side, table in file.sided_sites.items():
        yield from _of_table(table, Kind.SITE, side)
    for side, terms in file.sides.items():
        yield from ((term, Entry(Kind.SIDE, side, side=side)) for term in terms)
    yield from _of_table(file.sites, Kind.SITE)
    yield from _of_table(file.site_adjectives, Kind.SITE_ADJECTIVE)
    words = file.words
    lists = (
        (Kind.PLACE, words.places), (Kind.POSITION, words.positions), (Kind.MODIFIER, words.modifiers),
        (Kind.SIZE, words.sizes), (Kind.CHANGE, words.changes), (Kind.QUANTITY, words.quantities),
        (Kind.UNIT, words.units), (Kind.PREPOSITION, words.prepositions),
        (Kind.RELATION, words.relations), (Kind.ARTICLE, words.articles),
        (Kind.JOIN, words.joins), (Kind.PARTITIVE, words.partitives), (Kind.FILLER, words.fillers),
        (Kind.OUTSIDE, words.outside),
    )  # fmt: skip
    for kind, terms in lists:
        yield from ((term, Entry(kind, term)) for term in terms)


def _of_table(table: Terms, kind: Kind, side: str = "") -> Iterable[tuple[str, Entry]]:
    return ((term, Entry(kind, concept, side=side)) for concept, terms in table.items() for term in terms)


def load_lexicon(path: Path) -> Lexicon:
    """The lexicon of a TOML file; LanguageError names the file and the field that is wrong."""
    try:
        return Lexicon(LexiconFile.model_validate(tomllib.loads(path.read_text("utf-8"))))
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise LanguageError(f"{path}: {field}: {first['msg']}; correct this field") from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, re.error) as error:
        raise LanguageError(f"{path}: {error}; correct the file") from error


@lru_cache(maxsize=4)
def bundled_lexicon(language: str = "en") -> Lexicon:
    """The lexicon that comes with the package."""
    return load_lexicon(Path(__file__).with_name(f"lexicon.{language}.toml"))

"""Words of descriptions: which regions of the body they name, and what else they say. `words.toml` holds the lists.

A text is normalised once; then whole words count, so that a list needs neither regular expressions nor spellings.
"""

import re
import tomllib
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from importlib.resources import files
from typing import Any

from worker.identity import digest_of

OwnWords = Mapping[str, Sequence[str]]
"""Words that a protocol has besides those of the lists, by the region or list to which they belong."""

_CAMEL = re.compile(r"(?<=[a-zß-ÿ])(?=[A-ZÀ-Þ])")
_PLAIN = (("ae", "a"), ("oe", "o"), ("ue", "u"))


def plain(text: str) -> str:
    """Returns the words of a text in lower case with a blank between them, without accents and signs.

    Umlauts and their spellings ae, oe, ue become a, o, u: "Ganzkörper", "GANZKOERPER" and "ganzkorper" are one word.
    Capitals within a word begin another: "AbdPel" is "abd pel".
    """
    decomposed = unicodedata.normalize("NFKD", _CAMEL.sub(" ", text).casefold())
    bare = "".join(sign for sign in decomposed if not unicodedata.combining(sign))
    for spelling, letter in _PLAIN:
        bare = bare.replace(spelling, letter)
    return " ".join(re.findall(r"[^\W_]+", bare))


@dataclass(frozen=True)
class WordLists:
    """The lists: words of each set of regions, words of what else is said, and how words are joined."""

    joined: tuple[str, ...]
    spanning: frozenset[str]
    kernels: frozenset[str]
    regions: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...]  # names, words
    says: Mapping[str, tuple[str, ...]]
    looked_at: Mapping[str, tuple[str, ...]]  # attributes of each list in `says`

    @cached_property
    def region_names(self) -> frozenset[str]:
        """Every region that there is."""
        return frozenset(name for names, _ in self.regions for name in names)

    @cached_property
    def digest(self) -> str:
        """16 hexadecimal digits that change with any word."""
        return digest_of([self.joined, self.regions, sorted(self.spanning | self.kernels), sorted(self.says.items())])

    def apart(self, text: str) -> str:
        """Returns `plain(text)` with joined words taken apart: "neck chest abd pelv"."""
        return " ".join(" ".join(self._split(word) or [word]) for word in plain(text).split())

    def _split(self, word: str) -> list[str]:
        """Returns the parts of a joined word; nothing where it does not consist of the parts that are known."""
        if word in self.joined:
            return [word]
        for part in self.joined:
            if word.startswith(part) and (rest := self._split(word[len(part) :])):
                return [part, *rest]
        return []


@cache
def vocabulary() -> WordLists:
    """Returns the lists of `words.toml`."""
    table: dict[str, Any] = tomllib.loads((files("worker.protocols") / "words.toml").read_text(encoding="utf-8"))
    return WordLists(
        joined=tuple(sorted(table["joined"], key=len, reverse=True)),
        spanning=frozenset(table["spanning"]),
        kernels=frozenset(table["kernels"]),
        regions=tuple((tuple(one["names"]), tuple(one["words"])) for one in table["regions"]),
        says={name: tuple(one["words"]) for name, one in table["says"].items()},
        looked_at={name: tuple(one["in"]) for name, one in table["says"].items()},
    )


def regions_in(text: str, own: OwnWords) -> frozenset[str]:
    """Returns the regions that a text names; of words that begin at the same place the one of most parts counts."""
    return _regions_in(text, _frozen(own))


def said_in(text: str, name: str, own: OwnWords) -> str:
    """Returns the words by which a text says what the list `name` is about; "" where it does not."""
    return _said_in(text, name, _frozen(own))


_Frozen = tuple[tuple[str, tuple[str, ...]], ...]


def _frozen(own: OwnWords) -> _Frozen:
    return tuple(sorted((name, tuple(words)) for name, words in own.items()))


@lru_cache(maxsize=4096)
def _regions_in(text: str, own: _Frozen) -> frozenset[str]:
    pattern, meanings = _region_pattern(own)
    found = (meanings[int(match.lastindex or 1) - 1] for match in pattern.finditer(vocabulary().apart(text)))
    return frozenset(name for names in found for name in names)


@cache
def _region_pattern(own: _Frozen) -> tuple[re.Pattern[str], list[tuple[str, ...]]]:
    """Returns one expression with a group for each word, and the regions that each group names."""
    known = vocabulary()
    named = [(word, names) for names, words in known.regions for word in words]
    named += [(word, (name,)) for name, words in own for word in words if name in known.region_names]
    named.sort(key=lambda one: (-len(_form(one[0]).split()), -len(one[0].replace("*", ""))))
    return _expression(word for word, _ in named), [names for _, names in named]


@lru_cache(maxsize=4096)
def _said_in(text: str, name: str, own: _Frozen) -> str:
    found = _said_pattern(name, own).search(vocabulary().apart(text))
    return found.group() if found else ""


@cache
def _said_pattern(name: str, own: _Frozen) -> re.Pattern[str]:
    return _expression((*vocabulary().says[name], *dict(own).get(name, ())))


def _expression(words: Iterable[str]) -> re.Pattern[str]:
    """Compiles an expression that finds any of the words as whole words, each in a group of its own."""
    forms = (re.escape(_form(word)).replace(r"\*", r"\w*").replace(r"\ ", " ") for word in words)
    return re.compile(r"(?<!\S)(?:" + "|".join(f"({form})" for form in forms) + r")(?!\S)")


def _form(word: str) -> str:
    """Returns a word of the lists as `plain` gives texts, with its * kept."""
    return " ".join("*".join(plain(piece) for piece in part.split("*")) for part in word.split())

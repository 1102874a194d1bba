"""Encodes text for the bundled model: from a word list, hashing and a fixed random projection to a vector.

Nothing is learnt and nothing is downloaded. Names of anatomy weigh most: `lexicon.toml` maps names, Latin and everyday
words to concepts, so that "voice box" lands on "larynx". Words are brought to one form first (case, accents, joined and
camel-case names, plural s), and misspelt ones to the closest known word. Words that the lexicon lacks are told apart by
hashing whole words and character trigrams. The order of the words does not matter, with one exception: a name after a
word of place is a landmark, not what is meant ("tumour in the larynx", "tube behind the trachea"). A side (left, right,
both) with a name is a direction of its own, so that left and right of one organ are far apart; a paired organ without a
side means both.

The way of a prompt: `fold` to words, `closest_word` against typing errors, `_find_names` for concepts, `features` for
named weights, and `NgramEncoder` for the sum of one random unit vector per feature.
"""

import hashlib
import re
import tomllib
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

LEXICON = Path(__file__).with_name("lexicon.toml")

NAME_WEIGHT = 0.7
SIDE_WEIGHT = 0.5
SIDED_NAME_WEIGHT = 0.8
"""A side together with a name weighs most, so that right and left of one organ are as far apart as two organs."""
HINT_WEIGHT = 0.45
"""A descriptive word ("saliva") counts less than a name, unless another one says the same and no name is there."""
LANDMARK_WEIGHT = 0.45
"""A name that only says where something lies; its direction is not that of the same name when it is meant."""
WORD_WEIGHT = 0.25
TRIGRAM_WEIGHT = 0.15
UNKNOWN_WEIGHT = 0.8
"""Total weight of the words that the lexicon lacks, when no name was found: a side alone must not outweigh them."""


@cache
def _lexicon() -> "_Lexicon":
    """Returns the look-up tables, made once per process."""
    return _Lexicon(tomllib.loads(LEXICON.read_text(encoding="utf-8")))


class _Lexicon:
    """Look-up tables made from `lexicon.toml`."""

    def __init__(self, raw: Mapping[str, Mapping[str, list[str]]]) -> None:
        self.names = {tuple(name.split()): concept for concept, names in raw["concepts"].items() for name in names}
        self.longest = max(map(len, self.names))
        self.sides = {word: side for side, words in raw["side"].items() for word in words}
        self.paired = frozenset(raw["paired"]["names"])
        self.hints = raw["description"]
        self.stop = frozenset(raw["words"]["stop"])
        self.places = frozenset(raw["words"]["place"])
        self.joints = frozenset(raw["words"]["joint"])
        words = (
            {word for name in self.names for word in name} | set(self.hints) | self.stop | set(raw["words"]["plain"])
        ) | self.places
        words |= {word for word in self.sides if len(word) > 3}
        self.words = frozenset(words | set(self.sides))
        self.by_length: dict[int, list[str]] = {}
        for word in sorted(words):
            self.by_length.setdefault(len(word), []).append(word)


def fold(prompt: str) -> list[str]:
    """Returns the words of a prompt in one form: lower case, no accents, camel case split, no plural s."""
    text = unicodedata.normalize("NFKD", prompt)
    text = "".join(c for c in text if not unicodedata.combining(c))
    text = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", text).casefold().replace("'s", "")
    return [_singular(part) for word in re.findall(r"[^\W_]+", text) for part in _parts(word)]


def _parts(word: str) -> tuple[str, ...]:
    """Splits two known words that were written as one ("rightparotid")."""
    known = _lexicon().words
    if word in known:
        return (word,)
    halves = ((word[:at], word[at:]) for at in range(3, len(word) - 2))
    return next((pair for pair in halves if known.issuperset(pair)), (word,))


def _singular(word: str) -> str:
    """Returns the singular of a word where the lexicon knows it, else the word."""
    known = _lexicon().words
    if word in known or len(word) < 4:
        return word
    endings = (("ies", "y"), ("es", ""), ("s", ""))
    return next((word[: -len(e)] + r for e, r in endings if word.endswith(e) and word[: -len(e)] + r in known), word)


@lru_cache(maxsize=4096)
def closest_word(word: str) -> str:
    """Returns the known word that `word` is most likely meant to be, or `word` itself when none is near.

    One slip (a letter missing, added, changed or two swapped) is allowed from four letters on, two from seven on, and
    in three letters a swap; the first letter must be right, except that it may have changed places with the second.
    """
    lexicon = _lexicon()
    allowed = 0 if len(word) < 3 else 1 if len(word) < 7 else 2
    if word in lexicon.words or not allowed or any(c.isdigit() for c in word):
        return word
    near = [w for n in range(len(word) - allowed, len(word) + allowed + 1) for w in lexicon.by_length.get(n, ())]
    near = [w for w in near if min(len(w), len(word)) > 3 or sorted(w) == sorted(word)]
    near = [w for w in near if w[0] in word[:2] and word[0] in w[:2]]
    slips, best = min(((edit_distance(word, w), w) for w in near), default=(99, word))
    return best if slips <= allowed else word


def edit_distance(a: str, b: str) -> int:
    """Returns the least number of edits from `a` to `b`: a letter added, dropped or changed, neighbours swapped.

    This is the optimal string alignment distance: no letter is edited twice.
    """
    before: list[int] = []
    last = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        row = [i]
        for j, y in enumerate(b, 1):
            cost = min(row[-1] + 1, last[j] + 1, last[j - 1] + (x != y))
            if i > 1 and j > 1 and x == b[j - 2] and a[i - 2] == y:
                cost = min(cost, before[j - 2] + 1)
            row.append(cost)
        before, last = last, row
    return last[-1]


def _direction(feature: str, dim: int) -> npt.NDArray[np.float64]:
    """Returns a unit vector float64 (dim,) made from the text of `feature`, the same on every machine."""
    digest = hashlib.sha256(feature.encode()).digest()
    vector = np.random.Generator(np.random.PCG64(int.from_bytes(digest[:8], "little"))).standard_normal(dim)
    unit: npt.NDArray[np.float64] = vector / np.linalg.norm(vector)
    return unit


class NgramEncoder:
    """Encodes text for the bundled model; how is described in the module's docstring."""

    name = "voxtell-ngrams-2"

    def __init__(self, dim: int = 256) -> None:
        self.dim = dim
        self._cached_direction = lru_cache(maxsize=8192)(lambda feature: _direction(feature, dim))

    def sources(self, prompts: Sequence[str]) -> tuple[str, ...]:  # noqa: ARG002 (all come from one word list)
        """Returns this encoder's version and the digest of its word list."""
        return (f"text={self.name}", f"lexicon=sha256:{hashlib.sha256(LEXICON.read_bytes()).hexdigest()}")

    def embed(self, prompts: Sequence[str]) -> torch.Tensor:
        """Returns float32 (P, dim), each row of length sqrt(dim), so that its numbers are of order one.

        Shorter ones would drown in the biases of the layer that reads them. A prompt without a single letter or digit
        gives zeros.
        """
        rows = [self._embed(prompt) for prompt in prompts]
        return torch.from_numpy(np.stack(rows).astype(np.float32)) if rows else torch.zeros(0, self.dim)

    def _embed(self, prompt: str) -> npt.NDArray[np.float64]:
        vector = np.zeros(self.dim)
        for feature, weight in features(prompt).items():
            vector += weight * self._cached_direction(feature)
        vector *= self.dim**0.5 / max(float(np.linalg.norm(vector)), 1e-12)
        return vector


def features(prompt: str) -> dict[str, float]:
    """Returns the named features of a text with their weights; the vector is their weighted sum.

    >>> features("the RIGHT parotid")["side:right"], features("voice box")["concept:larynx"]
    (0.5, 0.7)
    """
    lexicon = _lexicon()
    words = [closest_word(word) for word in fold(prompt)]
    concepts, landmarks, sides, rest = _find_names(words)
    found: dict[str, float] = {}
    _spread(found, {f"concept:{name}": 1 for name in concepts}, NAME_WEIGHT)
    hinting = {word for word in rest if word in lexicon.hints}
    hints = Counter(f"concept:{concept}" for word in rest for concept in lexicon.hints.get(word, ()))
    described = len(hinting) > 1  # one word is no description: a "facial nerve" is not the spinal cord
    _spread(found, hints, NAME_WEIGHT if described and not concepts else HINT_WEIGHT)
    meant = concepts or {hint.removeprefix("concept:") for hint, count in hints.items() if count == max(hints.values())}
    _spread(found, {f"near:{name}": 1 for name in landmarks}, LANDMARK_WEIGHT)
    if len(sides) > 1 or (not sides and concepts & lexicon.paired):
        sides = {"both"}
    _spread(found, {f"side:{side}": 1 for side in sides}, SIDE_WEIGHT)
    _spread(found, {f"{side}:{name}": 1 for side in sides for name in meant}, SIDED_NAME_WEIGHT)
    unknown = not concepts and not described
    content = sorted({word for word in rest if word not in lexicon.stop and (unknown or word not in hinting)})
    _spread(found, {f"word:{word}": 1 for word in content}, UNKNOWN_WEIGHT if unknown else WORD_WEIGHT)
    trigrams = Counter(f"trigram:{padded[i : i + 3]}" for w in content for padded in (f"^{w}$",) for i in range(len(w)))
    _spread(found, trigrams, TRIGRAM_WEIGHT)
    return found


def _spread(found: dict[str, float], counts: Mapping[str, int], weight: float) -> None:
    """Shares `weight` out over counted features so that the length of their sum is `weight`, however many they are."""
    length = sum(count**2 for count in counts.values()) ** 0.5
    for feature, count in counts.items():
        found[feature] = found.get(feature, 0.0) + weight * count / length


def _find_names(words: list[str]) -> tuple[set[str], set[str], set[str], list[str]]:
    """Returns the concepts, landmarks and sides named in `words`, and the words that are left.

    A name is a landmark where a word of place comes before it, with articles, sides and landmarks between at most.
    """
    lexicon = _lexicon()
    concepts: set[str] = set()
    landmarks: set[str] = set()
    sides: set[str] = set()
    rest: list[str] = []
    at, placed = 0, False
    while at < len(words):
        for length in range(min(lexicon.longest, len(words) - at), 0, -1):
            concept = lexicon.names.get(tuple(words[at : at + length]))
            if concept:
                (landmarks if placed else concepts).add(concept)
                at += length
                break
        else:
            word = words[at]
            placed = word in lexicon.places or (placed and (word in lexicon.joints or word in lexicon.sides))
            if word in lexicon.sides:
                sides.add(lexicon.sides[word])
            else:
                rest.append(word)
            at += 1
    if not concepts and len(landmarks) == 1 and lexicon.stop.union(lexicon.places).issuperset(rest):
        return landmarks, set(), sides, rest  # nothing else is there that could be meant
    return concepts, landmarks, sides, rest

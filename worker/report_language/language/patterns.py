"""Phrases of the data files, matched over tokens.

| in a phrase | stands for | example |
|---|---|---|
| `a|b` | either word | `is|are present` |
| `word?` | a word that may be missing | `has been? resolved` |
| `...` | up to three words, none of them a mark such as a comma | `no ... evidence` |
| `<number>` | any number | `<number> mm` |
| `<end>` | the end of the sentence | `negative <end>` |

A phrase is tried only where its first word stands, and its length is bounded, so that matching is linear in the number
of tokens.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from worker.report_language.language.tokens import Token

T = TypeVar("T")
GAP = 3  # words that `...` may stand for
NUMBER = "<number>"
END = "<end>"
_MARKS = frozenset(',;:.()?"')


@dataclass(frozen=True, slots=True)
class _Step:
    """One part of a phrase: a word or several to choose from, which may be missing, or a gap."""

    words: frozenset[str]
    optional: bool
    gap: bool


def _step(part: str) -> _Step:
    """Reads one part: "is|are", "been?" or "..."."""
    if part == "...":
        return _Step(frozenset(), optional=False, gap=True)
    optional = part.endswith("?") and len(part) > 1
    return _Step(frozenset(part.removesuffix("?").split("|") if optional else part.split("|")), optional, gap=False)


class PhrasePatterns(Generic[T]):
    """Phrases, each with a value, ready to be matched; letter case does not count.

    An example: `PhrasePatterns([("no evidence of", negated), ("no", negated)])`.
    """

    def __init__(self, phrases: Iterable[tuple[str, T]]) -> None:
        self._by_first: dict[str, list[tuple[tuple[_Step, ...], T]]] = {}
        for phrase, value in phrases:
            steps = tuple(_step(part) for part in phrase.casefold().split())
            for word in self._first_words(steps):
                self._by_first.setdefault(word, []).append((steps, value))

    @staticmethod
    def _first_words(steps: Sequence[_Step]) -> set[str]:
        """Returns the words that a phrase may begin with: "has", "been" and "resolved" for "has? been? resolved"."""
        words: set[str] = set()
        for step in steps:
            words |= step.words
            if not step.optional:
                break
        return words

    def longest(self, tokens: Sequence[Token], position: int) -> tuple[int, T] | None:
        """Finds the longest phrase that starts at `tokens[position]`; of equals, the first declared.

        Returns (position after its last token, its value), or None.
        """
        best: tuple[int, T] | None = None
        word = tokens[position].norm
        candidates = self._by_first.get(word, [])
        if word[0].isdigit():
            candidates = candidates + self._by_first.get(NUMBER, [])
        for steps, value in candidates:
            end = self._end(steps, 0, tokens, position)
            if end is not None and (best is None or end > best[0]):
                best = (end, value)
        return best

    def _end(self, steps: Sequence[_Step], at: int, tokens: Sequence[Token], position: int) -> int | None:
        """Finds where the steps from `at` end when they start at `position`; None when they do not fit."""
        if at == len(steps):
            return position
        step = steps[at]
        if step.gap:
            return self._end_after_gap(steps, at + 1, tokens, position)
        if END in step.words and position == len(tokens):
            return position
        if position < len(tokens) and _fits(step, tokens[position]):
            end = self._end(steps, at + 1, tokens, position + 1)
            if end is not None:
                return end
        return self._end(steps, at + 1, tokens, position) if step.optional else None

    def _end_after_gap(self, steps: Sequence[_Step], at: int, tokens: Sequence[Token], position: int) -> int | None:
        """Finds where the steps from `at` end when up to three words, and no mark, are skipped before them."""
        for skipped in range(GAP + 1):
            end = self._end(steps, at, tokens, position + skipped)
            if end is not None:
                return end
            if position + skipped >= len(tokens) or tokens[position + skipped].norm in _MARKS:
                return None
        return None


def _fits(step: _Step, token: Token) -> bool:
    """Whether a token is one of a step's words, or a number where the step stands for one."""
    return token.norm in step.words or (NUMBER in step.words and token.norm[0].isdigit())

"""Phrases of the data files, matched over tokens.

A phrase is words separated by blanks. `a|b` is either word, a trailing `?` makes a word optional, `<number>` is any
number, `<end>` the end of the sentence, and `...` stands for up to three words, never over a mark or a word such as
"or" that may join a finding to the phrase. A phrase is tried only where its first word stands, and its length is
bounded, so that matching is linear in the number of tokens.
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
    words: frozenset[str]
    optional: bool
    gap: bool


def _step(part: str) -> _Step:
    if part == "...":
        return _Step(frozenset(), optional=False, gap=True)
    optional = part.endswith("?") and len(part) > 1
    return _Step(frozenset(part.removesuffix("?").split("|") if optional else part.split("|")), optional, gap=False)


class Phrases(Generic[T]):
    """Phrases, each with a value; `longest` gives the value of the longest phrase that starts at a token."""

    def __init__(self, phrases: Iterable[tuple[str, T]], gap_breakers: Iterable[str] = ()) -> None:
        self._no_gap = _MARKS.union(gap_breakers)
        self._by_first: dict[str, list[tuple[tuple[_Step, ...], T]]] = {}
        for phrase, value in phrases:
            steps = tuple(_step(part) for part in phrase.casefold().split())
            for word in self._first_words(steps):
                self._by_first.setdefault(word, []).append((steps, value))

    @staticmethod
    def _first_words(steps: Sequence[_Step]) -> set[str]:
        words: set[str] = set()
        for step in steps:
            words |= step.words
            if not step.optional:
                break
        return words

    def longest(self, tokens: Sequence[Token], position: int) -> tuple[int, T] | None:
        """(end, value) of the longest phrase at `tokens[position]`, or None; of equals, the first declared."""
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
        """Where the steps from `at` end when they start at `position`; None when they do not fit."""
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
        for skipped in range(GAP + 1):
            end = self._end(steps, at, tokens, position + skipped)
            if end is not None:
                return end
            if position + skipped >= len(tokens) or tokens[position + skipped].norm in self._no_gap:
                return None
        return None


def _fits(step: _Step, token: Token) -> bool:
    return token.norm in step.words or (NUMBER in step.words and token.norm[0].isdigit())

"""Compares what protocols take with what a person expects: false takes and misses for each protocol."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from worker.explain.dry_run import Explained


@dataclass(frozen=True)
class HitsAndMisses:
    """How often a protocol is right. `false` and `missed` name the series, by the line of the table where they stand.

    `protocol` is a name or a pattern of the column, of which any protocol will do.
    """

    protocol: str
    expected: int
    taken: int
    false: tuple[str, ...]
    missed: tuple[str, ...]

    @property
    def false_share(self) -> float:
        """The part of what it takes that it should not take, 0 to 1."""
        return len(self.false) / self.taken if self.taken else 0.0

    @property
    def missed_share(self) -> float:
        """The part of what it should take that it does not take, 0 to 1."""
        return len(self.missed) / self.expected if self.expected else 0.0


def score(rows: Sequence[tuple[str, str, Sequence[Explained]]], protocols: Sequence[str]) -> list[HitsAndMisses]:
    """Scores each protocol over rows of (line, what is expected, the answers); in the order of `protocols`.

    What is expected is a list of names between blanks, commas or semicolons. In a name `*` stands for any part, so that
    `ct-pelvis-*-oar` expects one of `ct-pelvis-male-oar`, `ct-pelvis-female-oar` and `ct-pelvis-oar`. Protocols of one
    pattern count as one. Protocols that wait for a report take nothing of a table and have no score.
    """
    asked = [(line, set(re.split(r"[\s,;]+", text)) - {""}, answers) for line, text, answers in rows]
    wanted = sorted({name for _, names, _ in asked for name in names if "*" in name})
    waiting = {one.protocol for _, _, answers in rows for one in answers if one.taken is None}
    alone = [name for name in protocols if name not in waiting and not any(_fits(one, name) for one in wanted)]
    return [_score(name, asked) for name in (*alone, *wanted)]


def unknown(expected: Iterable[str], protocols: Sequence[str]) -> list[str]:
    """Returns the names in the column that no protocol has, each once."""
    names = dict.fromkeys(name for text in expected for name in re.split(r"[\s,;]+", text) if name)
    return [name for name in names if not any(_fits(name, one) for one in protocols)]


def _score(protocol: str, rows: Sequence[tuple[str, set[str], Sequence[Explained]]]) -> HitsAndMisses:
    """Scores one protocol, or those of one pattern together."""
    expected, taken = set(), set()
    for line, names, answers in rows:
        if any(_fits(name, protocol) or name == protocol for name in names):
            expected.add(line)
        if any(one.taken and _fits(protocol, one.protocol) for one in answers):
            taken.add(line)
    lines = [line for line, _, _ in rows]
    false = tuple(line for line in lines if line in taken - expected)
    return HitsAndMisses(
        protocol, len(expected), len(taken), false, tuple(one for one in lines if one in expected - taken)
    )


def _fits(pattern: str, name: str) -> bool:
    """Whether a name is the one that is written, `*` standing for any part of it, also for one that is not there."""
    return re.fullmatch(re.escape(pattern).replace(r"\-\*\-", "-(.*-)?").replace(r"\*", ".*"), name) is not None

"""How decisions are stored: what they have in common once, and of each series only what was found.

A protocol asks the same of every series, and its conditions are most of the bytes of a decision; a long sentence, such
as why a series is no volume, is the same for every protocol. Both are texts, known by their digests, and a decision
refers to them:

    conditions  [[0, "Modality equals 'CT'"], [0, "one regular volume"]]              level and condition, as a text
    answers     [["", "3f2a8c0d9b1e4f67", "+-", ["CT", ["9c1e77ab02d4f518"]]]]        volume, conditions, holds, found

The reason is not stored: it follows from the findings. Senders choose what is found, so its length is limited.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from typing import Any, Final

from worker.findings import Answer, Finding, VolumeFindings
from worker.masking import masked

MOST_CHARACTERS: Final = 500
"""Of what was found for one condition; a value of a header may have 4 GB."""
MOST_VOLUMES: Final = 32
"""Of one series, whose findings are kept one by one: a series may hold hundreds, and people read a few."""
SHORT: Final = 40
"""Characters up to which what was found stands in the answers itself: a reference takes 20."""

Answers = list[list[Any]]

_MARKS: Final[Mapping[Answer, str]] = {True: "+", False: "-", None: "?"}
_ANSWERS: Final = {mark: answer for answer, mark in _MARKS.items()}


def packed(volumes: Sequence[VolumeFindings]) -> tuple[dict[str, str], Answers]:
    """Returns the texts of a decision by their ids, and its answers."""
    texts: dict[str, str] = {}

    def kept(text: str) -> str:
        key = sha256(text.encode()).hexdigest()[:16]
        texts[key] = text
        return key

    answers: Answers = []
    for one in _shown(volumes):
        conditions = kept(json.dumps([[finding.level, finding.condition] for finding in one.findings]))
        holds = "".join(_MARKS[finding.holds] for finding in one.findings)
        found = [_short(finding.found) for finding in one.findings]
        answers.append([one.volume, conditions, holds, [[kept(text)] if len(text) > SHORT else text for text in found]])
    return texts, answers


def unpacked(answers: Answers, texts: Mapping[str, str]) -> tuple[VolumeFindings, ...]:
    """Returns the findings on each volume from a decision's answers and its texts by their ids."""
    return tuple(VolumeFindings(one[0], tuple(_findings(one, texts))) for one in answers)


def texts_of(answers: Iterable[Answers]) -> set[str]:
    """Returns the ids of the texts that decisions refer to."""
    found: set[str] = set()
    for _, conditions, _, there in (one for mine in answers for one in mine):
        found |= {conditions, *(text[0] for text in there if isinstance(text, list))}
    return found


def _findings(answer: list[Any], texts: Mapping[str, str]) -> Iterator[Finding]:
    _, conditions, holds, found = answer
    for (level, condition), mark, there in zip(json.loads(texts[conditions]), holds, found, strict=True):
        yield Finding(condition, texts[there[0]] if isinstance(there, list) else there, _ANSWERS[mark], level)


def _shown(volumes: Sequence[VolumeFindings]) -> Sequence[VolumeFindings]:
    """Returns the volumes that are kept one by one, those that were taken before others, and one entry for the rest."""
    if len(volumes) <= MOST_VOLUMES:
        return volumes
    kept = sorted(volumes, key=lambda one: not one.taken)[:MOST_VOLUMES]
    rest = Finding(f"one of the {MOST_VOLUMES} volumes listed here", f"not: there are {len(volumes)} in all", False)
    return [*kept, VolumeFindings("further volumes", (rest,))]


def _short(found: str) -> str:
    """Returns what was found as it is stored: no passwords of URLs, no NUL (PostgreSQL takes none), not too long."""
    found = masked(found.replace("\0", ""))
    return found if len(found) <= MOST_CHARACTERS else found[: MOST_CHARACTERS - 3] + "..."

"""How decisions are stored: what a protocol asks once, and of each series only what was found.

A protocol asks the same of every series, and its conditions are most of the bytes of a decision. So the conditions are
a row of the table `questions`, known by a digest, and a decision has answers to them:

    questions   [[0, "Modality equals 'CT'"], [0, "one regular volume"]]         level and condition
    answers     [["", "3f2a8c0d9b1e4f67", "+-", ["CT", "not: a slice is missing"]]]   volume, question, holds, found

The reason is not stored: it follows from the findings. Senders choose what is found, so its length is limited.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from typing import Any, Final

from worker.findings import Answer, Finding, VolumeFindings
from worker.masking import masked

MOST_CHARACTERS: Final = 500
"""Of what was found for one condition; a value of a header may have 4 GB."""
MOST_VOLUMES: Final = 32
"""Of one series, whose findings are kept one by one: a series may hold hundreds, and people read a few."""

Conditions = list[list[Any]]
Answers = list[list[Any]]

_MARKS: Final[Mapping[Answer, str]] = {True: "+", False: "-", None: "?"}
_ANSWERS: Final = {mark: answer for answer, mark in _MARKS.items()}


def packed(volumes: Sequence[VolumeFindings]) -> tuple[dict[str, Conditions], Answers]:
    """Returns the questions of a decision by their ids, and its answers."""
    questions: dict[str, Conditions] = {}
    answers: Answers = []
    for one in shown(volumes):
        conditions: Conditions = [[finding.level, finding.condition] for finding in one.findings]
        key = question_id(conditions)
        questions[key] = conditions
        holds = "".join(_MARKS[finding.holds] for finding in one.findings)
        answers.append([one.volume, key, holds, [_short(finding.found) for finding in one.findings]])
    return questions, answers


def unpacked(answers: Answers, questions: Mapping[str, Conditions]) -> tuple[VolumeFindings, ...]:
    """Returns the findings on each volume from a decision's answers and all its questions by their ids."""
    return tuple(
        VolumeFindings(
            volume,
            tuple(
                Finding(condition, there, _ANSWERS[mark], level)
                for (level, condition), mark, there in zip(questions[key], holds, found, strict=True)
            ),
        )
        for volume, key, holds, found in answers
    )


def questions_of(answers: Iterable[Answers]) -> set[str]:
    """Returns the ids of the questions that decisions answer."""
    return {key for mine in answers for _, key, _, _ in mine}


def question_id(conditions: Conditions) -> str:
    """Returns the id of a question: 16 hexadecimal digits that follow from its conditions."""
    return sha256(json.dumps(conditions, separators=(",", ":")).encode()).hexdigest()[:16]


def shown(volumes: Sequence[VolumeFindings]) -> Sequence[VolumeFindings]:
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

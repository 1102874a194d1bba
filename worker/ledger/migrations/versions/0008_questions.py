"""Table `questions`: what protocols ask, once; decisions keep their answers to it.

Decisions of before are rewritten, which takes about a minute per million. The table is made anew, since SQLite decides
at its making whether it keeps the key of a row twice. The space of the old one is used again, not given back.
"""

import json
from collections.abc import Iterator
from hashlib import sha256
from itertools import groupby
from typing import Any

import sqlalchemy as sa
from alembic import op

from worker.masking import masked

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_AT_ONCE = 1000  # rows
_MOST_CHARACTERS = 500
_MARKS = {True: "+", False: "-", None: "?"}
_ANSWERS = {mark: answer for answer, mark in _MARKS.items()}

_KEY = ("study_uid", "series_uid", "protocol")
_QUESTIONS = sa.table("questions", sa.column("id", sa.String), sa.column("conditions", sa.JSON))


def _decisions(name: str, kept: str) -> sa.TableClause:
    columns: list[sa.ColumnClause[Any]] = [sa.column(column, sa.String) for column in (*_KEY, "reason")]
    columns += [sa.column("taken", sa.Boolean), sa.column("at", sa.Float), sa.column(kept, sa.JSON)]
    return sa.table(name, *columns)


def _make(name: str, kept: sa.Column[Any], **options: bool) -> None:
    op.create_table(
        name,
        *(sa.Column(column, sa.String(64), primary_key=True) for column in _KEY),
        sa.Column("taken", sa.Boolean, nullable=False),
        sa.Column("reason", sa.Text, nullable=False, server_default=""),
        kept,
        sa.Column("at", sa.Float, nullable=False),
        **options,
    )


def _rows(before: sa.TableClause) -> Iterator[list[dict[str, Any]]]:
    found = op.get_bind().execute(sa.select(before), execution_options={"yield_per": _AT_ONCE})
    for part in found.mappings().partitions():
        yield [dict(row) for row in part]


def upgrade() -> None:
    op.create_table(
        "questions",
        sa.Column("id", sa.String(16), primary_key=True),
        sa.Column("conditions", sa.JSON, nullable=False),
    )
    _make("decisions_now", sa.Column("answers", sa.JSON, nullable=False), sqlite_with_rowid=False)
    known: set[str] = set()
    for rows in _rows(_decisions("decisions", "conditions")):
        asked: dict[str, Any] = {}
        for row in rows:
            row["answers"] = _answers(row.pop("conditions") or [], asked)
            row["reason"] = "" if row["answers"] else row["reason"]
        new = [{"id": key, "conditions": asked[key]} for key in asked if key not in known]
        known |= asked.keys()
        if new:
            op.bulk_insert(_QUESTIONS, new)
        op.bulk_insert(_decisions("decisions_now", "answers"), rows)
    op.drop_table("decisions")
    op.rename_table("decisions_now", "decisions")


def _answers(conditions: list[dict[str, Any]], asked: dict[str, Any]) -> list[list[Any]]:
    """Returns the answers of one decision: of each volume its name, the question, what holds, and what was found."""
    answers = []
    for volume, group in groupby(conditions, key=lambda one: one.get("volume", "")):
        findings = list(group)
        question = [[one.get("level", 0), one["condition"]] for one in findings]
        key = sha256(json.dumps(question, separators=(",", ":")).encode()).hexdigest()[:16]
        asked[key] = question
        holds = "".join(_MARKS[one["holds"]] for one in findings)
        answers.append([volume, key, holds, [_short(one["found"]) for one in findings]])
    return answers


def _short(found: str) -> str:
    found = masked(found)
    return found if len(found) <= _MOST_CHARACTERS else found[: _MOST_CHARACTERS - 3] + "..."


def downgrade() -> None:
    _make("decisions_now", sa.Column("conditions", sa.JSON, nullable=False, server_default="[]"))
    asked = {row.id: row.conditions for row in op.get_bind().execute(sa.select(_QUESTIONS))}
    for rows in _rows(_decisions("decisions", "answers")):
        for row in rows:
            row["conditions"] = _conditions(row.pop("answers"), asked)
        op.bulk_insert(_decisions("decisions_now", "conditions"), rows)
    op.drop_table("decisions")
    op.rename_table("decisions_now", "decisions")
    op.drop_table("questions")


def _conditions(answers: list[list[Any]], asked: dict[str, Any]) -> list[dict[str, Any]]:
    """Returns the conditions as the versions before kept them; their reasons are gone."""
    return [
        {"condition": condition, "found": found, "holds": _ANSWERS[mark], "level": level}
        | ({"volume": volume} if volume else {})
        for volume, key, marks, there in answers
        for (level, condition), mark, found in zip(asked[key], marks, there, strict=True)
    ]

"""Table `decision_texts`: what decisions have in common, once; decisions keep what was found of their series.

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
_SHORT = 40
_MARKS = {True: "+", False: "-", None: "?"}
_ANSWERS = {mark: answer for answer, mark in _MARKS.items()}

_KEY = ("study_uid", "series_uid", "protocol")
_TEXTS = sa.table("decision_texts", sa.column("id", sa.String), sa.column("text", sa.Text))


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
        "decision_texts",
        sa.Column("id", sa.String(16), primary_key=True),
        sa.Column("text", sa.Text, nullable=False),
        sqlite_with_rowid=False,
    )
    _make("decisions_now", sa.Column("answers", sa.JSON, nullable=False), sqlite_with_rowid=False)
    known: set[str] = set()
    for rows in _rows(_decisions("decisions", "conditions")):
        texts: dict[str, str] = {}
        for row in rows:
            row["answers"] = _answers(row.pop("conditions") or [], texts)
            row["reason"] = "" if row["answers"] else row["reason"]
        if new := [{"id": key, "text": text} for key, text in texts.items() if key not in known]:
            op.bulk_insert(_TEXTS, new)
            known |= texts.keys()
        op.bulk_insert(_decisions("decisions_now", "answers"), rows)
    op.drop_table("decisions")
    op.rename_table("decisions_now", "decisions")


def _answers(conditions: list[dict[str, Any]], texts: dict[str, str]) -> list[list[Any]]:
    """Returns the answers of one decision: of each volume its name, the conditions, what holds, and what was found."""
    answers = []
    for volume, group in groupby(conditions, key=lambda one: one.get("volume", "")):
        findings = list(group)
        key = _kept(json.dumps([[one.get("level", 0), one["condition"]] for one in findings]), texts)
        holds = "".join(_MARKS[one["holds"]] for one in findings)
        found = [_short(one["found"]) for one in findings]
        answers.append([volume, key, holds, [[_kept(text, texts)] if len(text) > _SHORT else text for text in found]])
    return answers


def _kept(text: str, texts: dict[str, str]) -> str:
    key = sha256(text.encode()).hexdigest()[:16]
    texts[key] = text
    return key


def _short(found: str) -> str:
    found = masked(found.replace("\0", ""))
    return found if len(found) <= _MOST_CHARACTERS else found[: _MOST_CHARACTERS - 3] + "..."


def downgrade() -> None:
    _make("decisions_now", sa.Column("conditions", sa.JSON, nullable=False, server_default="[]"))
    texts = {row.id: row.text for row in op.get_bind().execute(sa.select(_TEXTS))}
    for rows in _rows(_decisions("decisions", "answers")):
        for row in rows:
            row["conditions"] = _conditions(row.pop("answers"), texts)
        op.bulk_insert(_decisions("decisions_now", "conditions"), rows)
    op.drop_table("decisions")
    op.rename_table("decisions_now", "decisions")
    op.drop_table("decision_texts")


def _conditions(answers: list[list[Any]], texts: dict[str, str]) -> list[dict[str, Any]]:
    """Returns the conditions as the versions before kept them; their reasons are gone."""
    return [
        {
            "condition": condition,
            "found": texts[found[0]] if isinstance(found, list) else found,
            "holds": _ANSWERS[mark],
            "level": level,
        }
        | ({"volume": volume} if volume else {})
        for volume, key, marks, there in answers
        for (level, condition), mark, found in zip(json.loads(texts[key]), marks, there, strict=True)
    ]

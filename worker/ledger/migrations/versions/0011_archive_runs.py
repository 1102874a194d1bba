"""Tables of archive runs: the runs, the parts of their listings, and a row for each study."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "runs",
        sa.Column("id", sa.String(12), primary_key=True),
        sa.Column("name", sa.String(64), nullable=False, unique=True),
        sa.Column("source", sa.JSON, nullable=False),
        sa.Column("filters", sa.JSON, nullable=False),
        sa.Column("limits", sa.JSON, nullable=False),
        sa.Column("protocols", sa.JSON, nullable=False),
        sa.Column("outputs", sa.JSON, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("reason", sa.Text, nullable=False, server_default=""),
        sa.Column("store_id", sa.String(32), nullable=True),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("started_at", sa.Float, nullable=True),
        sa.Column("ended_at", sa.Float, nullable=True),
    )
    op.create_index("ix_runs_state", "runs", ["state"])
    op.create_table(
        "windows",
        sa.Column("run_id", sa.String(12), sa.ForeignKey("runs.id"), primary_key=True),
        sa.Column("lo", sa.String(14), primary_key=True),
        sa.Column("hi", sa.String(14), primary_key=True),
        sa.Column("keys", sa.String(255), primary_key=True),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("matches", sa.Integer, nullable=False, server_default="0"),
        sa.Column("reason", sa.Text, nullable=False, server_default=""),
        sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
        sa.Column("next_try_at", sa.Float, nullable=False, server_default="0"),
    )
    op.create_index("ix_windows_state", "windows", ["state"])
    op.create_table(
        "entries",
        sa.Column("run_id", sa.String(12), sa.ForeignKey("runs.id"), primary_key=True),
        sa.Column("study_uid", sa.String(64), primary_key=True),
        sa.Column("accession", sa.String(64), nullable=False, server_default=""),
        sa.Column("study_date", sa.String(16), nullable=False, server_default=""),
        sa.Column("modalities", sa.String(64), nullable=False, server_default=""),
        sa.Column("series", sa.JSON, nullable=False, server_default="[]"),
        sa.Column("images_expected", sa.Integer, nullable=True),
        sa.Column("source_ref", sa.Text, nullable=False, server_default=""),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("reason", sa.Text, nullable=False, server_default=""),
        sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
        sa.Column("claims", sa.Integer, nullable=False, server_default="0"),
        sa.Column("lease_until", sa.Float, nullable=False, server_default="0"),
        sa.Column("next_try_at", sa.Float, nullable=False, server_default="0"),
        sa.Column("images", sa.Integer, nullable=False, server_default="0"),
        sa.Column("bytes", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("fetch_s", sa.Float, nullable=True),
        sa.Column("listed_at", sa.Float, nullable=False),
        sa.Column("fetched_at", sa.Float, nullable=True),
        sa.Column("ended_at", sa.Float, nullable=True),
        sa.Column("outcome", sa.String(16), nullable=True),
        sa.Column("outcome_detail", sa.JSON, nullable=False, server_default="{}"),
    )
    op.create_index("ix_entries_run_id_state", "entries", ["run_id", "state"])
    op.create_index("ix_entries_study_uid", "entries", ["study_uid"])


def downgrade() -> None:
    for table in ("entries", "windows", "runs"):
        op.drop_table(table)

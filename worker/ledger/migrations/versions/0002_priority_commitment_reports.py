"""Priorities, storage commitment, fallback destinations, retention, conditions of decisions, reports."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("jobs", sa.Column("priority", sa.Integer, nullable=False, server_default="1"))
    op.add_column("jobs", sa.Column("cleaned_at", sa.Float, nullable=True))
    op.add_column("deliveries", sa.Column("transaction_uid", sa.String(64), nullable=True))
    op.add_column("deliveries", sa.Column("stands_in_for", sa.String(64), nullable=True))
    op.add_column("decisions", sa.Column("conditions", sa.JSON, nullable=False, server_default="[]"))
    op.create_table(
        "reports",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("study_uid", sa.String(64), nullable=True, index=True),
        sa.Column("accession", sa.String(64), nullable=True, index=True),
        sa.Column("source", sa.String(16), nullable=False),
        sa.Column("path", sa.Text, nullable=False),
        sa.Column("received_at", sa.Float, nullable=False),
        sa.Column("read_at", sa.Float, nullable=True),
    )

    _name_routes()


def _name_routes() -> None:
    """Makes routes of the `destinations` that jobs of the first version name."""
    jobs = sa.table("jobs", sa.column("id", sa.String), sa.column("work", sa.JSON))
    connection = op.get_bind()
    for row in connection.execute(sa.select(jobs.c.id, jobs.c.work)).all():
        work = dict(row.work)
        if "destinations" in work:
            work["routes"] = [{"to": name} for name in work.pop("destinations")]
            connection.execute(sa.update(jobs).where(jobs.c.id == row.id).values(work=work))


def downgrade() -> None:
    op.drop_table("reports")
    for table, column in (
        ("decisions", "conditions"),
        ("deliveries", "stands_in_for"),
        ("deliveries", "transaction_uid"),
        ("jobs", "cleaned_at"),
        ("jobs", "priority"),
    ):
        op.drop_column(table, column)

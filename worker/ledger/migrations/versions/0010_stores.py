"""Table stores, and which store holds the images of a series and of a job."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "stores",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("host", sa.String(255), nullable=False),
        sa.Column("seen_at", sa.Float, nullable=False),
    )
    for table in ("series", "jobs"):
        op.add_column(table, sa.Column("store_id", sa.String(32), nullable=True))


def downgrade() -> None:
    for table in ("series", "jobs"):
        op.drop_column(table, "store_id")
    op.drop_table("stores")

"""Column `deliveries.taken`: the files of an incomplete delivery that arrived and are not sent again."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("deliveries", sa.Column("taken", sa.JSON, nullable=False, server_default="[]"))


def downgrade() -> None:
    op.drop_column("deliveries", "taken")

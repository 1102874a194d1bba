"""How often a series was looked at without an end, and why it cannot be read."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("series", sa.Column("looks", sa.Integer, nullable=False, server_default="0"))
    op.add_column("series", sa.Column("reason", sa.Text, nullable=False, server_default=""))


def downgrade() -> None:
    op.drop_column("series", "reason")
    op.drop_column("series", "looks")

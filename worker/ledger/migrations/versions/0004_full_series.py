"""Column `series.full_with`: with how many images a series was last proved complete, so that later ones are noticed."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("series", sa.Column("full_with", sa.Integer, nullable=False, server_default="0"))


def downgrade() -> None:
    op.drop_column("series", "full_with")

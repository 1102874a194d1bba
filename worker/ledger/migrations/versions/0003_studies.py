"""Table `studies`: the accession number of each study, by which a report without Study Instance UID finds it."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "studies",
        sa.Column("study_uid", sa.String(64), primary_key=True),
        sa.Column("accession", sa.String(64), nullable=False, index=True),
    )


def downgrade() -> None:
    op.drop_table("studies")

"""State "unreadable" of a series, which was called "set aside" for a while."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_SERIES = sa.table("series", sa.column("state", sa.String))


def _rename(before: str, after: str) -> None:
    op.execute(sa.update(_SERIES).where(_SERIES.c.state == before).values(state=after))


def upgrade() -> None:
    _rename("set aside", "unreadable")


def downgrade() -> None:
    _rename("unreadable", "set aside")

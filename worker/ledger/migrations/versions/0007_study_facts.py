"""What people know a study by: patient, accession number, date and description, for `jobs`."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

COLUMNS = {
    "patient_id": 64,
    "patient_name": 324,
    "accession_number": 64,
    "study_date": 16,
    "description": 64,
}


def upgrade() -> None:
    for name, length in COLUMNS.items():
        op.add_column("studies", sa.Column(name, sa.String(length), nullable=False, server_default=""))


def downgrade() -> None:
    for name in COLUMNS:
        op.drop_column("studies", name)

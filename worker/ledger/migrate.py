"""Brings the tables of a ledger up to date by the migrations in `migrations/versions` (Alembic).

`engine` imports this module only when an upgrade is due.
"""

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.util.exc import CommandError
from sqlalchemy.engine import Engine

MIGRATION_LOCK = 0x766F78  # any number, the same in every process: PostgreSQL's advisory lock during an upgrade


def upgrade(engine: Engine, migrations: Path) -> None:
    """Makes the tables, or changes them to the newest revision, in one transaction.

    Several processes may start at once: one upgrades, the others wait. A process that is killed leaves the old tables.

    Raises:
        ValueError: when the tables are of a revision that this version does not know, as after a downgrade.
    """
    config = Config()
    config.set_main_option("script_location", str(migrations).replace("%", "%%"))
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(MIGRATION_LOCK)))
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, "head")
        except CommandError as error:
            raise ValueError(str(error)) from error

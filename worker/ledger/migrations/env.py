"""Alembic's entry: the ledger hands over its open connection, so that the upgrade is one locked transaction."""

from alembic import context

from worker.ledger.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()

"""What Alembic runs: the migrations, on the connection and in the transaction that `migration.py` has opened."""

from alembic import context

from processors.shared.database.tables import metadata
from streams.sql import metadata as engine_metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=[metadata, engine_metadata],
    compare_type=True,
    compare_server_default=True,
    # Alembic believes that SQLite commits at every DDL statement. It does not, and a half-made database is no use.
    transactional_ddl=True,
    # SQLite changes a table by copying it.
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()

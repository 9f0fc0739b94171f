"""What the SQL inbox has handled: the digest by which another event under the same id is recognised.

Revision ID: 0002
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds the column, unless `streams.sql.create_tables` has. Rows that are there keep NULL: nothing is compared."""
    columns = sa.inspect(op.get_bind()).get_columns("streams_inbox")
    if not any(column["name"] == "digest" for column in columns):
        op.add_column("streams_inbox", sa.Column("digest", sa.String(length=64), nullable=True))

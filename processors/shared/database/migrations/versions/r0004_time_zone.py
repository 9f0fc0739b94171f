"""Each business has a time zone, and a report that failed says why.

Revision ID: 0004
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds the columns. Businesses that are there keep their days: those of UTC."""
    op.add_column("businesses", sa.Column("time_zone", sa.String(length=64), server_default="UTC", nullable=False))
    op.add_column("reports", sa.Column("error", sa.Text(), nullable=True))

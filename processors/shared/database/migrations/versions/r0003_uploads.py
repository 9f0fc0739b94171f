"""Imports have an order, count what they change, and remember how a business' files are read.

Revision ID: 0003
"""

import sqlalchemy as sa
from alembic import op

from processors.shared.database.columns import Instant

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds the columns and the table."""
    op.add_column("stock_levels", sa.Column("uploaded", sa.BigInteger(), nullable=True))
    op.add_column("imports", sa.Column("name", sa.String(length=255), server_default="", nullable=False))
    for column in ("uploaded", "rows_new", "rows_changed"):
        op.add_column("imports", sa.Column(column, sa.BigInteger(), server_default="0", nullable=False))
    op.create_index("ix_imports_business_id_uploaded", "imports", ["business_id", "uploaded"])
    op.add_column("import_errors", sa.Column("row", sa.BigInteger(), server_default="0", nullable=False))
    op.add_column("import_errors", sa.Column("sku", sa.String(length=64), server_default="", nullable=False))
    op.add_column("import_errors", sa.Column("value", sa.String(length=100), server_default="", nullable=False))
    op.add_column("exports", sa.Column("error", sa.Text(), nullable=True))
    op.create_table(
        "import_choices",
        sa.Column("business_id", sa.Integer(), nullable=False),
        sa.Column("header", sa.String(length=64), nullable=False),
        sa.Column("choices", sa.Text(), nullable=False),
        sa.Column("updated_at", Instant(), nullable=False),
        sa.ForeignKeyConstraint(["business_id"], ["businesses.id"], name="fk_import_choices_business_id_businesses"),
        sa.PrimaryKeyConstraint("business_id", "header", name="pk_import_choices"),
    )

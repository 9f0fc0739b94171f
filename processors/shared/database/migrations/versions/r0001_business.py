"""The business tables, and the engine's where `streams.sql.create_tables` has not made them.

Revision ID: 0001
"""

import sqlalchemy as sa
from alembic import op

from processors.shared.database.columns import BigKey, Instant, Money

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes them."""
    _business()
    _engine()


def _business() -> None:
    op.create_table(
        "businesses",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("currency", sa.String(length=3), nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_businesses"),
        sa.UniqueConstraint("name", name="uq_businesses_name"),
    )
    op.create_table(
        "exports",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("business_id", sa.Integer(), nullable=False),
        sa.Column("format", sa.String(length=16), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("file", sa.String(length=1024), nullable=True),
        sa.Column("rows", sa.BigInteger(), nullable=True),
        sa.Column("bytes", sa.BigInteger(), nullable=True),
        sa.Column("sha256", sa.String(length=64), nullable=True),
        sa.Column("event_id", sa.String(length=128), nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
        sa.Column("finished_at", Instant(), nullable=True),
        sa.Column("expires_at", Instant(), nullable=True),
        sa.ForeignKeyConstraint(["business_id"], ["businesses.id"], name="fk_exports_business_id"),
        sa.PrimaryKeyConstraint("id", name="pk_exports"),
    )
    op.create_index("ix_exports_created_at", "exports", ["created_at"], unique=False)
    op.create_table(
        "imports",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("business_id", sa.Integer(), nullable=False),
        sa.Column("file", sa.String(length=1024), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("options", sa.Text(), server_default="{}", nullable=False),
        sa.Column("options_hash", sa.String(length=64), server_default="", nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("position", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("line", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("rows_done", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("rows_refused", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("error_file", sa.String(length=1024), nullable=True),
        sa.Column("event_id", sa.String(length=128), nullable=False),
        sa.Column("started_at", Instant(), nullable=False),
        sa.Column("updated_at", Instant(), nullable=False),
        sa.Column("finished_at", Instant(), nullable=True),
        sa.ForeignKeyConstraint(["business_id"], ["businesses.id"], name="fk_imports_business_id"),
        sa.PrimaryKeyConstraint("id", name="pk_imports"),
        sa.UniqueConstraint("business_id", "sha256", "options_hash", name="uq_imports_business_id_sha256_options_hash"),
    )
    op.create_table(
        "products",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("business_id", sa.Integer(), nullable=False),
        sa.Column("sku", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("category", sa.String(length=64), server_default="", nullable=False),
        sa.Column("price", Money(), nullable=False),
        sa.Column("threshold", sa.Integer(), server_default="0", nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
        sa.Column("updated_at", Instant(), nullable=False),
        sa.CheckConstraint("price >= 0", name="ck_products_price"),
        sa.CheckConstraint("threshold >= 0", name="ck_products_threshold"),
        sa.ForeignKeyConstraint(["business_id"], ["businesses.id"], name="fk_products_business_id"),
        sa.PrimaryKeyConstraint("id", name="pk_products"),
        sa.UniqueConstraint("business_id", "sku", name="uq_products_business_id_sku"),
    )
    op.create_table(
        "reports",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("business_id", sa.Integer(), nullable=False),
        sa.Column("type", sa.String(length=64), nullable=False),
        sa.Column("format", sa.String(length=16), nullable=False),
        sa.Column("filters", sa.Text(), server_default="{}", nullable=False),
        sa.Column("user_email", sa.String(length=320), nullable=True),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("file", sa.String(length=1024), nullable=True),
        sa.Column("bytes", sa.BigInteger(), nullable=True),
        sa.Column("event_id", sa.String(length=128), nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
        sa.Column("finished_at", Instant(), nullable=True),
        sa.Column("expires_at", Instant(), nullable=True),
        sa.ForeignKeyConstraint(["business_id"], ["businesses.id"], name="fk_reports_business_id"),
        sa.PrimaryKeyConstraint("id", name="pk_reports"),
    )
    op.create_index("ix_reports_created_at", "reports", ["created_at"], unique=False)
    op.create_table(
        "sync_states",
        sa.Column("business_id", sa.Integer(), nullable=False),
        sa.Column("system", sa.String(length=64), nullable=False),
        sa.Column("since", sa.String(length=255), nullable=True),
        sa.Column("etag", sa.String(length=255), nullable=True),
        sa.Column("completed_at", Instant(), nullable=True),
        sa.Column("sync_id", sa.String(length=128), nullable=True),
        sa.Column("sync_type", sa.String(length=16), nullable=True),
        sa.Column("cursor", sa.String(length=1024), nullable=True),
        sa.Column("marker", sa.String(length=1024), nullable=True),
        sa.Column("next_since", sa.String(length=255), nullable=True),
        sa.Column("next_etag", sa.String(length=255), nullable=True),
        sa.Column("pages", sa.Integer(), server_default="0", nullable=False),
        sa.Column("items", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("changed", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("refused", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("error", sa.String(length=500), nullable=True),
        sa.Column("updated_at", Instant(), nullable=False),
        sa.ForeignKeyConstraint(["business_id"], ["businesses.id"], name="fk_sync_states_business_id"),
        sa.PrimaryKeyConstraint("business_id", "system", name="pk_sync_states"),
    )
    op.create_table(
        "import_errors",
        sa.Column("import_id", sa.String(length=64), nullable=False),
        sa.Column("line", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("field", sa.String(length=64), nullable=False),
        sa.Column("problem", sa.String(length=500), nullable=False),
        sa.ForeignKeyConstraint(["import_id"], ["imports.id"], name="fk_import_errors_import_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("import_id", "line", "field", name="pk_import_errors"),
    )
    op.create_table(
        "sales",
        sa.Column("id", BigKey, nullable=False),
        sa.Column("business_id", sa.Integer(), nullable=False),
        sa.Column("product_id", sa.Integer(), nullable=False),
        sa.Column("quantity", sa.Integer(), nullable=False),
        sa.Column("unit_price", Money(), nullable=False),
        sa.Column("sold_at", Instant(), nullable=False),
        sa.CheckConstraint("quantity > 0", name="ck_sales_quantity"),
        sa.ForeignKeyConstraint(["business_id"], ["businesses.id"], name="fk_sales_business_id"),
        sa.ForeignKeyConstraint(["product_id"], ["products.id"], name="fk_sales_product_id"),
        sa.PrimaryKeyConstraint("id", name="pk_sales"),
    )
    op.create_index("ix_sales_business_id_sold_at", "sales", ["business_id", "sold_at"], unique=False)
    op.create_index("ix_sales_product_id_sold_at", "sales", ["product_id", "sold_at"], unique=False)
    op.create_table(
        "stock_levels",
        sa.Column("product_id", sa.Integer(), nullable=False),
        sa.Column("quantity", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.Integer(), server_default="1", nullable=False),
        sa.Column("below_since", Instant(), nullable=True),
        sa.Column("updated_at", Instant(), nullable=False),
        sa.CheckConstraint("quantity >= 0", name="ck_stock_levels_quantity"),
        sa.ForeignKeyConstraint(["product_id"], ["products.id"], name="fk_stock_levels_product_id"),
        sa.PrimaryKeyConstraint("product_id", name="pk_stock_levels"),
    )
    op.create_index("ix_stock_levels_below_since", "stock_levels", ["below_since"], unique=False)
    op.create_table(
        "stock_movements",
        sa.Column("id", BigKey, nullable=False),
        sa.Column("product_id", sa.Integer(), nullable=False),
        sa.Column("delta", sa.BigInteger(), nullable=False),
        sa.Column("quantity", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.String(length=32), nullable=False),
        sa.Column("reference", sa.String(length=128), nullable=False),
        sa.Column("moved_at", Instant(), nullable=False),
        sa.ForeignKeyConstraint(["product_id"], ["products.id"], name="fk_stock_movements_product_id"),
        sa.PrimaryKeyConstraint("id", name="pk_stock_movements"),
    )
    op.create_index(
        "ix_stock_movements_product_id_moved_at", "stock_movements", ["product_id", "moved_at"], unique=False
    )
    op.create_index("ix_stock_movements_reference", "stock_movements", ["reference"], unique=False)


def _engine() -> None:
    op.create_table(
        "streams_inbox",
        sa.Column("group_name", sa.String(length=64), nullable=False),
        sa.Column("event_id", sa.String(length=255), nullable=False),
        sa.Column("follow_ups", sa.Text(), nullable=True),
        sa.Column("handled_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("group_name", "event_id"),
        if_not_exists=True,
    )
    op.create_index("streams_inbox_handled_at", "streams_inbox", ["handled_at"], unique=False, if_not_exists=True)
    op.create_table(
        "streams_outbox",
        sa.Column("position", BigKey, nullable=False),
        sa.Column("event_id", sa.String(length=64), nullable=False),
        sa.Column("type", sa.String(length=128), nullable=False),
        sa.Column("stream", sa.String(length=64), nullable=False),
        sa.Column("priority", sa.String(length=8), nullable=False),
        sa.Column("due_ms", sa.BigInteger(), nullable=True),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("position"),
        sa.UniqueConstraint("event_id"),
        sqlite_autoincrement=True,
        if_not_exists=True,
    )
    op.create_table(
        "streams_relay",
        sa.Column("name", sa.String(length=32), nullable=False),
        sa.Column("holder", sa.String(length=64), nullable=False),
        sa.Column("until_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
        if_not_exists=True,
    )

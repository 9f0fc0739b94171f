"""The tables. A change here needs a migration in `migrations/versions`: a test compares the two on both databases."""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from processors.shared.database.columns import BigKey, Instant, Money

metadata: Final = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

businesses: Final = Table(
    "businesses",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", String(200), nullable=False, unique=True),
    Column("currency", String(3), nullable=False),
    Column("time_zone", String(64), nullable=False, server_default="UTC"),  # where its days and months begin and end
    Column("created_at", Instant, nullable=False),
)

products: Final = Table(
    "products",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("business_id", ForeignKey("businesses.id"), nullable=False),
    Column("sku", String(64), nullable=False),
    Column("name", String(200), nullable=False),
    Column("category", String(64), nullable=False, server_default=""),
    Column("price", Money, nullable=False),
    Column("threshold", Integer, nullable=False, server_default="0"),  # below it the business wants an alert; 0 never
    Column("created_at", Instant, nullable=False),
    Column("updated_at", Instant, nullable=False),
    UniqueConstraint("business_id", "sku"),
    CheckConstraint("threshold >= 0", name="threshold"),
    CheckConstraint("price >= 0", name="price"),
)

stock_levels: Final = Table(
    "stock_levels",
    metadata,
    Column("product_id", ForeignKey("products.id"), primary_key=True),
    Column("quantity", BigInteger, nullable=False),
    Column("version", Integer, nullable=False, server_default="1"),  # counts every change, for optimistic checks
    # Since when it is below its threshold, as the last alert says; NULL re-arms the alert. It is what makes
    # StockBelowThreshold one event per crossing: see processors.shared.database.stock.
    Column("below_since", Instant),
    # The upload that has set it: an earlier one that comes late does not set it again. NULL: no file has.
    Column("uploaded", BigInteger),
    Column("updated_at", Instant, nullable=False),
    CheckConstraint("quantity >= 0", name="quantity"),
    Index("ix_stock_levels_below_since", "below_since"),
)

stock_movements: Final = Table(
    "stock_movements",
    metadata,
    Column("id", BigKey, primary_key=True),
    Column("product_id", ForeignKey("products.id"), nullable=False),
    Column("delta", BigInteger, nullable=False),  # the sum of a product's deltas is its quantity
    Column("quantity", BigInteger, nullable=False),  # what was there afterwards
    Column("reason", String(32), nullable=False),  # opening, bulk-update, sync, import, ...
    Column("reference", String(128), nullable=False),  # the id of the event, or whatever else caused it
    Column("moved_at", Instant, nullable=False),
    Index("ix_stock_movements_product_id_moved_at", "product_id", "moved_at"),
    Index("ix_stock_movements_reference", "reference"),
)

sales: Final = Table(
    "sales",
    metadata,
    Column("id", BigKey, primary_key=True),
    # Also on the product; here so that a report over one business and a span of time is one index range.
    Column("business_id", ForeignKey("businesses.id"), nullable=False),
    Column("product_id", ForeignKey("products.id"), nullable=False),
    Column("quantity", Integer, nullable=False),
    Column("unit_price", Money, nullable=False),  # what was paid then, not what the product costs now
    Column("sold_at", Instant, nullable=False),
    CheckConstraint("quantity > 0", name="quantity"),
    Index("ix_sales_business_id_sold_at", "business_id", "sold_at"),
    Index("ix_sales_product_id_sold_at", "product_id", "sold_at"),
)

imports: Final = Table(
    "imports",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("business_id", ForeignKey("businesses.id"), nullable=False),
    Column("file", String(1024), nullable=False),  # where the original is; what it was called is data
    Column("sha256", String(64), nullable=False),
    Column("name", String(255), nullable=False, server_default=""),  # what its user calls it
    Column("uploaded", BigInteger, nullable=False, server_default="0"),  # its place among the business' uploads
    Column("options", Text, nullable=False, server_default="{}"),  # JSON: dialect, checked rows, how often begun
    Column("options_hash", String(64), nullable=False, server_default=""),
    Column("status", String(16), nullable=False),  # running, done, aborted, failed
    Column("position", BigInteger, nullable=False, server_default="0"),  # checkpoint: bytes that are done
    Column("line", BigInteger, nullable=False, server_default="0"),  # and lines
    Column("rows_done", BigInteger, nullable=False, server_default="0"),
    Column("rows_refused", BigInteger, nullable=False, server_default="0"),
    Column("rows_new", BigInteger, nullable=False, server_default="0"),  # of rows_done: products that were made
    Column("rows_changed", BigInteger, nullable=False, server_default="0"),  # and products that were changed
    Column("error", Text),  # why it was aborted or failed
    Column("error_file", String(1024)),
    Column("event_id", String(128), nullable=False),
    Column("started_at", Instant, nullable=False),
    Column("updated_at", Instant, nullable=False),
    Column("finished_at", Instant),
    UniqueConstraint("business_id", "sha256", "options_hash"),
    Index("ix_imports_business_id_uploaded", "business_id", "uploaded"),
)

import_errors: Final = Table(
    "import_errors",
    metadata,
    Column("import_id", ForeignKey("imports.id", ondelete="CASCADE"), primary_key=True),
    Column("line", BigInteger, primary_key=True, autoincrement=False),
    Column("field", String(64), primary_key=True),
    Column("row", BigInteger, nullable=False, server_default="0"),  # as a spreadsheet counts
    Column("sku", String(64), nullable=False, server_default=""),
    Column("value", String(100), nullable=False, server_default=""),  # of the cell
    Column("problem", String(500), nullable=False),
)

# What a business has said about its files, by the first line of them: a hash of it, and JSON of names of columns.
import_choices: Final = Table(
    "import_choices",
    metadata,
    Column("business_id", ForeignKey("businesses.id"), primary_key=True),
    Column("header", String(64), primary_key=True),
    Column("choices", Text, nullable=False),
    Column("updated_at", Instant, nullable=False),
)

exports: Final = Table(
    "exports",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("business_id", ForeignKey("businesses.id"), nullable=False),
    Column("format", String(16), nullable=False),
    Column("status", String(16), nullable=False),  # running, done, failed, removed
    Column("file", String(1024)),
    Column("rows", BigInteger),
    Column("bytes", BigInteger),
    Column("sha256", String(64)),
    Column("error", Text),  # why it failed
    Column("event_id", String(128), nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("finished_at", Instant),
    Column("expires_at", Instant),
    Index("ix_exports_created_at", "created_at"),
)

reports: Final = Table(
    "reports",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("business_id", ForeignKey("businesses.id"), nullable=False),
    Column("type", String(64), nullable=False),
    Column("format", String(16), nullable=False),
    Column("filters", Text, nullable=False, server_default="{}"),  # JSON
    Column("user_email", String(320)),  # personal
    Column("status", String(16), nullable=False),  # running, done, failed, removed
    Column("error", Text),  # why it failed
    Column("file", String(1024)),
    Column("bytes", BigInteger),
    Column("event_id", String(128), nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("finished_at", Instant),
    Column("expires_at", Instant),
    Index("ix_reports_created_at", "created_at"),
)

sync_states: Final = Table(
    "sync_states",
    metadata,
    Column("business_id", ForeignKey("businesses.id"), primary_key=True),
    Column("system", String(64), primary_key=True),
    # What the last complete sync has left: the supplier's mark of the changes it has had, and its ETag.
    Column("since", String(255)),
    Column("etag", String(255)),
    Column("completed_at", Instant),
    # The sync that is under way, NULL when none is: its pages and its position are committed with the page's rows.
    Column("sync_id", String(128)),
    Column("sync_type", String(16)),
    Column("cursor", String(1024)),  # of the page that comes next; empty for the first
    Column("marker", String(1024)),  # a cursor of the past: when it comes again, the supplier goes in circles
    Column("next_since", String(255)),
    Column("next_etag", String(255)),
    Column("pages", Integer, nullable=False, server_default="0"),
    Column("items", BigInteger, nullable=False, server_default="0"),
    Column("changed", BigInteger, nullable=False, server_default="0"),
    Column("refused", BigInteger, nullable=False, server_default="0"),
    Column("error", String(500)),  # why its next page was not had, at the last try; a new request may take over then
    Column("updated_at", Instant, nullable=False),
)

"""write_stock: a chunk of rows into products, stock levels and movements, by a few statements for all of them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

import polars as pl
from sqlalchemy import bindparam, text
from sqlalchemy.ext.asyncio import AsyncConnection

from processors.database.columns import Instant
from processors.file.row_tables import load_rows

_KNOWN: Final = """
    UPDATE import_rows SET product_id = p.id FROM products p
    WHERE p.business_id = :business AND p.sku = import_rows.sku AND import_rows.product_id IS NULL
"""
# What the file says of a product; a blank cell says nothing.
_DESCRIBED: Final = """
    UPDATE products SET
        name = COALESCE(r.name, products.name), category = COALESCE(r.category, products.category),
        price = COALESCE(r.price, products.price), threshold = COALESCE(r.threshold, products.threshold),
        updated_at = :now
    FROM import_rows r
    WHERE products.id = r.product_id AND (
        r.name <> products.name OR r.category <> products.category OR r.price <> products.price
        OR r.threshold <> products.threshold)
"""
_MADE: Final = """
    INSERT INTO products (business_id, sku, name, category, price, threshold, created_at, updated_at)
    SELECT :business, r.sku, r.name, COALESCE(r.category, ''), COALESCE(r.price, 0), COALESCE(r.threshold, 0),
        :now, :now
    FROM import_rows r WHERE r.product_id IS NULL AND r.name IS NOT NULL ORDER BY r.line
    ON CONFLICT (business_id, sku) DO NOTHING
"""
# In the order of the products, as everybody who changes stock locks them: no two wait for each other.
_LOCKED: Final = """
    SELECT COUNT(*) FROM (
        SELECT 1 FROM stock_levels l WHERE l.product_id IN (SELECT product_id FROM import_rows)
        ORDER BY l.product_id FOR UPDATE) locked
"""
_MOVED: Final = """
    INSERT INTO stock_movements (product_id, delta, quantity, reason, reference, moved_at)
    SELECT r.product_id, r.quantity - COALESCE(l.quantity, 0), r.quantity, 'import', :reference, :now
    FROM import_rows r LEFT JOIN stock_levels l ON l.product_id = r.product_id
    WHERE r.product_id IS NOT NULL AND r.quantity <> COALESCE(l.quantity, 0) ORDER BY r.line
"""
_CHANGED: Final = """
    UPDATE stock_levels SET quantity = r.quantity, version = version + 1, updated_at = :now
    FROM import_rows r WHERE stock_levels.product_id = r.product_id AND stock_levels.quantity <> r.quantity
"""
# Not ON CONFLICT: had somebody made the level just now, the movement above would be wrong. All is done again then.
_OPENED: Final = """
    INSERT INTO stock_levels (product_id, quantity, version, updated_at)
    SELECT r.product_id, r.quantity, 1, :now FROM import_rows r
    WHERE r.product_id IS NOT NULL AND NOT EXISTS (SELECT 1 FROM stock_levels l WHERE l.product_id = r.product_id)
    ORDER BY r.product_id
"""
_UNKNOWN: Final = "SELECT line FROM import_rows WHERE product_id IS NULL ORDER BY line"


async def unknown_lines(connection: AsyncConnection, business_id: int, rows: pl.DataFrame) -> list[int]:
    """The lines that cannot be written: their product is not there, and they do not say what it is called."""
    nameless = rows.filter(pl.col("name").is_null())
    if nameless.is_empty():
        return []
    await load_rows(connection, nameless)
    await _run(connection, _KNOWN, business=business_id)
    return list(await connection.scalars(text(_UNKNOWN)))


async def write_stock(connection: AsyncConnection, business_id: int, rows: pl.DataFrame, reference: str) -> list[int]:
    """Writes checked rows, in the caller's transaction; returns the lines of those that `unknown_lines` would.

    A product that is new is made if its row has a name. The stock of a product becomes what its row says; what changes
    is a movement with `reference`. `below_since` is left to whoever looks for stock below its threshold.
    """
    if rows.is_empty():
        return []
    now = datetime.now(UTC)
    await load_rows(connection, rows)
    await _run(connection, _KNOWN, business=business_id)
    if any(rows[name].null_count() < rows.height for name in ("name", "category", "price", "threshold")):
        await _run(connection, _DESCRIBED, now=now)
    if rows["name"].null_count() < rows.height:
        await _run(connection, _MADE, business=business_id, now=now)
        await _run(connection, _KNOWN, business=business_id)
    unknown = list(await connection.scalars(text(_UNKNOWN)))
    if connection.dialect.name == "postgresql":
        await connection.execute(text(_LOCKED))
    await _run(connection, _MOVED, reference=reference, now=now)
    await _run(connection, _CHANGED, now=now)
    await _run(connection, _OPENED, now=now)
    return unknown


async def _run(connection: AsyncConnection, statement: str, **values: Any) -> None:
    if connection.dialect.name == "postgresql":
        # asyncpg asks the server for the type of each parameter, which a bare one in a SELECT does not have.
        kinds = {":now": "TIMESTAMPTZ", ":business": "INTEGER", ":reference": "TEXT"}
        for name, kind in kinds.items():
            statement = statement.replace(name, f"CAST({name} AS {kind})")
    prepared = text(statement)
    if "now" in values:
        prepared = prepared.bindparams(bindparam("now", type_=Instant()))
    await connection.execute(prepared, values)

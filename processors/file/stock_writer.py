"""write_stock: a chunk of rows into products, stock levels and movements, by a few statements for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import polars as pl
from sqlalchemy import bindparam, text
from sqlalchemy.ext.asyncio import AsyncConnection

from processors.file.row_tables import load_rows
from processors.shared.database.columns import Instant

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
    FROM import_rows r WHERE r.product_id IS NULL AND r.name IS NOT NULL AND r.quantity IS NOT NULL
    ORDER BY r.line
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
# A level that is as the file says is noted as set by this upload all the same: an earlier one must not change it. A row
# without a quantity sets none.
_CHANGED: Final = """
    UPDATE stock_levels SET
        quantity = r.quantity, uploaded = :uploaded,
        version = version + CASE WHEN stock_levels.quantity <> r.quantity THEN 1 ELSE 0 END,
        updated_at = CASE WHEN stock_levels.quantity <> r.quantity THEN :now ELSE stock_levels.updated_at END
    FROM import_rows r WHERE stock_levels.product_id = r.product_id AND r.quantity IS NOT NULL AND (
        stock_levels.quantity <> r.quantity OR stock_levels.uploaded IS NULL OR stock_levels.uploaded < :uploaded)
"""
# Not ON CONFLICT: had somebody made the level just now, the movement above would be wrong. All is done again then.
_OPENED: Final = """
    INSERT INTO stock_levels (product_id, quantity, version, uploaded, updated_at)
    SELECT r.product_id, r.quantity, 1, :uploaded, :now FROM import_rows r
    WHERE r.product_id IS NOT NULL AND r.quantity IS NOT NULL
        AND NOT EXISTS (SELECT 1 FROM stock_levels l WHERE l.product_id = r.product_id)
    ORDER BY r.product_id
"""
_UNKNOWN: Final = "SELECT line FROM import_rows WHERE product_id IS NULL ORDER BY line"
_NEW: Final = "UPDATE import_rows SET is_new = 1 WHERE product_id IS NULL AND name IS NOT NULL AND quantity IS NOT NULL"
_ARE_NEW: Final = "SELECT COALESCE(SUM(merged), 0) FROM import_rows WHERE is_new = 1 AND product_id IS NOT NULL"
_LATER: Final = """
    DELETE FROM import_rows WHERE product_id IN (SELECT l.product_id FROM stock_levels l WHERE l.uploaded >= :later)
"""
_ARE_CHANGED: Final = """
    SELECT COALESCE(SUM(r.merged), 0) FROM import_rows r JOIN products p ON p.id = r.product_id
    LEFT JOIN stock_levels l ON l.product_id = r.product_id
    WHERE r.is_new = 0 AND (
        r.quantity <> COALESCE(l.quantity, -1) OR r.name <> p.name OR r.category <> p.category OR r.price <> p.price
        OR r.threshold <> p.threshold)
"""


@dataclass(frozen=True, slots=True)
class Written:
    """What became of checked rows: how many made a product, how many changed one, and the lines that could not be
    written, because their product is not there and they do not say what it is called.
    """

    new: int = 0
    changed: int = 0
    unknown: Sequence[int] = ()


async def write_stock(
    connection: AsyncConnection, business_id: int, rows: pl.DataFrame, reference: str, uploaded: int, later: int
) -> Written:
    """Writes checked rows, in the caller's transaction.

    A product that is new is made if its row has a name. The stock of a product becomes what its row says, unless a file
    whose place among the uploads is `later` or behind it has set it; `uploaded` is this file's place. What changes is a
    movement with `reference`. `below_since` is set by the stock check.
    """
    if rows.is_empty():
        return Written()
    now = datetime.now(UTC)
    await load_rows(connection, rows)
    await _run(connection, _KNOWN, business=business_id)
    new = 0
    if rows["name"].null_count() < rows.height:
        await _run(connection, _NEW)
        await _run(connection, _MADE, business=business_id, now=now)
        await _run(connection, _KNOWN, business=business_id)
        new = int(await connection.scalar(text(_ARE_NEW)) or 0)
    unknown = list(await connection.scalars(text(_UNKNOWN)))
    if connection.dialect.name == "postgresql":
        await connection.execute(text(_LOCKED))
    await _run(connection, _LATER, later=later)
    changed = 0
    if new < rows["merged"].sum():
        changed = int(await connection.scalar(text(_ARE_CHANGED)) or 0)
        if any(rows[name].null_count() < rows.height for name in ("name", "category", "price", "threshold")):
            await _run(connection, _DESCRIBED, now=now)
    await _run(connection, _MOVED, reference=reference, now=now)
    await _run(connection, _CHANGED, now=now, uploaded=uploaded)
    await _run(connection, _OPENED, now=now, uploaded=uploaded)
    return Written(new, changed, unknown)


async def _run(connection: AsyncConnection, statement: str, **values: Any) -> None:
    if connection.dialect.name == "postgresql":
        # asyncpg asks the server for the type of each parameter, which a bare one in a SELECT does not have.
        kinds = {
            ":now": "TIMESTAMPTZ", ":business": "INTEGER", ":reference": "TEXT", ":uploaded": "BIGINT",
            ":later": "BIGINT",
        }  # fmt: skip
        for name, kind in kinds.items():
            statement = statement.replace(name, f"CAST({name} AS {kind})")
    prepared = text(statement)
    if "now" in values:
        prepared = prepared.bindparams(bindparam("now", type_=Instant()))
    await connection.execute(prepared, values)

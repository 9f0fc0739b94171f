"""write_stock: a chunk of rows into products, stock levels and movements, by a few statements for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any, Final

import polars as pl
from sqlalchemy import TextClause, bindparam, text
from sqlalchemy.ext.asyncio import AsyncConnection

from processors.file.row_tables import load_rows
from processors.shared.database.columns import Instant

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
# After `_MADE`. A join would let PostgreSQL read all products of the business for each chunk.
_NEW: Final = """
    UPDATE import_rows SET is_new = 1, product_id = (
        SELECT p.id FROM products p WHERE p.business_id = :business AND p.sku = import_rows.sku)
    WHERE product_id IS NULL AND name IS NOT NULL AND quantity IS NOT NULL
"""
# In the order of the products, as every process that changes stock locks them: no two wait for each other.
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
# Not ON CONFLICT: had another transaction just made the level, the movement above would be wrong. All is done again.
_OPENED: Final = """
    INSERT INTO stock_levels (product_id, quantity, version, uploaded, updated_at)
    SELECT r.product_id, r.quantity, 1, :uploaded, :now FROM import_rows r
    WHERE r.product_id IS NOT NULL AND r.quantity IS NOT NULL
        AND NOT EXISTS (SELECT 1 FROM stock_levels l WHERE l.product_id = r.product_id)
    ORDER BY r.product_id
"""
_UNKNOWN: Final = "SELECT line FROM import_rows WHERE product_id IS NULL ORDER BY line"
_ARE_NEW: Final = "SELECT COALESCE(SUM(merged), 0) FROM import_rows WHERE is_new = 1 AND product_id IS NOT NULL"
_LATER: Final = """
    DELETE FROM import_rows WHERE EXISTS (
        SELECT 1 FROM stock_levels l WHERE l.product_id = import_rows.product_id AND l.uploaded >= :later)
"""
_ARE_CHANGED: Final = """
    SELECT COALESCE(SUM(r.merged), 0) FROM import_rows r JOIN products p ON p.id = r.product_id
    LEFT JOIN stock_levels l ON l.product_id = r.product_id
    WHERE r.is_new = 0 AND (
        r.quantity <> COALESCE(l.quantity, -1) OR r.name <> p.name OR r.category <> p.category OR r.price <> p.price
        OR r.threshold <> p.threshold)
"""
_TYPES: Final = {
    "business": "INTEGER", "reference": "TEXT", "uploaded": "BIGINT", "later": "BIGINT", "now": "TIMESTAMPTZ",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Written:
    """The outcome of checked rows: how many made a product, how many changed one, and the lines that could not be
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
    values = {
        "business": business_id, "reference": reference, "uploaded": uploaded, "later": later, "now": datetime.now(UTC)
    }  # fmt: skip

    async def run(statement: str) -> int:
        done = await connection.execute(_prepared(statement, connection.dialect.name), _needed(statement, values))
        return done.rowcount

    found, made, new = await load_rows(connection, business_id, rows), 0, 0
    merged = int(rows["merged"].sum())
    if found < rows.height and rows["name"].null_count() < rows.height:
        made = await run(_MADE)
        found += await run(_NEW)
        new = merged if made == rows.height else int(await connection.scalar(text(_ARE_NEW)) or 0)
    unknown = list(await connection.scalars(text(_UNKNOWN))) if found < rows.height else []
    # A product that this transaction has made has no level that another could have set.
    is_all_made = made == rows.height
    changed = 0
    if not is_all_made:
        if connection.dialect.name == "postgresql":
            await connection.execute(text(_LOCKED))
        await run(_LATER)
        if new < merged:
            changed = int(await connection.scalar(text(_ARE_CHANGED)) or 0)
            if any(rows[name].null_count() < rows.height for name in ("name", "category", "price", "threshold")):
                await run(_DESCRIBED)
    await run(_MOVED)
    if not is_all_made:
        await run(_CHANGED)
    await run(_OPENED)
    return Written(new, changed, unknown)


@cache
def _prepared(statement: str, dialect: str) -> TextClause:
    """Made once: to take a text apart takes longer than to look up what it compiles to."""
    typed = statement
    if dialect == "postgresql":
        # asyncpg asks the server for the type of each parameter, which a bare one in a SELECT does not have.
        for name, kind in _TYPES.items():
            typed = typed.replace(f":{name}", f"CAST(:{name} AS {kind})")
    prepared = text(typed)
    return prepared.bindparams(bindparam("now", type_=Instant())) if ":now" in statement else prepared


def _needed(statement: str, values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if f":{name}" in statement}

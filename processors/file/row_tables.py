"""load_rows: a chunk as a table that SQL can join, so that a few statements do the work for all of its rows."""

from __future__ import annotations

from typing import Final

import polars as pl
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

_COLUMNS: Final = ("line", "sku", "name", "category", "price", "threshold", "quantity", "merged")
_ON_POSTGRESQL: Final = (
    """
    CREATE TEMPORARY TABLE import_rows (line BIGINT, sku TEXT, name TEXT, category TEXT, price NUMERIC(12, 2),
        threshold INTEGER, quantity BIGINT, merged BIGINT, is_new INTEGER, product_id INTEGER) ON COMMIT DROP
    """,
    """
    INSERT INTO import_rows
    SELECT r.line, r.sku, r.name, r.category, r.price, r.threshold, r.quantity, r.merged, 0, (
        SELECT p.id FROM products p WHERE p.business_id = CAST(:business AS INTEGER) AND p.sku = r.sku)
    FROM json_to_recordset(CAST(:rows AS JSON)) AS r (line BIGINT, sku TEXT, name TEXT, category TEXT,
        price NUMERIC(12, 2), threshold INTEGER, quantity BIGINT, merged BIGINT)
    """,
    "ANALYZE import_rows",  # a table without figures is joined as if it were of another size
    # The rows of a chunk are looked up by their keys, one by one. By default PostgreSQL expects a read from the disk
    # for each, and reads a table of some million rows as a whole instead, for each chunk.
    """
    SELECT set_config('random_page_cost', '0.1', true), set_config('enable_hashjoin', 'off', true),
        set_config('enable_mergejoin', 'off', true)
    """,
)
_ON_SQLITE: Final = (
    """
    CREATE TEMPORARY TABLE IF NOT EXISTS import_rows (line INTEGER, sku TEXT, name TEXT, category TEXT, price REAL,
        threshold INTEGER, quantity INTEGER, merged INTEGER, is_new INTEGER, product_id INTEGER)
    """,
    "DELETE FROM import_rows",  # the connection's last chunk
    "INSERT INTO import_rows VALUES (?, ?, ?, ?, CAST(? AS REAL), ?, ?, ?, 0, NULL)",
    "UPDATE import_rows SET product_id = p.id FROM products p WHERE p.business_id = ? AND p.sku = import_rows.sku",
)
# A chunk of 5,000 rows changes some 500 pages, which is all that SQLite holds by default: it would write them before
# the commit, read them back and write them again. What was in `import_rows` is of no use after a crash.
_FOR_SQLITE: Final = ("PRAGMA cache_size = -8000", "PRAGMA temp.journal_mode = MEMORY")  # KiB


async def load_rows(connection: AsyncConnection, business_id: int, rows: pl.DataFrame) -> int:
    """Fills the temporary table `import_rows`, of this transaction alone; nothing in it is new yet. Returns how many
    rows have a `product_id`, because the business has their SKU.
    """
    named = rows.select(*_COLUMNS)
    if connection.dialect.name == "postgresql":
        # One text, which the server takes apart, rather than a parameter for each of 35,000 cells.
        values = {"rows": named.write_json(), "business": business_id}
        for statement in _ON_POSTGRESQL:
            await connection.execute(text(statement), values if ":rows" in statement else None)
        return int(await connection.scalar(text("SELECT COUNT(product_id) FROM import_rows")) or 0)
    if _FOR_SQLITE not in connection.info:  # of the driver's connection, which a pool keeps
        for statement in _FOR_SQLITE:
            await connection.exec_driver_sql(statement)
        connection.info[_FOR_SQLITE] = True
    make, empty, fill, find = _ON_SQLITE
    await connection.exec_driver_sql(make)
    await connection.exec_driver_sql(empty)
    cells = [column.to_list() for column in named.iter_columns()]
    await connection.exec_driver_sql(fill, list(zip(*cells, strict=True)))
    return (await connection.exec_driver_sql(find, (business_id,))).rowcount

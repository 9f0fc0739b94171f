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
    SELECT r.line, r.sku, r.name, r.category, r.price, r.threshold, r.quantity, r.merged, 0, NULL
    FROM json_to_recordset(CAST(:rows AS JSON)) AS r (line BIGINT, sku TEXT, name TEXT, category TEXT,
        price NUMERIC(12, 2), threshold INTEGER, quantity BIGINT, merged BIGINT)
    """,
    "ANALYZE import_rows",  # a table without figures is joined as if it were of another size
)
_ON_SQLITE: Final = (
    """
    CREATE TEMPORARY TABLE IF NOT EXISTS import_rows (line INTEGER, sku TEXT, name TEXT, category TEXT, price REAL,
        threshold INTEGER, quantity INTEGER, merged INTEGER, is_new INTEGER, product_id INTEGER)
    """,
    "DELETE FROM import_rows",  # the connection's last chunk
    "INSERT INTO import_rows VALUES (?, ?, ?, ?, CAST(? AS REAL), ?, ?, ?, 0, NULL)",
)


async def load_rows(connection: AsyncConnection, rows: pl.DataFrame) -> None:
    """Fills the temporary table `import_rows`, of this transaction alone; its `product_id` is empty, and nothing is
    new.
    """
    named = rows.select(*_COLUMNS)
    if connection.dialect.name == "postgresql":
        # One text, which the server takes apart, rather than a parameter for each of 35,000 cells.
        values = {"rows": named.write_json()}
        for statement in _ON_POSTGRESQL:
            await connection.execute(text(statement), values if ":rows" in statement else None)
    else:
        make, empty, fill = _ON_SQLITE
        await connection.exec_driver_sql(make)
        await connection.exec_driver_sql(empty)
        await connection.exec_driver_sql(fill, named.rows())

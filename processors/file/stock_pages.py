"""StockPages: a business' products and stock as of one moment, a page at a time."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Final

import polars as pl
from sqlalchemy import func, select
from sqlalchemy.exc import DBAPIError, TimeoutError
from sqlalchemy.ext.asyncio import AsyncEngine

from processors.shared.database.tables import products, stock_levels
from streams import Unavailable
from streams.messages import describe
from streams.sql import is_away

PAGE: Final = 5_000

SCHEMA: Final[dict[str, pl.DataType | type[pl.DataType]]] = {
    "sku": pl.String,
    "name": pl.String,
    "category": pl.String,
    "price": pl.Decimal(12, 2),
    "quantity": pl.Int64,
    "threshold": pl.Int32,
    "updated_at": pl.Datetime("us", "UTC"),
}

_COLUMNS: Final = (
    products.c.sku, products.c.name, products.c.category, products.c.price,
    func.coalesce(stock_levels.c.quantity, 0), products.c.threshold,
    func.coalesce(stock_levels.c.updated_at, products.c.updated_at, type_=products.c.updated_at.type),
)  # fmt: skip


async def stock_pages(engine: AsyncEngine, business_id: int) -> AsyncGenerator[pl.DataFrame, None]:
    """Frames of `SCHEMA`, in the order of their SKUs.

    All of it is read in one transaction, so that what is changed meanwhile is in none of the pages. Each page begins
    behind the last SKU of the one before, which is found in the index and costs the same however far it is. Raises
    `Unavailable("database")`.
    """
    isolation = {} if engine.dialect.name == "sqlite" else {"isolation_level": "REPEATABLE READ"}
    query = (
        select(*_COLUMNS)
        .outerjoin(stock_levels, stock_levels.c.product_id == products.c.id)
        .where(products.c.business_id == business_id)
        .order_by(products.c.sku)
        .limit(PAGE)
    )
    try:
        async with engine.connect() as connection:
            connection = await connection.execution_options(**isolation)
            if engine.dialect.name == "sqlite":
                await connection.exec_driver_sql("BEGIN")  # its driver begins none for what only reads
            last = ""
            while rows := (await connection.execute(query.where(products.c.sku > last))).all():
                last = rows[-1][0]
                yield pl.DataFrame([tuple(row) for row in rows], schema=SCHEMA, orient="row")
            await connection.rollback()
    except (DBAPIError, TimeoutError, ConnectionError) as error:
        if isinstance(error, ConnectionError) or is_away(error):
            raise Unavailable("database", f"database: {describe(error)}") from error
        raise


async def count_products(engine: AsyncEngine, business_id: int) -> int:
    """How many rows the pages will have, about."""
    async with engine.connect() as connection:
        counted = select(func.count()).select_from(products).where(products.c.business_id == business_id)
        return int(await connection.scalar(counted) or 0)

"""Extract: what a report is made of, as of one moment, in Parquet files that polars reads lazily.

SQL does what it does best: it finds the business' rows of the days that are asked for, and adds them up by product and
day. So 5,000,000 sales come as a few hundred thousand rows, a week at a time, whatever memory there is.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any, Final

import polars as pl
from sqlalchemy import BigInteger, Date, Select, String, cast, func, literal_column, select, type_coerce
from sqlalchemy.exc import DBAPIError, TimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from processors.database.tables import businesses, products, sales, stock_levels
from processors.report.asked import Asked
from processors.report.period import Period
from processors.report.refused import ReportRefused
from streams import Unavailable
from streams.failure import describe
from streams.sql.faults import is_away

PRODUCTS: Final = {
    "product_id": pl.Int64, "sku": pl.String, "name": pl.String, "category": pl.String, "price": pl.Int64,
    "threshold": pl.Int64, "quantity": pl.Int64, "created": pl.Date,
}  # fmt: skip
SALES: Final = {"day": pl.Date, "product_id": pl.Int64, "sales": pl.Int64, "pieces": pl.Int64, "revenue": pl.Int64}
"""Money is in cents, which add up exactly."""

_DAYS_AT_ONCE: Final = 7
_ROWS_AT_ONCE: Final = 50_000
_ROWS_OF_A_FILE: Final = 250_000

Told = Callable[[int, int], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Extract:
    """The business, its products in the order of their SKUs, and what was sold of each on each day."""

    name: str
    currency: str
    first_sale: date | None  # of the business, ever
    products: pl.LazyFrame
    sales: pl.LazyFrame


async def extract(engine: AsyncEngine, business_id: int, asked: Asked, directory: Path, told: Told) -> Extract:
    """Reads it, in one transaction, into files in a directory. `told` hears how many days of how many are read.

    Raises `ReportRefused` for a business that is not there, or has no products of the categories asked for;
    `Unavailable("database")`.
    """
    isolation = {} if engine.dialect.name == "sqlite" else {"isolation_level": "REPEATABLE READ"}
    try:
        async with engine.connect() as connection:
            connection = await connection.execution_options(**isolation)
            if engine.dialect.name == "sqlite":
                await connection.exec_driver_sql("BEGIN")  # its driver begins none for what only reads
            found = await _read(connection, business_id, asked, directory, told)
            await connection.rollback()
            return found
    except (DBAPIError, TimeoutError, ConnectionError) as error:
        if isinstance(error, ConnectionError) or is_away(error):
            raise Unavailable("database", f"database: {describe(error)}") from error
        raise


async def _read(
    connection: AsyncConnection, business_id: int, asked: Asked, directory: Path, told: Told
) -> Extract:  # fmt: skip
    business = (await connection.execute(select(businesses).where(businesses.c.id == business_id))).one_or_none()
    if business is None:
        raise ReportRefused(f"there is no business {business_id}")
    goods = await _spool(directory / "products", PRODUCTS, _products(connection, business_id, asked.categories))
    if not goods.limit(1).collect().height:
        of = f" of {', '.join(asked.categories)}" if asked.categories else ""
        raise ReportRefused(f"{business.name} has no products{of}")
    first_sale = await connection.scalar(select(func.min(sales.c.sold_at)).where(sales.c.business_id == business_id))
    sold = await _spool(
        directory / "sales", SALES, _sales(connection, business_id, asked.categories, asked.sales_read, told)
    )
    return Extract(business.name, business.currency, first_sale and first_sale.date(), goods, sold)


def _products(connection: AsyncConnection, business_id: int, categories: Sequence[str]) -> AsyncGenerator[pl.DataFrame]:
    query = (
        select(
            products.c.id, products.c.sku, products.c.name, products.c.category, _cents(products.c.price),
            products.c.threshold, func.coalesce(stock_levels.c.quantity, 0), _day(products.c.created_at, connection),
        )
        .outerjoin(stock_levels, stock_levels.c.product_id == products.c.id)
        .where(products.c.business_id == business_id)
        .order_by(products.c.sku)
    )  # fmt: skip
    if categories:
        query = query.where(products.c.category.in_(categories))
    return _frames(connection, query, PRODUCTS)


async def _sales(
    connection: AsyncConnection, business_id: int, categories: Sequence[str], period: Period, told: Told
) -> AsyncGenerator[pl.DataFrame]:
    """Some days at a time, so that neither side ever sorts or holds much."""
    day = _day(sales.c.sold_at, connection)
    revenue = cast(sales.c.quantity, BigInteger) * _cents(sales.c.unit_price)
    query = (
        select(
            day, sales.c.product_id, func.count(),
            cast(func.sum(sales.c.quantity), BigInteger), cast(func.sum(revenue), BigInteger),
        )
        .where(sales.c.business_id == business_id)
        .group_by(day, sales.c.product_id)
    )  # fmt: skip
    if categories:
        chosen = select(products.c.id).where(products.c.business_id == business_id, products.c.category.in_(categories))
        query = query.where(sales.c.product_id.in_(chosen))
    for at in range(0, period.days, _DAYS_AT_ONCE):
        await told(at, period.days)
        first = period.first + timedelta(days=at)
        end = min(first + timedelta(days=_DAYS_AT_ONCE), period.last + timedelta(days=1))
        within = query.where(sales.c.sold_at >= _midnight(first), sales.c.sold_at < _midnight(end))
        async with aclosing(_frames(connection, within, SALES)) as frames:
            async for frame in frames:
                yield frame


async def _frames(
    connection: AsyncConnection, query: Select[Any], schema: dict[str, Any]
) -> AsyncGenerator[pl.DataFrame]:
    # By itself it would fetch a thousand rows at a time, each time from a driver in another thread.
    result = await connection.stream(query, execution_options={"yield_per": _ROWS_AT_ONCE})
    async for rows in result.partitions(_ROWS_AT_ONCE):
        columns = zip(schema, zip(*rows, strict=True), strict=True)
        yield pl.DataFrame([_series(name, values, schema[name]) for name, values in columns])


def _series(name: str, values: Sequence[Any], kind: Any) -> pl.Series:
    if kind == pl.Date and isinstance(values[0], str):
        return pl.Series(name, values, pl.String).str.to_date("%Y-%m-%d")
    return pl.Series(name, values, kind)


async def _spool(directory: Path, schema: dict[str, Any], frames: AsyncGenerator[pl.DataFrame]) -> pl.LazyFrame:
    await asyncio.to_thread(directory.mkdir)
    held, rows, files = [pl.DataFrame(schema=schema)], 0, 0

    async def put() -> None:
        nonlocal held, rows, files
        await asyncio.to_thread(pl.concat(held).write_parquet, directory / f"{files:06d}.parquet", compression="lz4")
        held, rows, files = [], 0, files + 1

    # Closed here and now when it is called off: a cursor that is left to the garbage collector keeps its connection.
    async with aclosing(frames):
        async for frame in frames:
            held.append(frame)
            rows += frame.height
            if rows >= _ROWS_OF_A_FILE:
                await put()
    if held:
        await put()
    return pl.scan_parquet(directory / "*.parquet")


def _cents(amount: Any) -> Any:
    # Rounded, because SQLite keeps amounts as floats: 19.99 times 100 is 1998.9999999999998 there.
    return cast(func.round(amount * literal_column("100")), BigInteger)


def _day(moment: Any, connection: AsyncConnection) -> Any:
    """The day in UTC; on SQLite as text, which is how moments begin there."""
    if connection.dialect.name == "sqlite":
        return type_coerce(func.substr(moment, 1, 10), String)
    return cast(func.timezone("UTC", moment), Date)


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)

"""Extract: what a report is made of, as of one moment, in Parquet files that polars reads lazily.

SQL does what it does best: it finds the business' rows of the days that are asked for, and adds them up by product and
day. So 5,000,000 sales come as a few hundred thousand rows, a week at a time, whatever memory there is.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, date, timedelta
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

import polars as pl
from sqlalchemy import BigInteger, Select, case, cast, func, literal_column, select
from sqlalchemy.exc import DBAPIError, TimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from processors.report.period import Period
from processors.report.refused import ReportRefused
from processors.report.request import ReportRequest
from processors.shared.database.business_day import midnight
from processors.shared.database.tables import businesses, products, sales, stock_levels
from processors.shared.safe_text import business_shown
from streams import Unavailable
from streams.messages import describe
from streams.sql import is_away

PRODUCTS: Final = {
    "product_id": pl.Int64, "sku": pl.String, "name": pl.String, "category": pl.String, "price": pl.Int64,
    "threshold": pl.Int64, "quantity": pl.Int64, "created": pl.Date,
}  # fmt: skip
_SUMS: Final = {
    "day": pl.Date, "product_id": pl.Int64, "sales": pl.Int64, "pieces": pl.Int64, "returned": pl.Int64,
    "sold_high": pl.Int64, "sold_low": pl.Int64, "refunds_high": pl.Int64, "refunds_low": pl.Int64,
}  # fmt: skip
SALES: Final = {
    "day": pl.Date, "product_id": pl.Int64, "sales": pl.Int64, "pieces": pl.Int64, "returned": pl.Int64,
    "sold": pl.Int128, "refunds": pl.Int128, "revenue": pl.Int128,
}  # fmt: skip
"""Money is in cents, which add up exactly: 128 bits hold a million times what the tables can.

A sale at a negative price is a refund: its pieces were `returned`, and are neither `sales` nor `pieces`. `revenue` is
what was `sold`, and `refunds`, which are negative.
"""

_LIMB: Final = 1_000_000
"""SQL adds 64 bits up; pieces times cents may need 71. So millions of cents are added up apart from the rest."""

_DAYS_AT_ONCE: Final = 7
_ROWS_AT_ONCE: Final = 50_000
_ROWS_OF_A_FILE: Final = 250_000

OnProgress = Callable[[int, int], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Extract:
    """The business, its products in the order of their SKUs, and what was sold of each on each day."""

    name: str
    currency: str
    zone: ZoneInfo  # whose days these are
    first_sale: date | None  # of the business, ever
    products: pl.LazyFrame
    sales: pl.LazyFrame


async def extract(
    engine: AsyncEngine, business_id: int, request: ReportRequest, directory: Path, on_progress: OnProgress
) -> Extract:
    """Reads it, in one transaction, into files in a directory. `on_progress` gets how many days of how many are read.

    Raises `ReportRefused` for a business that is not there, or has no products of the categories asked for;
    `Unavailable("database")`.
    """
    isolation = {} if engine.dialect.name == "sqlite" else {"isolation_level": "REPEATABLE READ"}
    try:
        async with engine.connect() as connection:
            connection = await connection.execution_options(**isolation)
            if engine.dialect.name == "sqlite":
                await connection.exec_driver_sql("BEGIN")  # its driver begins none for what only reads
            found = await _read(connection, business_id, request, directory, on_progress)
            await connection.rollback()
            return found
    except (DBAPIError, TimeoutError, ConnectionError) as error:
        if isinstance(error, ConnectionError) or is_away(error):
            raise Unavailable("database", f"database: {describe(error)}") from error
        raise


async def _read(
    connection: AsyncConnection, business_id: int, request: ReportRequest, directory: Path, on_progress: OnProgress
) -> Extract:  # fmt: skip
    business = (await connection.execute(select(businesses).where(businesses.c.id == business_id))).one_or_none()
    if business is None:
        raise ReportRefused(f"there is no business {business_id}")
    name = business_shown(business.name, business_id)
    products_read = _products(connection, business_id, request.categories, request.zone)
    goods = await _spool(directory / "products", PRODUCTS, products_read)
    if not goods.limit(1).collect().height:
        of = f" of {', '.join(request.categories)}" if request.categories else ""
        raise ReportRefused(f"{name} has no products{of}")
    first_sale = await connection.scalar(select(func.min(sales.c.sold_at)).where(sales.c.business_id == business_id))
    sums = await _spool(
        directory / "sales",
        _SUMS,
        _sales(connection, business_id, request.categories, request.sales_read, request.zone, on_progress),
    )
    sold, refunds = (
        pl.col(f"{name}_high").cast(pl.Int128) * _LIMB + pl.col(f"{name}_low") for name in ("sold", "refunds")
    )
    amounts = sums.with_columns(sold=sold, refunds=refunds).with_columns(revenue=pl.col("sold") + pl.col("refunds"))
    first_day = first_sale and first_sale.astimezone(request.zone).date()
    return Extract(name, business.currency, request.zone, first_day, goods, amounts.select(*SALES))


async def _products(
    connection: AsyncConnection, business_id: int, categories: Sequence[str], zone: ZoneInfo
) -> AsyncGenerator[pl.DataFrame]:
    query = (
        select(
            products.c.id, products.c.sku, products.c.name, products.c.category, _cents(products.c.price),
            products.c.threshold, func.coalesce(stock_levels.c.quantity, 0), products.c.created_at,
        )
        .outerjoin(stock_levels, stock_levels.c.product_id == products.c.id)
        .where(products.c.business_id == business_id)
        .order_by(products.c.sku)
    )  # fmt: skip
    if categories:
        query = query.where(products.c.category.in_(categories))
    async with aclosing(_frames(connection, query, {**PRODUCTS, "created": pl.Datetime("us", "UTC")})) as frames:
        async for frame in frames:
            yield frame.with_columns(pl.col("created").dt.convert_time_zone(zone.key).dt.date())


async def _sales(
    connection: AsyncConnection,
    business_id: int,
    categories: Sequence[str],
    period: Period,
    zone: ZoneInfo,
    on_progress: OnProgress,
) -> AsyncGenerator[pl.DataFrame]:
    """Some days at a time, so that neither side ever sorts or holds much."""
    chosen = select(products.c.id).where(products.c.business_id == business_id, products.c.category.in_(categories))
    for at in range(0, period.days, _DAYS_AT_ONCE):
        await on_progress(at, period.days)
        count = min(_DAYS_AT_ONCE, period.days - at)
        # The midnights are found here, for SQLite knows no zones. A day of 23 hours is a day between two of them.
        first = period.first + timedelta(days=at)
        ends = [midnight(first + timedelta(days=number), zone) for number in range(count + 1)]
        number = case(*((sales.c.sold_at < end, number) for number, end in enumerate(ends[1:])), else_=count)
        query = _sums(number).where(
            sales.c.business_id == business_id, sales.c.sold_at >= ends[0], sales.c.sold_at < ends[-1]
        )
        if categories:
            query = query.where(sales.c.product_id.in_(chosen))
        async with aclosing(_frames(connection, query, {**_SUMS, "day": pl.Int64})) as frames:
            async for frame in frames:
                yield frame.with_columns(day=pl.lit(first) + pl.duration(days=pl.col("day")))


def _sums(number: Any) -> Select[Any]:
    """Of each day (its number among those that are read) and product; what was sold, and what came back."""
    price = sales.c.unit_price
    pieces, cents = cast(sales.c.quantity, BigInteger), cast(func.abs(_cents(price)), BigInteger)
    amounts = [
        func.sum(case(((price < 0) if is_refund else (price >= 0), pieces * limb), else_=0)) * (-1 if is_refund else 1)
        for is_refund in (False, True)
        for limb in (cents // literal_column(str(_LIMB)), cents % literal_column(str(_LIMB)))
    ]
    counts = [
        func.sum(case((price >= 0, 1), else_=0)), func.sum(case((price >= 0, pieces), else_=0)),
        func.sum(case((price < 0, pieces), else_=0)),
    ]  # fmt: skip
    summed = (cast(total, BigInteger) for total in (*counts, *amounts))
    # By its place: PostgreSQL takes the same expression for another one, because it has other parameters.
    return select(number, sales.c.product_id, *summed).group_by(literal_column("1"), sales.c.product_id)


async def _frames(
    connection: AsyncConnection, query: Select[Any], schema: dict[str, Any]
) -> AsyncGenerator[pl.DataFrame]:
    # By itself it would fetch a thousand rows at a time, each time from a driver in another thread.
    result = await connection.stream(query, execution_options={"yield_per": _ROWS_AT_ONCE})
    async for rows in result.partitions(_ROWS_AT_ONCE):
        columns = zip(schema, zip(*rows, strict=True), strict=True)
        yield pl.DataFrame([_series(name, values, schema[name]) for name, values in columns])


def _series(name: str, values: Sequence[Any], kind: Any) -> pl.Series:
    if kind == pl.Datetime:
        values = [moment.astimezone(UTC) for moment in values]
    return pl.Series(name, values, kind)


async def _spool(directory: Path, schema: dict[str, Any], frames: AsyncGenerator[pl.DataFrame]) -> pl.LazyFrame:
    await asyncio.to_thread(directory.mkdir)
    held, rows, files = [pl.DataFrame(schema=schema)], 0, 0

    async def put() -> None:
        nonlocal held, rows, files
        await asyncio.to_thread(pl.concat(held).write_parquet, directory / f"{files:06d}.parquet", compression="lz4")
        held, rows, files = [], 0, files + 1

    # Closed here and now when it is cancelled: a cursor that is left to the garbage collector keeps its connection.
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

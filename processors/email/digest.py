"""Digest: how a business' day was, read from the business database."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any, Final
from zoneinfo import ZoneInfo

from sqlalchemy import and_, case, func, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from processors.shared.database.business_day import midnight, zone_named
from processors.shared.database.tables import businesses, exports, imports, products, sales, stock_levels, sync_states
from processors.shared.database.transaction import in_transaction
from processors.shared.safe_text import business_shown

_SHOWN: Final = 8
"""Rows of each list in the mail: it is to be read, not to be worked through."""

# A sale at a negative price is a refund, as in the reports: it lowers the revenue, and its pieces came back.
_SALES: Final[Any] = func.coalesce(func.sum(case((sales.c.unit_price < 0, 0), else_=1)), 0)
_PIECES: Final[Any] = func.coalesce(func.sum(case((sales.c.unit_price < 0, 0), else_=sales.c.quantity)), 0)
_REVENUE: Final[Any] = func.coalesce(func.sum(sales.c.quantity * sales.c.unit_price), 0)


@dataclass(frozen=True, slots=True)
class Sold:
    """What was sold of a day: how many sales, how many pieces, for how much."""

    sales: int
    pieces: int
    revenue: Decimal


@dataclass(frozen=True, slots=True)
class Digest:
    """One business and one day. `below` and `failed` are the first few; `below_count` counts all."""

    business: str
    currency: str
    day: date
    sold: Sold
    week_before: Sold  # the same weekday: a Sunday is compared with a Sunday
    best: tuple[tuple[str, str, int, Decimal], ...]  # SKU, name, pieces, revenue
    below: tuple[tuple[str, str, int, int], ...]  # SKU, name, quantity, threshold
    below_count: int
    imports: int
    rows_imported: int
    rows_refused: int
    exports: int
    failed: tuple[tuple[str, str], ...]  # what, and why

    @classmethod
    async def read(cls, engine: AsyncEngine, business_id: int, day: date) -> Digest | None:
        """Reads it; None for a business that is not there. Raises `Unavailable` when the database is away.

        The day is that of the business' time zone, as in its reports. What is below its threshold is so now, not at the
        end of the day.
        """

        async def work(connection: AsyncConnection) -> Digest | None:
            query = select(businesses.c.name, businesses.c.currency, businesses.c.time_zone).where(
                businesses.c.id == business_id
            )
            business = (await connection.execute(query)).one_or_none()
            if business is None:
                return None
            zone = zone_named(business.time_zone)
            reading = _Reading(connection, business_id, *_span(day, zone))
            return cls(
                business=business_shown(business.name, business_id),
                currency=business.currency,
                day=day,
                sold=await reading.sold(),
                week_before=await _Reading(connection, business_id, *_span(day - timedelta(7), zone)).sold(),
                best=await reading.best(),
                below=await reading.below(),
                below_count=await reading.below_count(),
                exports=await reading.exports(),
                failed=await reading.failed(),
                **await reading.imports(),
            )

        return await in_transaction(engine, work)


async def zones_of_businesses(engine: AsyncEngine) -> dict[int, str]:
    """Every business there is, with its time zone. Raises `Unavailable` when the database is away."""

    async def work(connection: AsyncConnection) -> dict[int, str]:
        rows = await connection.execute(select(businesses.c.id, businesses.c.time_zone).order_by(businesses.c.id))
        return {row.id: row.time_zone for row in rows}

    return await in_transaction(engine, work)


@dataclass(frozen=True, slots=True)
class _Reading:
    """The queries about one business and one span of time."""

    connection: AsyncConnection
    business_id: int
    begin: datetime
    end: datetime

    async def sold(self) -> Sold:
        row = (await self.connection.execute(
            select(_SALES, _PIECES, _REVENUE).where(self._of_sales())
        )).one()  # fmt: skip
        return Sold(row[0], int(row[1]), _cents(row[2]))

    async def best(self) -> tuple[tuple[str, str, int, Decimal], ...]:
        rows = await self.connection.execute(
            select(products.c.sku, products.c.name, _PIECES, _REVENUE)
            .join(products, products.c.id == sales.c.product_id)
            .where(self._of_sales())
            .group_by(products.c.id, products.c.sku, products.c.name)
            .order_by(_REVENUE.desc(), products.c.sku)
            .limit(_SHOWN)
        )
        return tuple((sku, name, int(count), _cents(revenue)) for sku, name, count, revenue in rows)

    async def below(self) -> tuple[tuple[str, str, int, int], ...]:
        rows = await self.connection.execute(
            select(products.c.sku, products.c.name, stock_levels.c.quantity, products.c.threshold)
            .join(stock_levels, stock_levels.c.product_id == products.c.id)
            .where(self._is_below())
            .order_by(stock_levels.c.quantity * 1.0 / products.c.threshold, products.c.sku)
            .limit(_SHOWN)
        )
        return tuple((sku, name, quantity, threshold) for sku, name, quantity, threshold in rows)

    async def below_count(self) -> int:
        query = select(func.count()).join_from(stock_levels, products).where(self._is_below())
        return int(await self.connection.scalar(query) or 0)

    async def imports(self) -> dict[str, int]:
        done = case((imports.c.status == "done", 1), else_=0)
        rows, refused = (
            case((imports.c.status == "done", rows), else_=0) for rows in (imports.c.rows_done, imports.c.rows_refused)
        )
        row = (await self.connection.execute(
            select(*(func.coalesce(func.sum(part), 0) for part in (done, rows, refused)))
            .where(imports.c.business_id == self.business_id, self._within(imports.c.finished_at))
        )).one()  # fmt: skip
        return {"imports": int(row[0]), "rows_imported": int(row[1]), "rows_refused": int(row[2])}

    async def exports(self) -> int:
        # One that was removed since was made all the same: only what was made has an end.
        query = select(func.count()).select_from(exports)
        query = query.where(exports.c.business_id == self.business_id, self._within(exports.c.finished_at))
        return int(await self.connection.scalar(query.where(exports.c.status != "failed")) or 0)

    async def failed(self) -> tuple[tuple[str, str], ...]:
        of_imports = select(imports.c.error).where(
            imports.c.business_id == self.business_id,
            imports.c.status.in_(("failed", "aborted")),
            self._within(imports.c.finished_at),
        )
        of_exports = select(exports.c.format).where(
            exports.c.business_id == self.business_id,
            exports.c.status == "failed",
            self._within(func.coalesce(exports.c.finished_at, exports.c.created_at)),
        )
        of_syncs = select(sync_states.c.system, sync_states.c.error).where(
            sync_states.c.business_id == self.business_id,
            sync_states.c.error.is_not(None),
            self._within(sync_states.c.updated_at),
        )
        found = [("Import", error or "") for (error,) in await self._first(of_imports.order_by(imports.c.finished_at))]
        found += [("Export", f"as {kind}") for (kind,) in await self._first(of_exports)]
        found += [("Sync", f"{system}: {error}") for system, error in await self._first(of_syncs)]
        return tuple(found[:_SHOWN])

    async def _first(self, query: Any) -> list[Any]:
        return list(await self.connection.execute(query.limit(_SHOWN)))

    def _of_sales(self) -> Any:
        return and_(sales.c.business_id == self.business_id, self._within(sales.c.sold_at))

    def _is_below(self) -> Any:
        return and_(products.c.business_id == self.business_id, stock_levels.c.quantity < products.c.threshold)

    def _within(self, column: Any) -> Any:
        return and_(column >= self.begin, column < self.end)


def _span(day: date, zone: ZoneInfo) -> tuple[datetime, datetime]:
    """A day of 23 or 25 hours is one too: each end is the midnight of its own date."""
    return midnight(day, zone), midnight(day + timedelta(1), zone)


def _cents(amount: Any) -> Decimal:
    return Decimal(str(amount)).quantize(Decimal("0.01"))

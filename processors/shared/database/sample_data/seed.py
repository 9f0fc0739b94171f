"""Seed: businesses, products, stock and a history of sales, made up from a number and the same again from it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import accumulate
from random import Random
from typing import Any, Final, NamedTuple

from sqlalchemy import Table, func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from processors.shared.database.sample_data.catalogue import SHOPS, Item, Line, Shop, items
from processors.shared.database.tables import businesses, products, sales, stock_levels, stock_movements
from streams import StreamsError

DAYS: Final = 548
"""18 months."""

_CHUNK: Final = 5_000
_REFERENCE: Final = "seed"
_PIECES: Final = (1, 2, 3, 4, 6, 10)
_PIECES_OFTEN: Final = tuple(accumulate((60, 20, 8, 6, 4, 2)))
# Sales by the hour of the day, in UTC.
_HOURS_OFTEN: Final = tuple(
    accumulate((1, 0, 0, 0, 0, 0, 2, 6, 14, 22, 28, 30, 26, 24, 26, 28, 28, 24, 16, 10, 6, 4, 2, 1))
)


class Seeded(NamedTuple):
    """What was made."""

    businesses: int
    products: int
    sales: int


async def seed(
    engine: AsyncEngine, *, number: int = 7, skus: int = 2_000, sold: int = 200_000, until: datetime | None = None
) -> Seeded:
    """Fills an empty database in one transaction: `skus` products and `sold` sales in the 18 months before `until`
    (this midnight, UTC). Raises `StreamsError` when there are businesses in it already.

    Most products have stock, some are below their threshold and known to be, a handful are without an alert: the
    first stock check finds those.
    """
    random = Random(number)
    end = until or datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    start = end - timedelta(days=DAYS)
    total = Seeded(0, 0, 0)
    async with engine.begin() as connection:
        if there := await connection.scalar(select(func.count()).select_from(businesses)):
            raise StreamsError(f"the database has {there} businesses already; seed fills an empty one only")
        for index, shop in enumerate(SHOPS):
            last = index == len(SHOPS) - 1
            count = skus - total.products if last else round(skus * shop.share)
            history = sold - total.sales if last else round(sold * shop.share)
            await _open(connection, shop, count, history, random, start, end)
            total = Seeded(total.businesses + 1, total.products + count, total.sales + history)
    return total


async def _open(
    connection: AsyncConnection, shop: Shop, count: int, history: int, random: Random, start: datetime, end: datetime
) -> None:
    made = await connection.execute(
        insert(businesses).values(name=shop.name, currency=shop.currency, created_at=start).returning(businesses.c.id)
    )
    business = made.scalar_one()
    goods = list(items(shop, count, random))
    sold = _sell(shop, goods, history, random, start)
    pieces: Counter[int] = Counter()
    for sale in sold:
        pieces[sale.item] += sale.quantity
    levels = [_level(pieces[index] / DAYS, random) for index in range(count)]
    rows = [
        {
            "business_id": business, "sku": item.sku, "name": item.name, "category": item.line.name,
            "price": item.price, "threshold": level.threshold, "created_at": start, "updated_at": end,
        }
        for item, level in zip(goods, levels, strict=True)
    ]  # fmt: skip
    numbers: dict[str, int] = {}
    for at in range(0, count, _CHUNK):
        given = await connection.execute(
            insert(products).returning(products.c.sku, products.c.id), rows[at : at + _CHUNK]
        )
        numbers |= {row.sku: row.id for row in given}
    keys = [numbers[item.sku] for item in goods]
    await _insert(connection, stock_levels, [
        {"product_id": key, "quantity": level.quantity, "version": 1, "updated_at": end,
         "below_since": end - timedelta(days=level.known_for) if level.known_for else None}
        for key, level in zip(keys, levels, strict=True)
    ])  # fmt: skip
    await _insert(connection, stock_movements, [
        {"product_id": key, "delta": level.quantity, "quantity": level.quantity, "reason": "opening",
         "reference": _REFERENCE, "moved_at": end}
        for key, level in zip(keys, levels, strict=True)
    ])  # fmt: skip
    await _insert(connection, sales, [
        {"business_id": business, "product_id": keys[sale.item], "quantity": sale.quantity,
         "unit_price": sale.price, "sold_at": sale.at}
        for sale in sold
    ])  # fmt: skip


class _Sale(NamedTuple):
    at: datetime
    item: int
    quantity: int
    price: Decimal


def _sell(shop: Shop, goods: Sequence[Item], count: int, random: Random, start: datetime) -> list[_Sale]:
    """Sales in the order in which they happened: popular goods more often, on the days their category sells."""
    chosen = random.choices(range(len(goods)), cum_weights=list(accumulate(item.popularity for item in goods)), k=count)
    days = {line.name: list(accumulate(_weight(shop, line, start + timedelta(days=day), day) for day in range(DAYS)))
            for line in shop.lines}  # fmt: skip
    hours = random.choices(range(24), cum_weights=_HOURS_OFTEN, k=count)
    pieces = random.choices(_PIECES, cum_weights=_PIECES_OFTEN, k=count)
    earlier = [_before(item.price) for item in goods]
    sold = []
    for index, hour, quantity in zip(chosen, hours, pieces, strict=True):
        (day,) = random.choices(range(DAYS), cum_weights=days[goods[index].line.name])
        at = start + timedelta(seconds=day * 86_400 + hour * 3_600 + int(random.random() * 3_600))
        # Prices rose once, a year before the end.
        sold.append(_Sale(at, index, quantity, goods[index].price if day > DAYS - 365 else earlier[index]))
    sold.sort()
    return sold


def _before(price: Decimal) -> Decimal:
    return (price * Decimal("0.95")).quantize(Decimal("0.01"))


def _weight(shop: Shop, line: Line, date: datetime, day: int) -> float:
    season = 1 + line.swing * math.cos(2 * math.pi * (date.timetuple().tm_yday - line.peak) / 365.25)
    growth = (1 + shop.growth) ** (day / 365)
    holiday = 0.05 if (date.month, date.day) in ((1, 1), (12, 25), (12, 26)) else 1.0
    weight: float = season * growth * holiday * shop.weekdays[date.weekday()]
    return weight


class _Level(NamedTuple):
    quantity: int
    threshold: int
    known_for: int  # days since the alert that it is below the threshold; 0 when there was none


def _level(daily: float, random: Random) -> _Level:
    """Stock for some weeks, a threshold of about ten days: what is below it, and whether that is news."""
    threshold = max(2, round(daily * 10))
    kind = random.random()
    if kind < 0.06:
        return _Level(random.randrange(threshold), threshold, random.randint(1, 20))
    if kind < 0.064:
        return _Level(random.randrange(threshold), threshold, 0)
    return _Level(threshold + max(1, round(daily * random.uniform(2, 60))) + random.randrange(4), threshold, 0)


async def _insert(connection: AsyncConnection, table: Table, rows: list[dict[str, Any]]) -> None:
    for at in range(0, len(rows), _CHUNK):
        await connection.execute(insert(table), rows[at : at + _CHUNK])

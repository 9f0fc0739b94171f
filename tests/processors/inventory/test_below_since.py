"""`below_since`: since when a level is below its threshold; it moves only when the level crosses it."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from processors.shared.database import Database
from processors.shared.database.stock import change_stock
from processors.shared.database.tables import stock_levels
from schemas.inventory import StockChange
from tests.processors.inventory.conftest import SHOP, add


async def _change(shop: Database, quantity: int) -> tuple[int, datetime | None]:
    """How many fell below through it, and since when the level is below."""
    async with AsyncSession(shop.engine) as session, session.begin():
        items = [StockChange(sku="A", quantity=quantity)]
        changes = await change_stock(session, SHOP, items, reason="test", reference="r")
        since = await session.scalar(select(stock_levels.c.below_since))
    return len(changes.fallen), since


async def test_it_is_the_moment_of_the_fall(shop: Database) -> None:
    """Changes below the threshold do not move it; at the threshold a level is not below."""
    await add(shop, "A", 10, threshold=8)
    assert await _change(shop, 8) == (0, None)
    fallen, since = await _change(shop, 7)
    assert (fallen, since is not None) == (1, True)
    for quantity in (6, 0, 7):
        assert await _change(shop, quantity) == (0, since)
    assert await _change(shop, 8) == (0, None)
    fallen, later = await _change(shop, 1)
    assert (fallen, later is not None) == (1, True)
    assert later != since

"""Bulk updates: one transaction, each item for itself, once."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from pydantic import ValidationError
from sqlalchemy import func, select

from processors.inventory import inventory
from processors.shared.database import Database
from processors.shared.database.tables import stock_movements
from schemas import InventoryBulkUpdateRequested, InventoryUpdated, StockBelowThreshold
from schemas.inventory import MOST_STOCK, StockChange, StockChanged
from streams import Streams
from tests.processors.inventory.conftest import SHOP, add, levels
from tests.streams.conftest import StartConsumer
from tests.support.waiting import wait_until

pytestmark = pytest.mark.newest_redis


def request(*items: StockChange, business_id: int = SHOP) -> InventoryBulkUpdateRequested:
    """A bulk update of these."""
    return InventoryBulkUpdateRequested(business_id=business_id, items=list(items))


async def test_what_can_be_changed_is_changed_and_the_rest_is_named(
    shop: Database, streams: Streams, start: StartConsumer, published: Any
) -> None:
    """Negative stock, an unknown SKU, one that is named twice, a level that has changed meanwhile: refused each."""
    for sku in ("A", "B", "C", "D", "E", "F", "G", "H", "I"):
        await add(shop, sku, 10)
    await start(inventory)
    await streams.publish(
        request(
            StockChange(sku="A", delta=-3),
            StockChange(sku="B", quantity=70, expected_version=1, expected_quantity=10),
            StockChange(sku="C", delta=-11),
            StockChange(sku="D", quantity=5, expected_version=2),
            StockChange(sku="E", quantity=5, expected_quantity=11),
            StockChange(sku="F", delta=1),
            StockChange(sku="F", delta=1),
            StockChange(sku="G", delta=MOST_STOCK),
            StockChange(sku="nobody's", delta=1),
            StockChange(sku="H"),
            StockChange(sku="I", delta=1, quantity=1),
        )
    )
    (updated,) = await wait_until(lambda: published(InventoryUpdated))
    assert updated.changed == [
        StockChanged(sku="A", quantity=7, delta=-3, version=2),
        StockChanged(sku="B", quantity=70, delta=60, version=2),
    ]
    assert [(item.sku, item.reason, item.quantity, item.version) for item in updated.refused] == [
        ("C", "negative", 10, 1),
        ("D", "conflict", 10, 1),
        ("E", "conflict", 10, 1),
        ("F", "duplicate", 10, 1),
        ("F", "duplicate", 10, 1),
        ("G", "too_large", 10, 1),
        ("nobody's", "unknown_sku", None, None),
        ("H", "invalid", 10, 1),
        ("I", "invalid", 10, 1),
    ]
    assert await levels(shop) == {"A": 7, "B": 70} | dict.fromkeys("CDEFGHI", 10)


async def test_the_same_event_twice_is_one_change(
    shop: Database, streams: Streams, start: StartConsumer, published: Any
) -> None:
    """Its follow-ups are told again under the ids they had."""
    await add(shop, "A", 10, threshold=8)
    await start(inventory)
    message = streams.message(request(StockChange(sku="A", delta=-3)))
    await streams.append([message])
    await streams.append([message])
    await wait_until(lambda: _count(published, InventoryUpdated, 2))
    assert await levels(shop) == {"A": 7}
    entries = await streams.redis.xrange(streams.keys.stream("inventory", "high"))
    alerts = {fields[b"id"] for _, fields in entries if fields[b"type"] == b"StockBelowThreshold"}
    assert len(alerts) == 1


async def test_many_at_once_add_up(shop: Database, streams: Streams, start: StartConsumer, published: Any) -> None:
    """Two consumers, the same products in different orders: nothing is lost, and nobody waits for ever."""
    skus = [f"S{number}" for number in range(20)]
    for sku in skus:
        await add(shop, sku, 1000)
    await asyncio.gather(start(inventory), start(inventory))
    requests = [
        request(*(StockChange(sku=sku, delta=-1) for sku in (skus if number % 2 else reversed(skus))))
        for number in range(30)
    ]
    await streams.publish_many(requests)
    await wait_until(lambda: _count(published, InventoryUpdated, 30), timeout=25)
    assert await levels(shop) == dict.fromkeys(skus, 970)


async def test_a_business_that_is_not_there_is_a_dead_letter(
    shop: Database, streams: Streams, start: StartConsumer
) -> None:
    """With a reason, and the consumer goes on."""
    await add(shop, "A", 10)
    await start(inventory)
    await streams.publish(request(StockChange(sku="A", delta=-1), business_id=99))
    await streams.publish(request(StockChange(sku="A", delta=-1)))
    await wait_until(lambda: streams.redis.xlen(streams.keys.dead("inventory")))
    ((_, letter),) = await streams.redis.xrange(streams.keys.dead("inventory"))
    assert (letter[b"reason"], b"there is no business 99" in letter[b"error"]) == (b"rejected", True)
    await wait_until(lambda: _is(shop, {"A": 9}))


@pytest.mark.parametrize("quantity", ["NaN", "1e400", '"NaN"', "99999999999999999999", "1.5", "-1000000000001", "[]"])
def test_what_is_no_quantity_is_no_event(quantity: str) -> None:
    """Whoever publishes it in Python is told; from elsewhere it is a dead letter before it is handled."""
    data = f'{{"business_id": 1, "items": [{{"sku": "A", "quantity": {quantity}}}]}}'
    with pytest.raises(ValidationError):
        InventoryBulkUpdateRequested.decode(data.encode(), 1)


@pytest.mark.parametrize("sku", ["", "x" * 65, "a\x00b", "a\nb"])
def test_what_is_no_sku_is_no_event(sku: str) -> None:
    """PostgreSQL would refuse the zero byte, in the middle of everybody else's items."""
    with pytest.raises(ValidationError):
        StockChange(sku=sku, delta=1)


def test_an_update_has_up_to_100_items() -> None:
    """One transaction of one size."""
    items = [StockChange(sku=str(number), delta=1) for number in range(101)]
    with pytest.raises(ValidationError):
        InventoryBulkUpdateRequested(business_id=1, items=items)
    with pytest.raises(ValidationError):
        InventoryBulkUpdateRequested(business_id=1, items=[])


async def test_an_item_that_is_as_it_shall_be_moves_nothing(
    shop: Database, streams: Streams, start: StartConsumer, published: Any
) -> None:
    """No movement, no new version, no event about it."""
    await add(shop, "A", 10)
    await start(inventory)
    await streams.publish(request(StockChange(sku="A", quantity=10)))
    (updated,) = await wait_until(lambda: published(InventoryUpdated))
    assert (updated.changed, updated.refused) == ([], [])
    async with shop.engine.connect() as connection:
        assert await connection.scalar(select(func.count()).select_from(stock_movements)) == 1
    assert await published(StockBelowThreshold) == []


async def _count(published: Any, kind: type[Any], count: int) -> bool:
    return len(await published(kind)) == count


async def _is(shop: Database, expected: dict[str, int]) -> bool:
    return await levels(shop) == expected

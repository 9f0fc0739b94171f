"""StockBelowThreshold once for each fall, whoever looks and however often."""

from __future__ import annotations

from typing import Any

import pytest

from processors.inventory import handlers, inventory
from processors.shared.database import Database
from schemas import InventoryBulkUpdateRequested, InventoryUpdated, StockBelowThreshold, StockCheckDue
from schemas.inventory import StockChange
from streams import Streams
from tests.processors.inventory.conftest import SHOP, add, set_threshold
from tests.streams.conftest import StartConsumer
from tests.support.waiting import wait_until

pytestmark = pytest.mark.newest_redis


class Desk:
    """Changes stock or asks for a check, and waits until that was handled."""

    def __init__(self, streams: Streams, published: Any) -> None:
        self._streams, self._published = streams, published
        self._updates = 0

    async def set(self, sku: str, quantity: int) -> None:
        """A bulk update of one."""
        change = InventoryBulkUpdateRequested(business_id=SHOP, items=[StockChange(sku=sku, quantity=quantity)])
        await self._streams.publish(change, key=str(SHOP))
        self._updates += 1
        await wait_until(self._is_updated)

    async def check(self, times: int = 1) -> None:
        """Stock checks, at once."""
        await self._streams.publish_many([StockCheckDue() for _ in range(times)])
        await wait_until(self._is_idle)

    async def alerts(self) -> list[tuple[str, int]]:
        """What was told of, oldest first."""
        return [(alert.sku, alert.quantity) for alert in await self._published(StockBelowThreshold)]

    async def _is_updated(self) -> bool:
        return len(await self._published(InventoryUpdated)) == self._updates and await self._is_idle()

    async def _is_idle(self) -> bool:
        infos = await self._streams.redis.xinfo_groups(self._streams.keys.stream("inventory"))
        return all(not info["pending"] and not info["lag"] for info in infos if info["name"] == b"inventory")


@pytest.fixture
def desk(streams: Streams, published: Any) -> Desk:
    """Somebody who changes stock."""
    return Desk(streams, published)


async def test_one_fall_is_one_event(shop: Database, start: StartConsumer, desk: Desk) -> None:
    """Falling further, and checks in between, tell nothing new; rising arms it again."""
    await add(shop, "A", 20, threshold=10)
    await start(inventory)
    await desk.set("A", 9)
    await desk.set("A", 4)
    await desk.check(3)
    assert await desk.alerts() == [("A", 9)]
    await desk.set("A", 10)  # at the threshold is not below it
    await desk.check()
    await desk.set("A", 0)
    await desk.check()
    assert await desk.alerts() == [("A", 9), ("A", 0)]


async def test_a_check_finds_what_nobody_told(shop: Database, start: StartConsumer, desk: Desk) -> None:
    """A threshold that was raised, by whom ever: once, and again only after it was not below."""
    for sku in ("A", "B", "C"):
        await add(shop, sku, 20, threshold=10)
    await set_threshold(shop, "A", 30)
    await set_threshold(shop, "B", 21)
    await start(inventory)
    await desk.check(4)
    assert sorted(await desk.alerts()) == [("A", 20), ("B", 20)]
    await set_threshold(shop, "A", 5)
    await desk.check()  # re-arms A, and tells nothing
    await set_threshold(shop, "A", 30)
    await desk.check(2)
    assert sorted(await desk.alerts()) == [("A", 20), ("A", 20), ("B", 20)]


async def test_a_check_of_more_than_it_may_tell_at_once_goes_on(
    shop: Database, start: StartConsumer, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In portions, until there is nothing left."""
    monkeypatch.setattr(handlers, "_CHECKED_AT_ONCE", 3)
    for number in range(8):
        await add(shop, f"S{number}", 1, threshold=2)
    await start(inventory)
    await desk.check()
    assert sorted(await desk.alerts()) == [(f"S{number}", 1) for number in range(8)]


async def test_nobody_wants_to_be_told_at_threshold_0(shop: Database, start: StartConsumer, desk: Desk) -> None:
    """It is what products have that nobody has decided about."""
    await add(shop, "A", 3)
    await start(inventory)
    await desk.set("A", 0)
    await desk.check()
    assert await desk.alerts() == []

"""Stock is changed in bulk, each item for itself; who wants to be told that it runs low is told once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from examples.fakes.supplier import FakeSupplier
from processors.inventory import inventory
from processors.shared.database import Database
from processors.shared.database.migration import upgrade
from schemas import (
    InventoryBulkUpdateRequested,
    InventorySynced,
    InventorySyncRequested,
    InventoryUpdated,
    StockBelowThreshold,
    StockCheckDue,
)
from schemas.inventory import StockChange
from streams import Streams
from tests.processors.inventory.conftest import SHOP, add, levels, published, set_threshold, shop, supplier
from tests.streams.conftest import StartConsumer
from tests.support.waiting import wait_until

__all__ = ["published", "shop", "supplier"]

pytestmark = pytest.mark.newest_redis


@pytest.fixture
async def business(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Database]:
    """A business database in a file; `shop` adds the business number 1."""
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path}/business.db")
    database = Database()
    await upgrade(database.engine)
    yield database
    await database.aclose()


async def test_a_bulk_update(streams: Streams, start: StartConsumer, shop: Database, published: Any) -> None:
    """What can be done is done in one transaction; what cannot be is named with its reason."""
    await add(shop, "OAK-1", 12)
    await add(shop, "ELM-2", 3)
    await start(inventory)

    sold = StockChange(sku="OAK-1", delta=-2)
    too_much = StockChange(sku="ELM-2", delta=-4)
    await streams.publish(InventoryBulkUpdateRequested(business_id=SHOP, items=[sold, too_much]), key="1")

    (updated,) = await wait_until(lambda: published(InventoryUpdated))
    assert [(item.sku, item.quantity) for item in updated.changed] == [("OAK-1", 10)]
    assert [(item.sku, item.reason, item.quantity) for item in updated.refused] == [("ELM-2", "negative", 3)]


async def test_an_alert(streams: Streams, start: StartConsumer, shop: Database, published: Any) -> None:
    """Once for each fall: when it happens, or when the next check finds that it has."""
    await add(shop, "OAK-1", 12, threshold=10)
    await add(shop, "ELM-2", 3)
    await start(inventory)

    await streams.publish(InventoryBulkUpdateRequested(business_id=SHOP, items=[StockChange(sku="OAK-1", delta=-5)]))
    await wait_until(lambda: published(StockBelowThreshold))
    await set_threshold(shop, "ELM-2", 4)  # nobody publishes anything
    await streams.publish_many([StockCheckDue(), StockCheckDue()])

    await wait_until(lambda: two(published))
    assert [(alert.sku, alert.quantity, alert.threshold) for alert in await published(StockBelowThreshold)] == [
        ("OAK-1", 7, 10),
        ("ELM-2", 3, 4),
    ]


async def test_a_sync(
    streams: Streams, start: StartConsumer, shop: Database, supplier: FakeSupplier, published: Any
) -> None:
    """A supplier's products and stock, page by page, although it is busy at first."""
    for number in range(25):
        supplier.stock(f"SUP-{number:02d}", number)
    supplier.misbehave(["busy"])
    await start(inventory)

    await streams.publish(InventorySyncRequested(business_id=SHOP, external_system="acme", sync_type="full"), key="1")

    (synced,) = await wait_until(lambda: published(InventorySynced), timeout=20)
    assert (synced.pages, synced.items, synced.complete) == (3, 25, True)
    assert (await levels(shop))["SUP-24"] == 24


async def two(published: Any) -> bool:
    """Whether there are two alerts."""
    return len(await published(StockBelowThreshold)) == 2

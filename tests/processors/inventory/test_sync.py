"""A sync from a supplier's system, page by page: what arrives, what is left out, and where it goes on."""

from __future__ import annotations

from copy import copy
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import select, text, update

from examples.fakes.supplier import FakeSupplier, Fault
from processors.inventory import inventory
from processors.shared.database import Database
from processors.shared.database.tables import products, sync_states
from schemas import (
    InventorySynced,
    InventorySyncFailed,
    InventorySyncPageDue,
    InventorySyncRequested,
    InventoryUpdated,
    StockBelowThreshold,
)
from streams import Backoff, Streams
from tests.processors.inventory.conftest import SHOP, add, levels
from tests.streams.conftest import StartConsumer
from tests.support.waiting import wait_until

pytestmark = pytest.mark.newest_redis


class Buyer:
    """Somebody who asks for syncs, and waits for how they end."""

    def __init__(self, streams: Streams, published: Any) -> None:
        self._streams, self._published = streams, published

    async def ask(self, sync_type: str = "full", system: str = "acme", business_id: int = SHOP) -> str:
        """Asks for a sync; returns the id it will have."""
        event = InventorySyncRequested(
            business_id=business_id,
            external_system=system,
            sync_type=sync_type,  # type: ignore[arg-type]
        )
        return (await self._streams.publish(event, key=str(business_id))).id

    async def ended(self, sync_id: str) -> InventorySynced:
        """How it ended."""

        async def find() -> InventorySynced | None:
            events = await self._published(InventorySynced)
            return next((event for event in events if event.sync_id == sync_id), None)

        found: InventorySynced = await wait_until(find, timeout=20)
        return found

    async def sync(self, sync_type: str = "full") -> InventorySynced:
        """Both."""
        return await self.ended(await self.ask(sync_type))

    async def dead(self, count: int = 1) -> list[str]:
        """The errors of the dead letters, once there are as many."""
        key = self._streams.keys.dead("inventory")
        await wait_until(lambda: self._has(key, count), timeout=20)
        return [fields[b"error"].decode() for _, fields in await self._streams.redis.xrange(key)]

    async def _has(self, key: str, count: int) -> bool:
        return int(await self._streams.redis.xlen(key)) >= count


@pytest.fixture
def buyer(streams: Streams, published: Any) -> Buyer:
    """Somebody."""
    return Buyer(streams, published)


async def test_a_full_sync_brings_products_prices_and_stock(
    shop: Database, supplier: FakeSupplier, start: StartConsumer, buyer: Buyer, published: Any
) -> None:
    """Three pages; what is new is added, what is known corrected, what the supplier does not have left alone."""
    await add(shop, "S03", 50, threshold=10)
    await add(shop, "ours", 4)
    for number in range(25):
        supplier.stock(f"S{number:02d}", number, price=number + 0.25)
    await start(inventory)

    synced = await buyer.sync()
    assert (synced.pages, synced.items, synced.changed, synced.refused, synced.complete) == (3, 25, 24, 0, True)
    assert await levels(shop) == {f"S{number:02d}": number for number in range(25)} | {"ours": 4}
    async with shop.engine.connect() as connection:
        prices = await connection.execute(select(products.c.sku, products.c.name, products.c.price))
        assert {row.sku: (row.name, row.price) for row in prices}["S03"] == ("Supplier's S03", Decimal("3.25"))
    assert [alert.sku for alert in await published(StockBelowThreshold)] == ["S03"]
    assert [len(updated.changed) for updated in await published(InventoryUpdated)] == [9, 10, 5]
    assert [(asked.get("cursor"), asked.get("since")) for asked in supplier.asked] == [
        (None, None), ("S09", None), ("S19", None),
    ]  # fmt: skip


async def test_an_incremental_sync_reads_what_has_changed(
    shop: Database, supplier: FakeSupplier, start: StartConsumer, buyer: Buyer
) -> None:
    """Since the mark that the last one has left; nothing at all is told by the ETag."""
    for number in range(25):
        supplier.stock(f"S{number:02d}", number)
    await start(inventory)
    await buyer.sync("incremental")  # the first one reads everything
    assert (await buyer.sync("incremental")).pages == 0
    supplier.stock("S07", 700)
    supplier.stock("new", 1)
    synced = await buyer.sync("incremental")
    assert (synced.pages, synced.items, synced.changed) == (1, 2, 2)
    assert supplier.asked[-1]["since"] == "25"
    assert (await levels(shop))["S07"] == 700


async def test_what_changes_while_later_pages_are_read_is_read_next_time(
    shop: Database, supplier: FakeSupplier, start: StartConsumer, buyer: Buyer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mark is that of the first page: one of the last page would pass over it for ever."""
    for number in range(25):
        supplier.stock(f"S{number:02d}", number)
    answered = supplier._page

    def page(query: dict[str, str]) -> dict[str, Any]:
        if query.get("cursor") == "S09" and supplier.items["S01"].quantity == 1:
            supplier.stock("S01", 100)  # its page was had already
        return answered(query)

    monkeypatch.setattr(supplier, "_page", page)
    await start(inventory)
    await buyer.sync("incremental")
    assert (await levels(shop))["S01"] == 1
    synced = await buyer.sync("incremental")
    assert (synced.items, synced.changed) == (1, 1)
    assert (await levels(shop))["S01"] == 100


async def test_a_busy_and_broken_supplier_is_asked_again(
    shop: Database, supplier: FakeSupplier, start: StartConsumer, buyer: Buyer
) -> None:
    """429 with its Retry-After, 500, a cut connection: the same page again, and nothing twice."""
    for number in range(25):
        supplier.stock(f"S{number:02d}", number)
    supplier.misbehave(["busy", "broken", Fault("busy", after="1"), "busy"])
    await start(inventory)
    synced = await buyer.sync()
    assert (synced.pages, synced.items, synced.complete) == (3, 25, True)
    assert await levels(shop) == {f"S{number:02d}": number for number in range(25)}


async def test_a_supplier_that_goes_in_circles_is_left(
    shop: Database, supplier: FakeSupplier, start: StartConsumer, buyer: Buyer
) -> None:
    """A dead letter that says so; the pages before it count, and a new full sync begins anew at once."""
    for number in range(25):
        supplier.stock(f"S{number:02d}", number + 1)
    await start(inventory)
    supplier.misbehave([Fault("circle")] * 3)
    await buyer.ask()
    (error,) = await buyer.dead()
    assert "leads back to one that was before it" in error
    assert set(await levels(shop)) == {f"S{number:02d}" for number in range(10)}
    supplier.faults.clear()
    synced = await buyer.sync()
    assert (synced.pages, synced.items) == (3, 25)
    assert len(await levels(shop)) == 25


@pytest.mark.parametrize("leads_back_to", ["p1", "p3", "p5"])
async def test_a_circle_of_some_pages_is_noticed(
    shop: Database, supplier: FakeSupplier, start: StartConsumer, buyer: Buyer, monkeypatch: pytest.MonkeyPatch,
    leads_back_to: str,
) -> None:  # fmt: skip
    """Wherever it begins: within some rounds of it, and not after all the pages that a sync may have."""
    cursors = ["", *(f"p{number}" for number in range(1, 7))]

    def page(query: dict[str, str]) -> dict[str, Any]:
        place = cursors.index(query.get("cursor", ""))
        following = cursors[place + 1] if place + 1 < len(cursors) else leads_back_to
        item = {"sku": f"S{place}", "name": "S", "price": 1, "quantity": 1}
        return {"items": [item], "next": following, "since": "1", "total": 99}

    monkeypatch.setattr(supplier, "_page", page)
    await start(inventory)
    await buyer.ask()
    (error,) = await buyer.dead()
    assert "leads back to one that was before it" in error
    assert 7 < len(supplier.asked) <= 20


async def test_an_endless_supplier_is_left(
    shop: Database, supplier: FakeSupplier, start: StartConsumer, buyer: Buyer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page always leads to another one: there is an end to patience."""
    monkeypatch.setenv("INVENTORY_PAGES_MOST", "2")
    for number in range(25):
        supplier.stock(f"S{number:02d}", number + 1)
    await start(inventory)
    await buyer.ask()
    (error,) = await buyer.dead()
    assert "more than 2 pages" in error
    assert len(await levels(shop)) == 10  # the page that was one too many is not half taken


async def test_a_supplier_that_counts_wrong_is_not_believed(
    shop: Database, supplier: FakeSupplier, start: StartConsumer, buyer: Buyer
) -> None:
    """What came is taken, and the mark is not: the next incremental sync reads it all again."""
    supplier.stock("A", 1)
    supplier.misbehave(["miscount"])
    await start(inventory)
    assert not (await buyer.sync("incremental")).complete
    synced = await buyer.sync("incremental")
    assert (synced.complete, synced.items, synced.changed) == (True, 1, 0)
    assert "since" not in supplier.asked[-1]


async def test_items_that_cannot_be_true_are_named(
    shop: Database, supplier: FakeSupplier, start: StartConsumer, buyer: Buyer, published: Any
) -> None:
    """And do not keep the others away."""
    for number in range(8):
        supplier.stock(f"S{number:02d}", 5)
    supplier.misbehave(["bad_items"])
    await start(inventory)
    synced = await buyer.sync()
    assert (synced.changed, synced.refused) == (2, 5)
    (updated,) = await published(InventoryUpdated)
    assert [(item.sku, item.reason) for item in updated.refused] == [
        ("S00", "invalid"), ("S01", "invalid"), ("S02", "invalid"), ("S03", "invalid"), ("S04", "duplicate"),
    ]  # fmt: skip
    assert await levels(shop) == {"S05": 5, "S06": 5}


async def test_an_expired_mark_means_all_of_it(
    shop: Database, supplier: FakeSupplier, start: StartConsumer, buyer: Buyer
) -> None:
    """410 to an incremental sync: it becomes a full one. 410 to the first page of that has no meaning."""
    supplier.stock("A", 1)
    await start(inventory)
    await buyer.sync()
    supplier.stock("B", 1)
    supplier.misbehave(["expired"])
    synced = await buyer.sync("incremental")
    assert (synced.sync_type, synced.items) == ("full", 2)
    supplier.misbehave(["expired"])
    await buyer.ask()
    assert "410 to a first page" in (await buyer.dead())[0]


async def test_one_sync_at_a_time_and_one_that_is_stuck_goes_on(
    shop: Database, supplier: FakeSupplier, start: StartConsumer, buyer: Buyer, streams: Streams, published: Any
) -> None:
    """While it moves a second request is left alone; where its page was lost, an incremental one goes on."""
    for number in range(25):
        supplier.stock(f"S{number:02d}", number + 1)
    await start(inventory)
    supplier.misbehave([Fault("busy", after="600")])
    first = await buyer.ask()
    await wait_until(lambda: _error(shop))
    async with shop.engine.begin() as connection:
        await connection.execute(update(sync_states).values(error=None))  # as if the supplier were merely slow
    await buyer.ask()
    await wait_until(lambda: _is_idle(streams))
    async with shop.engine.begin() as connection:
        assert await connection.scalar(select(sync_states.c.sync_id)) == first
        await connection.execute(update(sync_states).values(error="busy"))
    taken = await buyer.ask("incremental")
    synced = await buyer.ended(taken)
    assert (synced.pages, synced.items) == (3, 25)
    # The page of the first sync comes late: nobody waits for it.
    late = InventorySyncPageDue(business_id=SHOP, external_system="acme", sync_id=first, page=0)
    asked = len(supplier.asked)
    await streams.publish(late)
    await wait_until(lambda: _is_idle(streams))
    assert len(supplier.asked) == asked
    assert len(await published(InventorySynced)) == 1
    await streams.redis.delete(streams.keys.due())


async def test_what_nobody_knows_is_a_dead_letter(
    shop: Database, supplier: FakeSupplier, start: StartConsumer, buyer: Buyer
) -> None:
    """A system that is not set, a business that is not there, a page of a sync that never was."""
    await start(inventory)
    await buyer.ask(system="other")
    await buyer.ask(business_id=99)
    errors = await buyer.dead(2)
    assert "supplier other: not in INVENTORY_SUPPLIERS" in "".join(errors)
    assert "there is no business 99" in "".join(errors)


async def _error(shop: Database) -> str | None:
    async with shop.engine.connect() as connection:
        found: str | None = await connection.scalar(select(sync_states.c.error))
        return found


async def _is_idle(streams: Streams) -> bool:
    infos = await streams.redis.xinfo_groups(streams.keys.stream("inventory"))
    return all(not info["pending"] and not info["lag"] for info in infos if info["name"] == b"inventory")


async def test_a_304_in_the_middle_is_no_end(
    shop: Database, supplier: FakeSupplier, start: StartConsumer, buyer: Buyer
) -> None:
    """A cache on the way has answered: the page is asked for again, and nothing counts as read that was not."""
    for number in range(25):
        supplier.stock(f"S{number:02d}", number)
    supplier.misbehave([Fault("unchanged")])
    await start(inventory)
    synced = await buyer.sync()  # a full one, whose first page was not asked for conditionally either
    assert (synced.pages, synced.items, synced.complete) == (3, 25, True)
    assert len(supplier.asked) == 4


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_a_sync_that_stops_says_so_whatever_the_reason(
    shop: Database, supplier: FakeSupplier, start: StartConsumer, buyer: Buyer, published: Any
) -> None:
    """A page that is none, and an error of our own: an event, a row with the reason, and a dead letter."""

    async def state() -> Any:
        async with shop.engine.connect() as connection:
            return await connection.scalar(select(sync_states.c.error))

    once = copy(inventory)
    once.subscriptions = {
        type: replace(subscription, retry=Backoff(attempts=1)) for type, subscription in inventory.subscriptions.items()
    }
    supplier.stock("S1", 1)
    await start(once)
    supplier.misbehave([Fault("nonsense")])
    first = await buyer.ask()
    (failed,) = await wait_until(lambda: published(InventorySyncFailed), timeout=20)
    assert (failed.sync_id, failed.page, failed.external_system) == (first, 0, "acme")
    assert failed.problem.startswith("supplier acme: no page: it is no JSON")
    assert await state() == failed.problem

    async with shop.engine.begin() as connection:
        await connection.execute(text("ALTER TABLE stock_movements RENAME TO away"))
    await buyer.ask()

    async def second() -> Any:
        return (await published(InventorySyncFailed))[1:]

    (failed,) = await wait_until(second, timeout=20)
    assert "something went wrong at our side (OperationalError), and was tried once" in failed.problem
    assert "S1" not in failed.problem
    assert await state() == failed.problem
    assert len(await buyer.dead(2)) == 2

"""Limits: how often a handler starts, and how many of it run at once, over all consumers of its group."""

from __future__ import annotations

import asyncio
from collections import Counter
from itertools import pairwise

from streams import CurrentDelivery, Delivery, Event, Limit, Processor, Streams
from tests.guide.shop import becomes
from tests.streams.conftest import StartConsumer
from tests.support.waiting import wait_until


class PriceChanged(Event, stream="prices", version=1):
    """A shop has a new price."""

    shop: str
    cents: int


class ShopOpened(Event, stream="prices", version=1):
    """There is one more."""

    shop: str


async def test_a_handler_starts_only_so_often(streams: Streams, start: StartConsumer) -> None:
    """The supplier allows 20 calls a second, however many consumers there are. Waiting costs no attempt."""
    sync = Processor("sync")
    called: list[tuple[float, int]] = []

    @sync.on(PriceChanged, limit=Limit(rate=20, per=1.0, burst=1))
    async def tell_the_supplier(event: PriceChanged, delivery: Delivery = CurrentDelivery()) -> None:
        called.append((asyncio.get_running_loop().time(), delivery.attempt))

    for _ in range(2):
        await start(sync)
    await streams.publish_many([PriceChanged(shop="A", cents=cents) for cents in range(20)])

    await wait_until(lambda: len(called) == 20)
    gaps = [later - earlier for (earlier, _), (later, _) in pairwise(sorted(called))]
    assert sum(gaps) > 19 * 0.05 * 0.9
    assert {attempt for _, attempt in called} == {1}


async def test_only_so_many_of_a_handler_run_at_once(streams: Streams, start: StartConsumer) -> None:
    """Two at once for each shop: `by` is asked for each event. `by="key"` takes the ordering key."""
    sync = Processor("sync")
    running, most, done = Counter[str](), Counter[str](), list[int]()

    @sync.on(PriceChanged, limit=Limit(concurrency=2, by=lambda event: event.shop))
    async def export(event: PriceChanged) -> None:
        running[event.shop] += 1
        most[event.shop] = max(most[event.shop], running[event.shop])
        await asyncio.sleep(0.01)
        running[event.shop] -= 1
        done.append(event.cents)

    for _ in range(2):
        await start(sync)
    await streams.publish_many([PriceChanged(shop=shop, cents=cents) for cents in range(10) for shop in "AB"])

    await wait_until(lambda: len(done) == 20)
    assert most == {"A": 2, "B": 2}


async def test_handlers_share_a_limit(streams: Streams, start: StartConsumer) -> None:
    """One service behind two handlers: what both of them start counts."""
    sync = Processor("sync")
    most = Limit(rate=20, burst=1, name="supplier")
    called: list[float] = []

    @sync.on(PriceChanged, limit=most)
    async def tell_the_price(event: PriceChanged) -> None:
        called.append(asyncio.get_running_loop().time())

    @sync.on(ShopOpened, limit=most)
    async def tell_the_shop(event: ShopOpened) -> None:
        called.append(asyncio.get_running_loop().time())

    await start(sync)
    await streams.publish_many([PriceChanged(shop="A", cents=cents) for cents in range(5)])
    await streams.publish_many([ShopOpened(shop=shop) for shop in "ABCDE"])

    await wait_until(lambda: len(called) == 10)
    gaps = [later - earlier for earlier, later in pairwise(sorted(called))]
    assert sum(gaps) > 9 * 0.05 * 0.9


async def test_what_waits_at_a_limit_says_so(streams: Streams, start: StartConsumer) -> None:
    """`streams event ID` shows which limit, and until when; it can be called off there."""
    sync = Processor("sync")

    @sync.on(PriceChanged, limit=Limit(rate=1, per=3600))
    async def report(event: PriceChanged) -> None:
        """Once an hour."""

    await start(sync)
    first, second = await streams.publish_many([PriceChanged(shop="A", cents=cents) for cents in (1, 2)])

    await becomes(streams, first, "sync", "acked")
    waits = await becomes(streams, second, "sync", "queued")
    assert waits.reason.startswith("limited: PriceChanged: 1 in 3600 s; the next one is admitted in 3")
    await streams.cancel(second.id)
    await becomes(streams, second, "sync", "cancelled")

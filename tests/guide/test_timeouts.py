"""Handlers that take too long."""

from __future__ import annotations

import asyncio

from streams import Backoff, CurrentDelivery, Delivery, Processor, Streams
from tests.guide.shop import OrderPlaced, becomes, dead
from tests.streams.conftest import StartConsumer


async def test_a_handler_that_hangs_is_cut_off_and_tried_again(streams: Streams, start: StartConsumer) -> None:
    """Its timeout counts as a failure, and its place is free for others."""
    billing = Processor("billing", concurrency=1, retry=Backoff(attempts=2, first=0.01))

    @billing.on(OrderPlaced, timeout=0.2)
    async def write_invoice(event: OrderPlaced, delivery: Delivery = CurrentDelivery()) -> None:
        if delivery.attempt == 1:
            await asyncio.Event().wait()

    await start(billing)
    receipt = await streams.publish(OrderPlaced(order_id=1))

    trail = await becomes(streams, receipt, "billing", "acked")
    assert "longer than 0.2 s" in trail.history[0]["error"]


async def test_a_handler_may_clean_up_when_it_is_cut_off(streams: Streams, start: StartConsumer) -> None:
    """It is cancelled, as asyncio cancels: `finally` runs."""
    billing = Processor("billing", retry=Backoff(attempts=1), timeout=0.1)
    cleaned: list[int] = []

    @billing.on(OrderPlaced)
    async def write_invoice(event: OrderPlaced) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cleaned.append(event.order_id)

    await start(billing)
    await streams.publish(OrderPlaced(order_id=1))

    (letter,) = await dead(streams, "billing", 1)
    assert letter.error.startswith("HandlerTimeout")
    assert cleaned == [1]


async def test_a_handler_may_take_longer_than_a_lease(streams: Streams, start: StartConsumer) -> None:
    """The lease is renewed while it runs: a second consumer is there, and does not take it over."""
    billing = Processor("billing")
    started: list[str] = []
    gate = asyncio.Event()

    @billing.on(OrderPlaced)
    async def write_invoice(event: OrderPlaced, delivery: Delivery = CurrentDelivery()) -> None:
        started.append(delivery.consumer)
        await gate.wait()

    await start(billing, lease=0.2)
    await start(billing, lease=0.2)
    receipt = await streams.publish(OrderPlaced(order_id=1))
    began = await becomes(streams, receipt, "billing", "running")
    # Three leases by Redis' own clock: its time goes on whether or not anybody looks.
    until = await _redis_ms(streams) + 600
    while await _redis_ms(streams) < until:
        trail = await becomes(streams, receipt, "billing", "running")
        assert trail.consumer == began.consumer
    gate.set()

    await becomes(streams, receipt, "billing", "acked")
    assert len(started) == 1


async def _redis_ms(streams: Streams) -> int:
    seconds, microseconds = await streams.redis.time()
    return int(seconds) * 1000 + int(microseconds) // 1000

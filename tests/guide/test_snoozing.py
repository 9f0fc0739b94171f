"""Not now: put an event aside without calling it a failure."""

from __future__ import annotations

from datetime import timedelta

from streams import Backoff, CurrentDelivery, Delivery, Processor, Snooze, Streams
from tests.guide.shop import OrderPlaced, becomes
from tests.streams.conftest import StartConsumer


async def test_a_snooze_does_not_count(streams: Streams, start: StartConsumer) -> None:
    """It may be snoozed for as often as it takes, though its policy allows one attempt."""
    shipping = Processor("shipping", retry=Backoff(attempts=1))
    seen: list[tuple[int, int]] = []

    @shipping.on(OrderPlaced)
    async def ship(event: OrderPlaced, delivery: Delivery = CurrentDelivery()) -> None:
        seen.append((delivery.attempt, delivery.deliveries))
        if len(seen) < 4:
            raise Snooze(timedelta(milliseconds=20), "the warehouse is closed")

    await start(shipping)
    receipt = await streams.publish(OrderPlaced(order_id=1))

    await becomes(streams, receipt, "shipping", "acked")
    assert seen == [(1, 1)] * 4


async def test_a_snoozed_event_says_why_and_until_when(streams: Streams, start: StartConsumer) -> None:
    """As `streams event ID` shows it."""
    shipping = Processor("shipping")

    @shipping.on(OrderPlaced)
    async def ship(event: OrderPlaced) -> None:
        raise Snooze(3600, "the warehouse is closed")

    await start(shipping)
    receipt = await streams.publish(OrderPlaced(order_id=1))

    trail = await becomes(streams, receipt, "shipping", "snoozed")
    assert trail.reason == "the warehouse is closed"
    assert trail.due_in is not None
    assert 3500 < trail.due_in <= 3600

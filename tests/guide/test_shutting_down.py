"""Stop a consumer."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from streams import CurrentDelivery, Delivery, Processor, Streams
from tests.guide.shop import OrderPlaced, becomes
from tests.streams.conftest import StartConsumer
from tests.support.child import Spawn
from tests.support.waiting import wait_until, wait_until_sync


class Desk:
    """A processor whose handler waits for a gate; at most one at a time."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.seen: list[tuple[int, int, int]] = []
        self.processor = Processor("billing", concurrency=1)
        self.processor.on(OrderPlaced)(self.write_invoice)

    async def write_invoice(self, event: OrderPlaced, delivery: Delivery = CurrentDelivery()) -> None:
        """Notes its event, attempt and deliveries, and waits."""
        self.seen.append((event.order_id, delivery.attempt, delivery.deliveries))
        await self.gate.wait()


async def test_what_runs_may_finish(streams: Streams, start: StartConsumer) -> None:
    """Within `STREAMS_GRACE` seconds. Then it is settled as ever."""
    desk = Desk()
    consumer = await start(desk.processor, grace=10)
    receipt = await streams.publish(OrderPlaced(order_id=1))
    await wait_until(lambda: desk.seen)

    stopping = asyncio.create_task(consumer.stop())
    await asyncio.wait([stopping], timeout=0.1)
    assert not stopping.done()
    desk.gate.set()
    await stopping

    await becomes(streams, receipt, "billing", "acked")
    assert desk.seen == [(1, 1, 1)]


async def test_what_had_not_begun_costs_nothing(streams: Streams, start: StartConsumer) -> None:
    """Two events are held, one runs. Both are handed back, and the next consumer has them as if for the first time."""
    receipts = [
        await streams.publish(OrderPlaced(order_id=1), priority="high"),
        await streams.publish(OrderPlaced(order_id=2)),
    ]
    first, second = Desk(), Desk()
    consumer = await start(first.processor, grace=0.1)
    for receipt in receipts:
        await becomes(streams, receipt, "billing", "running")
    await consumer.stop()
    assert len(first.seen) == 1

    second.gate.set()
    await start(second.processor)
    for receipt in receipts:
        await becomes(streams, receipt, "billing", "acked")
    assert sorted(second.seen) == [(1, 1, 1), (2, 1, 1)]


async def test_the_next_consumer_does_not_wait_for_a_lease(streams: Streams, start: StartConsumer) -> None:
    """Handed back means: in the group's inbox, for whoever is there."""
    first, second = Desk(), Desk()
    second.gate.set()
    consumer = await start(first.processor, grace=0, lease=600)
    receipt = await streams.publish(OrderPlaced(order_id=1))
    await wait_until(lambda: first.seen)
    await consumer.stop()

    await start(second.processor, lease=600)
    await becomes(streams, receipt, "billing", "acked")
    assert second.seen == [(1, 1, 1)]


@pytest.mark.newest_redis
def test_a_process_ends_with_0_when_it_is_asked_to(spawn: Spawn, redis_url: str) -> None:
    """SIGTERM: it drains, leaves its group, and says so."""
    email = spawn("processors.email", env={"PYTHONPATH": str(Path(__file__).parents[2])})
    wait_until_sync(lambda: "consumer.started" in email.stderr(), message=email.output)
    email.terminate()

    assert email.wait() == 0
    assert "consumer.drained" in email.stderr()

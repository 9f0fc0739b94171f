"""How far a long handler has come."""

from __future__ import annotations

import asyncio

from streams import CurrentProgress, Processor, Progress, Streams
from tests.guide.shop import OrderPlaced
from tests.streams.conftest import StartConsumer


async def test_a_handler_says_how_far_it_has_come(streams: Streams, start: StartConsumer) -> None:
    """As often as it likes: it is told at most four times a second, and the last value always is."""
    warehouse = Processor("warehouse")

    @warehouse.on(OrderPlaced)
    async def pick(event: OrderPlaced, progress: Progress = CurrentProgress()) -> None:
        await progress.set(0, total=3, text="picking")
        for _ in range(3):
            await progress.increment()

    await start(warehouse)
    receipt = await streams.publish(OrderPlaced(order_id=1))

    async with asyncio.timeout(20):
        async for step in streams.progress(receipt.id):  # ends when every group is through with the event
            last = step

    assert last.state == "acked"
    assert last.reached is not None
    assert (last.reached.done, last.reached.total, last.reached.text) == (3, 3, "picking")

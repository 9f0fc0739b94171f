"""Order: messages of one key one at a time, in the order they were published, for the processor that asks for it."""

from __future__ import annotations

import asyncio
from collections import defaultdict

from streams import Backoff, CurrentDelivery, Delivery, Event, Processor, Streams
from tests.streams.conftest import StartConsumer
from tests.support.waiting import wait_until


class StockCounted(Event, stream="counts", version=1):
    """Somebody has counted a shelf."""

    shelf: str
    pieces: int


async def test_messages_of_a_key_are_handled_in_order(streams: Streams, start: StartConsumer) -> None:
    """`key=` says what belongs together, `ordered=True` that this processor cares. A failing message is tried again
    before the next one of its key, while other keys go on.
    """
    stock = Processor("stock", ordered=True, retry=Backoff(attempts=3, first=0.05))
    counted: dict[str, list[int]] = defaultdict(list)

    @stock.on(StockCounted)
    async def count(event: StockCounted, delivery: Delivery = CurrentDelivery()) -> None:
        if event.pieces == 1 and delivery.attempt == 1:
            raise RuntimeError("the scale is not ready")
        await asyncio.sleep(0)
        counted[event.shelf].append(event.pieces)

    for _ in range(2):  # two consumers: the order holds over all of them
        await start(stock)
    for pieces in range(5):
        for shelf in ("A", "B"):
            await streams.publish(StockCounted(shelf=shelf, pieces=pieces), key=shelf)
    await wait_until(lambda: sum(map(len, counted.values())) == 10)
    assert counted == {"A": [0, 1, 2, 3, 4], "B": [0, 1, 2, 3, 4]}

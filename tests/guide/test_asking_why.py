"""Why an event is not done, and what mends it."""

from __future__ import annotations

from streams import Backoff, Processor, Streams
from tests.guide.shop import OrderPlaced
from tests.streams.conftest import StartConsumer
from tests.support.waiting import wait_until

packing = Processor("packing", retry=Backoff(attempts=3, first=60.0))


@packing.on(OrderPlaced)
async def pack(event: OrderPlaced) -> None:
    """Cannot be done now."""
    raise RuntimeError("no boxes left")


async def test_every_group_says_why_in_one_sentence(streams: Streams, start: StartConsumer) -> None:
    """And names the command that mends it. On the command line: `streams doctor why ID`."""
    receipt = await streams.publish(OrderPlaced(order_id=7))
    (reason,) = await streams.why(receipt.id)
    assert (reason.group, reason.state, reason.cause) == ("", "unread", "unsubscribed")

    await start(packing)

    async def retrying() -> bool:
        (reason,) = await streams.why(receipt.id)
        return reason.state == "retrying" and "attempt 1 failed (RuntimeError: no boxes left)" in reason.why

    await wait_until(retrying)


async def test_what_keeps_a_group_from_beginning_is_named(streams: Streams, start: StartConsumer) -> None:
    """It is paused; and when it is not, nobody runs it."""
    consumer = await start(packing)
    await consumer.stop()
    await streams.pause("packing")
    receipt = await streams.publish(OrderPlaced(order_id=8))

    (reason,) = await streams.why(receipt.id)
    assert (reason.state, reason.cause, reason.remedy) == ("unread", "paused", "streams resume packing")

    await streams.resume("packing")
    (reason,) = await streams.why(receipt.id)
    assert (reason.state, reason.cause) == ("unread", "no_consumer")
    assert reason.remedy == "python -m processors.packing"

"""Not after this: an event that is worth nothing any more when it is late."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from streams import Processor, Receipt, Streams, StreamsError
from tests.guide.shop import OrderPlaced, becomes
from tests.streams.conftest import StartConsumer


class Offers:
    """A processor that notes what it is given."""

    def __init__(self) -> None:
        self.seen: list[int] = []
        self.processor = Processor("offers")
        self.processor.on(OrderPlaced)(self.offer)

    async def offer(self, event: OrderPlaced) -> None:
        """Notes one."""
        self.seen.append(event.order_id)


async def test_what_is_late_is_not_handled(streams: Streams, start: StartConsumer) -> None:
    """Nobody was there in time: no handler is begun, and the trail says until when it was to be handled."""
    late = await streams.publish(OrderPlaced(order_id=1), expires=timedelta(milliseconds=1))
    timely = await streams.publish(OrderPlaced(order_id=2), expires=datetime.now(UTC) + timedelta(minutes=5))
    offers = Offers()
    await start(offers.processor)

    await becomes(streams, late, "offers", "expired")
    await becomes(streams, timely, "offers", "acked")
    assert offers.seen == [2]


async def test_it_is_accounted_for(streams: Streams, start: StartConsumer) -> None:
    """An expired event is no loss: the books say what became of it."""
    late = await streams.publish(OrderPlaced(order_id=1), expires=timedelta(milliseconds=1))
    await start(Offers().processor)
    await becomes(streams, late, "offers", "expired")

    (account,) = (await streams.accounts()).groups
    assert (account.published, account.expired, account.gap) == (1, 1, 0)


async def test_other_languages_say_it_with_a_field(streams: Streams, start: StartConsumer) -> None:
    """`expirytime`, as CloudEvents call it; a time that is none is a dead letter, so that somebody sees it."""
    orders = streams.keys.stream("orders")
    body = {"type": "OrderPlaced", "data": '{"order_id": 1}'}
    late = await streams.redis.xadd(orders, body | {"expirytime": "2020-01-01T00:00:00Z"})
    wrong = await streams.redis.xadd(orders, body | {"expirytime": "tomorrow"})
    offers = Offers()
    await start(offers.processor)

    await becomes(streams, Receipt(late.decode(), "orders"), "offers", "expired")
    await becomes(streams, Receipt(wrong.decode(), "orders"), "offers", "dead")
    assert offers.seen == []


@pytest.mark.parametrize("expires", [timedelta(seconds=-1), datetime(2020, 1, 1, tzinfo=UTC)])
async def test_what_cannot_be_meant_is_refused(streams: Streams, expires: datetime | timedelta) -> None:
    """In the past; and so is an event that expires before it is due, or at a time without a zone."""
    with pytest.raises(StreamsError):
        await streams.publish(OrderPlaced(order_id=1), expires=expires)
    with pytest.raises(StreamsError):
        await streams.publish(OrderPlaced(order_id=1), delay=10, expires=timedelta(seconds=5))
    with pytest.raises(StreamsError, match="time zone"):
        await streams.publish(OrderPlaced(order_id=1), expires=datetime(2099, 1, 1))  # noqa: DTZ001 - the point

"""Something the handlers need is away."""

from __future__ import annotations

from structlog.testing import capture_logs

from streams import Backoff, CurrentDelivery, Delivery, Processor, Streams, Unavailable
from tests.guide.shop import OrderPlaced
from tests.streams.conftest import StartConsumer
from tests.support.waiting import wait_until


async def test_an_outage_costs_nobody_an_attempt(streams: Streams, start: StartConsumer) -> None:
    """`Unavailable` opens the breaker: events wait instead of failing. The first one that gets through closes it."""
    billing = Processor("billing", retry=Backoff(attempts=1), concurrency=5)
    printer_is_there = False
    tried: list[int] = []
    printed: list[tuple[int, int]] = []

    @billing.on(OrderPlaced)
    async def write_invoice(event: OrderPlaced, delivery: Delivery = CurrentDelivery()) -> None:
        tried.append(event.order_id)
        if not printer_is_there:
            raise Unavailable("printer")
        printed.append((event.order_id, delivery.attempt))

    await start(billing)
    with capture_logs() as logs:
        await streams.publish_many(OrderPlaced(order_id=n) for n in range(100))
        await wait_until(lambda: any(line["event"] == "breaker.still_open" for line in logs))
        assert len(tried) < 20, "it tries them all"

        printer_is_there = True
        await wait_until(lambda: len(printed) == 100)

    assert sorted(printed) == [(n, 1) for n in range(100)]
    assert [line["dependency"] for line in logs if line["event"] == "breaker.closed"] == ["printer"]
    assert await streams.dead_letters("billing").count() == 0


async def test_other_groups_do_not_notice(streams: Streams, start: StartConsumer) -> None:
    """A breaker belongs to one consumer of one group."""
    billing, shipping = Processor("billing"), Processor("shipping")
    shipped: list[int] = []

    @billing.on(OrderPlaced)
    async def write_invoice(event: OrderPlaced) -> None:
        raise Unavailable("printer")

    @shipping.on(OrderPlaced)
    async def ship(event: OrderPlaced) -> None:
        shipped.append(event.order_id)

    await start(billing)
    await start(shipping)
    await streams.publish_many(OrderPlaced(order_id=n) for n in range(100))

    await wait_until(lambda: sorted(shipped) == list(range(100)))

"""Write a handler; groups, and what they share."""

from __future__ import annotations

import asyncio
import threading

from streams import CurrentDelivery, Delivery, Processor, Streams
from tests.guide.shop import InvoiceWritten, OrderPlaced, becomes, dead
from tests.streams.conftest import StartConsumer
from tests.support.waiting import wait_until


async def test_a_handler_is_called_with_the_event(streams: Streams, start: StartConsumer) -> None:
    """A processor is a named set of handlers. When one returns, its event is acked."""
    billing = Processor("billing")
    orders: list[OrderPlaced] = []

    @billing.on(OrderPlaced)
    async def write_invoice(event: OrderPlaced) -> None:
        orders.append(event)

    await start(billing)
    receipt = await streams.publish(OrderPlaced(order_id=1))

    await becomes(streams, receipt, "billing", "acked")
    assert orders == [OrderPlaced(order_id=1)]


async def test_every_group_handles_every_event(streams: Streams, start: StartConsumer) -> None:
    """The name of a processor is its consumer group, and each group gets each event once."""
    handled: list[str] = []

    async def note(event: OrderPlaced, delivery: Delivery = CurrentDelivery()) -> None:
        handled.append(delivery.group)

    for name in ("billing", "shipping"):
        processor = Processor(name)
        processor.on(OrderPlaced)(note)
        await start(processor)
    receipt = await streams.publish(OrderPlaced(order_id=1))

    await becomes(streams, receipt, "billing", "acked")
    await becomes(streams, receipt, "shipping", "acked")
    assert sorted(handled) == ["billing", "shipping"]


async def test_consumers_of_a_group_share_its_events(streams: Streams, start: StartConsumer) -> None:
    """Start a processor twice, and each event is handled by one of the two."""
    billing = Processor("billing", concurrency=1)
    handled: list[tuple[int, str]] = []

    @billing.on(OrderPlaced)
    async def write_invoice(event: OrderPlaced, delivery: Delivery = CurrentDelivery()) -> None:
        handled.append((event.order_id, delivery.consumer))
        # Neither consumer can take everything: each goes on when the other one has had an event too.
        await wait_until(lambda: len({consumer for _, consumer in handled}) == 2)

    await start(billing)
    await start(billing)
    await streams.publish_many(OrderPlaced(order_id=n) for n in range(50))

    await wait_until(lambda: len(handled) >= 50)
    assert sorted(order for order, _ in handled) == list(range(50))


async def test_a_new_processor_begins_with_the_first_event(streams: Streams, start: StartConsumer) -> None:
    """Also with events that were published before anybody had heard of it."""
    receipt = await streams.publish(OrderPlaced(order_id=1))

    latecomer = Processor("latecomer")
    orders: list[str] = []

    @latecomer.on(OrderPlaced)
    async def note(event: OrderPlaced, delivery: Delivery = CurrentDelivery()) -> None:
        orders.append(delivery.message.id)

    await start(latecomer)

    await wait_until(lambda: orders == [receipt.id])


async def test_no_more_handlers_run_than_the_processor_allows(streams: Streams, start: StartConsumer) -> None:
    """`concurrency` bounds one consumer; start more consumers for more."""
    billing = Processor("billing", concurrency=2)
    running: list[int] = []
    most: list[int] = []
    gate = asyncio.Event()

    @billing.on(OrderPlaced)
    async def write_invoice(event: OrderPlaced) -> None:
        running.append(event.order_id)
        most.append(len(running))
        await gate.wait()
        running.remove(event.order_id)

    await start(billing)
    receipts = await streams.publish_many(OrderPlaced(order_id=n) for n in range(10))
    await wait_until(lambda: len(running) == 2)
    gate.set()

    for receipt in receipts:
        await becomes(streams, receipt, "billing", "acked")
    assert max(most) == 2


async def test_a_plain_function_runs_in_a_thread(streams: Streams, start: StartConsumer) -> None:
    """A handler need not be async; a `def` does not block the others."""
    billing = Processor("billing")
    threads: list[int] = []

    @billing.on(OrderPlaced)
    def write_invoice(event: OrderPlaced) -> None:
        threads.append(threading.get_ident())

    await start(billing)
    receipt = await streams.publish(OrderPlaced(order_id=1))

    await becomes(streams, receipt, "billing", "acked")
    assert threads != [threading.get_ident()]


async def test_a_group_skips_what_it_does_not_handle(streams: Streams, start: StartConsumer) -> None:
    """A known event without a handler is settled at once; an unknown type is a dead letter, because somebody has
    forgotten something.
    """
    books = Processor("books")
    books.on(InvoiceWritten)(_do_nothing)
    books.on(OrderPlaced)(_do_nothing)
    shipping = Processor("shipping")
    shipping.on(OrderPlaced)(_do_nothing)
    await start(shipping)

    await streams.redis.xadd(streams.keys.stream("orders"), {"type": "InvoiceWritten", "data": '{"order_id": 1}'})
    await streams.redis.xadd(streams.keys.stream("orders"), {"type": "OrderLost", "data": '{"order_id": 2}'})
    receipt = await streams.publish(OrderPlaced(order_id=3))

    await becomes(streams, receipt, "shipping", "acked")
    (letter,) = await dead(streams, "shipping", 1)
    assert (letter.type, letter.reason) == ("OrderLost", "unknown_type")


async def _do_nothing(event: OrderPlaced | InvoiceWritten) -> None:
    """A handler for those who only wait for the ack."""

"""What handlers are given besides the event."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from streams import CurrentDelivery, CurrentStreams, Delivery, Depends, Processor, Shared, Streams
from tests.guide.shop import InvoiceWritten, OrderPlaced, becomes
from tests.streams.conftest import StartConsumer


class Printer:
    """Something that is costly to open."""

    def __init__(self) -> None:
        self.printed: list[int] = []
        self.is_open = True


async def test_a_shared_dependency_is_made_once(streams: Streams, start: StartConsumer) -> None:
    """`Shared` opens it when it is first needed, and closes it when the consumer stops."""
    billing = Processor("billing")
    printers: list[Printer] = []

    @asynccontextmanager
    async def open_printer() -> AsyncIterator[Printer]:
        printers.append(Printer())
        yield printers[-1]
        printers[-1].is_open = False

    @billing.on(OrderPlaced)
    async def write_invoice(event: OrderPlaced, printer: Printer = Shared(open_printer)) -> None:
        printer.printed.append(event.order_id)

    consumer = await start(billing)
    receipts = await streams.publish_many([OrderPlaced(order_id=1), OrderPlaced(order_id=2)])
    for receipt in receipts:
        await becomes(streams, receipt, "billing", "acked")

    (printer,) = printers
    assert sorted(printer.printed) == [1, 2]
    assert printer.is_open
    await consumer.stop()
    assert not printer.is_open


async def test_a_dependency_is_made_for_each_delivery(streams: Streams, start: StartConsumer) -> None:
    """`Depends` calls its factory anew each time: a database session, for example."""
    billing = Processor("billing")
    pages: list[list[int]] = []

    def new_page() -> list[int]:
        pages.append([])
        return pages[-1]

    @billing.on(OrderPlaced)
    async def write_invoice(event: OrderPlaced, page: list[int] = Depends(new_page)) -> None:
        page.append(event.order_id)

    await start(billing)
    for receipt in await streams.publish_many([OrderPlaced(order_id=1), OrderPlaced(order_id=2)]):
        await becomes(streams, receipt, "billing", "acked")

    assert sorted(pages) == [[1], [2]]


async def test_the_engine_gives_the_delivery_and_a_client(streams: Streams, start: StartConsumer) -> None:
    """`CurrentDelivery` is this hand-over; `CurrentStreams` publishes at once, whether or not the handler succeeds."""
    billing = Processor("billing")
    ids: list[str] = []

    @billing.on(OrderPlaced)
    async def write_invoice(
        event: OrderPlaced, delivery: Delivery = CurrentDelivery(), client: Streams = CurrentStreams()
    ) -> None:
        ids.append(delivery.message.id)
        await client.publish(InvoiceWritten(order_id=event.order_id))

    await start(billing)
    receipt = await streams.publish(OrderPlaced(order_id=1))

    await becomes(streams, receipt, "billing", "acked")
    assert ids == [receipt.id]
    ((_, invoice),) = await streams.redis.xrange(streams.keys.stream("invoices"))
    assert invoice[b"causationid"].decode() == receipt.id

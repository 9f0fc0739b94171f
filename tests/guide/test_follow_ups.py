"""Events that follow from events."""

from __future__ import annotations

from structlog.testing import capture_logs

from streams import CurrentDelivery, Delivery, Event, Processor, Streams
from tests.guide.shop import InvoiceWritten, OrderPlaced, becomes, dead
from tests.streams.conftest import StartConsumer
from tests.support.waiting import wait_until


async def test_a_handler_returns_what_follows(streams: Streams, start: StartConsumer) -> None:
    """The returned event is published in the same step as the ack: both happen, or neither."""
    billing = Processor("billing")

    @billing.on(OrderPlaced)
    async def write_invoice(event: OrderPlaced) -> InvoiceWritten:
        return InvoiceWritten(order_id=event.order_id)

    await start(billing)
    receipt = await streams.publish(OrderPlaced(order_id=1))

    await becomes(streams, receipt, "billing", "acked")
    (follow_up,) = (await streams.event(receipt.id)).follow_ups
    assert (follow_up.type, follow_up.stream) == ("InvoiceWritten", "invoices")


async def test_a_conversation_can_be_followed(streams: Streams, start: StartConsumer) -> None:
    """A follow-up names its cause, and the event that began it all. In that first event the field is empty."""
    billing, books = Processor("billing"), Processor("books")
    booked: list[Delivery] = []

    @billing.on(OrderPlaced)
    async def write_invoice(event: OrderPlaced) -> list[InvoiceWritten]:
        return [InvoiceWritten(order_id=event.order_id)]

    @books.on(InvoiceWritten)
    async def book(event: InvoiceWritten, delivery: Delivery = CurrentDelivery()) -> None:
        booked.append(delivery)

    await start(billing)
    await start(books)
    receipt = await streams.publish(OrderPlaced(order_id=1))

    await wait_until(lambda: booked)
    message = booked[0].message
    assert (message.causation_id, message.correlation_id) == (receipt.id, receipt.id)
    ((_, first),) = await streams.redis.xrange(streams.keys.stream("orders"))
    assert (first[b"causationid"], first[b"correlationid"]) == (b"", b"")


async def test_a_failed_handler_publishes_nothing(streams: Streams, start: StartConsumer) -> None:
    """What it would have returned is not published, nor is half of a list in which one event is too large."""
    billing = Processor("billing")

    @billing.on(OrderPlaced)
    async def write_invoice(event: OrderPlaced) -> list[Event]:
        return [InvoiceWritten(order_id=event.order_id), OrderPlaced(order_id=2, note="x" * 1_000_000)]

    await start(billing)
    await streams.publish(OrderPlaced(order_id=1))

    (letter,) = await dead(streams, "billing", 1)
    assert letter.error.startswith("TooLarge")
    assert await streams.redis.xlen(streams.keys.stream("invoices")) == 0


async def test_what_is_no_event_is_left_out(streams: Streams, start: StartConsumer) -> None:
    """A handler that has returned is done, whatever it returned: another try would do its work twice. One line of the
    log, `handler.returned_ignored`, says what it returned.
    """
    billing = Processor("billing")

    @billing.on(OrderPlaced)
    async def write_invoice(event: OrderPlaced) -> object:
        return {"success": True}

    with capture_logs() as logs:
        await start(billing)
        receipt = await streams.publish(OrderPlaced(order_id=1))
        await becomes(streams, receipt, "billing", "acked")
    (line,) = [line for line in logs if line["event"] == "handler.returned_ignored"]
    assert (line["returned"], line["remedy"]) == ("dict", "return None, an event, or a list of events")

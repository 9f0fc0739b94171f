"""Many events in one call."""

from __future__ import annotations

from collections.abc import Sequence

from streams import Backoff, Batch, BatchFailed, CurrentBatch, Delivery, Processor, Streams
from tests.guide.shop import InvoiceWritten, OrderPlaced, becomes, dead
from tests.streams.conftest import StartConsumer
from tests.support.waiting import wait_until


async def test_a_batch_handler_takes_a_list(streams: Streams, start: StartConsumer) -> None:
    """It is called when there are `size` events, or `within` seconds after the first one came; in the order read."""
    search = Processor("search")
    indexed: list[list[int]] = []

    @search.on(OrderPlaced, batch=Batch(size=3, within=0.2))
    async def index(events: list[OrderPlaced]) -> None:
        indexed.append([event.order_id for event in events])

    await streams.publish_many(OrderPlaced(order_id=n) for n in range(5))
    await start(search)

    await wait_until(lambda: indexed == [[0, 1, 2], [3, 4]])


async def test_it_says_which_events_failed(streams: Streams, start: StartConsumer) -> None:
    """By their positions in the list, each with what a handler of one event would have raised. The others are acked."""
    search = Processor("search", retry=Backoff(attempts=1))

    @search.on(OrderPlaced, batch=Batch(size=3, within=0.2))
    async def index(events: list[OrderPlaced]) -> None:
        errors = {n: ValueError("no total") for n, event in enumerate(events) if event.total == 0}
        raise BatchFailed(errors)  # an empty one: nothing has failed

    await start(search)
    receipts = await streams.publish_many(OrderPlaced(order_id=n, total=n) for n in range(3))

    await becomes(streams, receipts[0], "search", "dead")
    await becomes(streams, receipts[1], "search", "acked")
    await becomes(streams, receipts[2], "search", "acked")


async def test_any_other_error_is_blamed_on_the_events_that_cause_it(streams: Streams, start: StartConsumer) -> None:
    """The handler is called again at once with each event alone, and only what fails then has failed.

    So what the handler does must be repeatable: an upsert, a PUT.
    """
    search = Processor("search", retry=Backoff(attempts=1))
    calls: list[int] = []

    @search.on(OrderPlaced, batch=Batch(size=3, within=0.2))
    async def index(events: list[OrderPlaced]) -> None:
        calls.append(len(events))
        if any(event.total == 0 for event in events):
            raise ZeroDivisionError

    await start(search)
    receipts = await streams.publish_many(OrderPlaced(order_id=n, total=n) for n in range(3))

    await dead(streams, "search", 1)
    await becomes(streams, receipts[1], "search", "acked")
    await becomes(streams, receipts[2], "search", "acked")
    assert calls == [3, 1, 1, 1]


async def test_follow_ups_are_of_the_batch_or_of_one_of_its_events(streams: Streams, start: StartConsumer) -> None:
    """Return a list and the first event is their cause; return `{position: event}` to say which one is."""
    billing = Processor("billing")
    attempts: list[int] = []

    @billing.on(OrderPlaced, batch=Batch(size=2, within=0.2))
    async def bill(
        events: list[OrderPlaced], deliveries: Sequence[Delivery] = CurrentBatch()
    ) -> dict[int, InvoiceWritten]:
        attempts.extend(delivery.attempt for delivery in deliveries)
        return {n: InvoiceWritten(order_id=event.order_id) for n, event in enumerate(events) if event.total}

    await start(billing)
    receipts = await streams.publish_many([OrderPlaced(order_id=1, total=0), OrderPlaced(order_id=2)])

    for receipt in receipts:
        await becomes(streams, receipt, "billing", "acked")
    assert (await streams.event(receipts[0].id)).follow_ups == ()
    (follow_up,) = (await streams.event(receipts[1].id)).follow_ups
    assert follow_up.type == "InvoiceWritten"
    assert attempts == [1, 1]

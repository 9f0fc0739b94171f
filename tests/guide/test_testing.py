"""Test your own processors: no Redis, no waiting.

`Harness` is a `Streams` that needs no server. Nothing happens until you let it: `run()` handles what is due now,
`advance(hours=1)` moves the clock and handles what comes due on the way.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from streams import (
    Backoff,
    CurrentStreams,
    Depends,
    NotFound,
    Processor,
    Slot,
    Snooze,
    Streams,
    StreamsError,
    Unavailable,
)
from streams.testing import Crash, Harness
from tests.guide.shop import InvoiceWritten, OrderPlaced


class Printer:
    """What the processor under test depends on; the test gives it one that notes what it is told."""

    def __init__(self) -> None:
        self.printed: list[int] = []
        self.fails: list[BaseException] = []
        self.calls = 0

    async def print(self, order_id: int) -> None:
        self.calls += 1
        if self.fails:
            raise self.fails.pop(0)
        self.printed.append(order_id)


def open_printer() -> Printer:
    raise RuntimeError("there is no printer where tests run")


billing = Processor("billing", retry=Backoff(attempts=3, first=2.0))


@billing.on(OrderPlaced)
async def write_invoice(event: OrderPlaced, printer: Printer = Depends(open_printer)) -> InvoiceWritten:
    await printer.print(event.order_id)
    return InvoiceWritten(order_id=event.order_id)


@pytest.fixture
def printer() -> Printer:
    return Printer()


@pytest.fixture
def shop(printer: Printer) -> Harness:
    """One harness a test: `overrides` says what stands in for what your handlers depend on."""
    return Harness(billing, overrides={open_printer: lambda: printer})


async def test_an_event_is_handled_and_leads_to_another(shop: Harness, printer: Printer) -> None:
    """`published(Type)` are the events themselves, the test's own and those of handlers."""
    async with shop as streams:
        receipt = await streams.publish(OrderPlaced(order_id=7))
        await streams.run()

        assert printer.printed == [7]
        assert streams.published(InvoiceWritten) == [InvoiceWritten(order_id=7)]
        trail = await streams.event(receipt.id)
        assert [(group.group, group.state) for group in trail.groups] == [("billing", "acked")]


async def test_retries_come_when_the_clock_is_moved(shop: Harness, printer: Printer) -> None:
    """A first retry after 1 to 3 s, a second one after 2 to 6 s: nobody waits for them."""
    printer.fails = [RuntimeError("no paper"), RuntimeError("no ink")]
    async with shop as streams:
        receipt = await streams.publish(OrderPlaced(order_id=7))
        await streams.run()
        (group,) = (await streams.event(receipt.id)).groups
        assert (group.state, group.attempts, group.error) == ("retrying", 1, "RuntimeError: no paper")

        await streams.advance(seconds=3)
        assert printer.printed == []
        await streams.advance(seconds=6)
        assert printer.printed == [7]


async def test_what_fails_for_good_is_a_dead_letter(shop: Harness, printer: Printer) -> None:
    """The same `dead_letters` as a `Streams` has: look, replay, discard."""
    printer.fails = [RuntimeError("on fire")] * 3
    async with shop as streams:
        await streams.publish(OrderPlaced(order_id=7))
        await streams.advance(minutes=1)

        letters = [letter async for letter in streams.dead_letters("billing").ls()]
        assert [(letter.reason, letter.attempts, letter.error) for letter in letters] == [
            ("failed", 3, "RuntimeError: on fire")
        ]
        await streams.dead_letters("billing").replay()
        await streams.run()
        assert printer.printed == [7]


async def test_delayed_events_and_schedules_come_in_their_order() -> None:
    """`start=` is where the clock begins, for what depends on the calendar."""
    reminders, happened = Processor("reminders"), list[str]()

    @reminders.cron("0 7 * * *", tz="Europe/Berlin")
    def morning(slot: Slot) -> OrderPlaced:
        return OrderPlaced(order_id=slot.at.day, note="schedule")

    @reminders.on(OrderPlaced)
    async def remind(event: OrderPlaced, streams: Streams = CurrentStreams()) -> None:
        assert isinstance(streams, Harness)
        happened.append(f"{streams.now:%d %H:%M} {event.note} {event.order_id}")

    async with Harness(reminders, start=datetime(2026, 3, 28, 12, tzinfo=UTC)) as streams:
        await streams.publish(OrderPlaced(order_id=7, note="delayed"), delay=timedelta(hours=6))
        await streams.advance(days=2)

    # The clocks went forward in the night to the 29th.
    assert happened == ["28 18:00 delayed 7", "29 05:00 schedule 29", "30 05:00 schedule 30"]


async def test_an_outage_is_waited_out(shop: Harness, printer: Printer) -> None:
    """The breaker is the engine's own: it opens for longer and longer, and no attempt is lost."""
    printer.fails = [Unavailable("the printer")] * 4
    async with shop as streams:
        receipts = await streams.publish_many(OrderPlaced(order_id=order_id) for order_id in range(3))
        await streams.advance(minutes=1)

        assert sorted(printer.printed) == [0, 1, 2]
        for receipt in receipts:
            (group,) = (await streams.event(receipt.id)).groups
            assert (group.state, group.attempts) == ("acked", 1)


async def test_a_process_dies_in_the_middle(shop: Harness, printer: Printer) -> None:
    """Raised anywhere under the handler, `Crash` is the death of its process: the next one is given the event again.
    So you see whether your handler can be called twice.
    """
    printer.fails = [Crash()]
    async with shop as streams:
        receipt = await streams.publish(OrderPlaced(order_id=7))
        await streams.run()

        (group,) = (await streams.event(receipt.id)).groups
        assert (group.state, group.attempts) == ("acked", 1)
        assert (printer.calls, printer.printed) == (2, [7])


async def test_a_process_dies_when_everything_was_done(shop: Harness, printer: Printer) -> None:
    """`crash_next(..., after=True)`: the handler has ended, and its process dies before that is written down. What it
    did happens again; what follows from it does not.
    """
    async with shop as streams:
        streams.crash_next("billing", after=True)
        await streams.publish(OrderPlaced(order_id=7))
        await streams.run()

        assert printer.printed == [7, 7]
        assert streams.published(InvoiceWritten) == [InvoiceWritten(order_id=7)]


async def test_what_kills_every_process_is_given_up(shop: Harness, printer: Printer) -> None:
    """After `deliveries` deaths, as anywhere."""
    printer.fails = [Crash() for _ in range(9)]
    async with shop as streams:
        await streams.publish(OrderPlaced(order_id=7))
        await streams.run()

        (letter,) = [letter async for letter in streams.dead_letters("billing").ls()]
        assert (letter.reason, letter.deliveries) == ("crashed", 5)


async def test_something_happens_while_a_handler_runs() -> None:
    """Let `run()` go on in a task; then call off, pause, or crash from outside."""
    slow, began, ended = Processor("slow"), asyncio.Event(), list[str]()

    @slow.on(OrderPlaced)
    async def ship(event: OrderPlaced) -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("cleaned up")

    async with Harness(slow) as streams:
        receipt = await streams.publish(OrderPlaced(order_id=7))
        running = asyncio.create_task(streams.run())
        await began.wait()
        assert (await streams.cancel(receipt.id)).groups == {"slow": "cancelling"}
        await running
        assert (await streams.event(receipt.id)).groups[0].state == "cancelled"
    assert ended == ["cleaned up"]


async def test_several_processors_work_together() -> None:
    """Each is a group of its own, as in production. One that joins later is given what was there before."""
    shipping, shipped = Processor("shipping"), list[int]()

    @shipping.on(InvoiceWritten)
    async def ship(event: InvoiceWritten) -> None:
        shipped.append(event.order_id)

    printer = Printer()
    async with Harness(billing, overrides={open_printer: lambda: printer}) as streams:
        await streams.publish(OrderPlaced(order_id=7))
        await streams.run()
        await streams.join(shipping)
        await streams.run()
        assert shipped == [7]
        assert not list((await streams.accounts()).gaps())


async def test_settings_are_the_defaults_unless_you_give_them(shop: Harness) -> None:
    """By name, as the fields of `Settings`. The environment is not read: a test means the same everywhere."""
    async with shop as streams:
        assert streams.settings.attempts == 3
    polite = Processor("polite")

    @polite.on(OrderPlaced)
    async def ask(event: OrderPlaced) -> None:
        raise Snooze(60, "after you")

    async with Harness(polite, attempts=1, backoff=100) as streams:
        receipt = await streams.publish(OrderPlaced(order_id=1))
        await streams.advance(minutes=10)
        (group,) = (await streams.event(receipt.id)).groups
        assert (group.state, group.attempts, len(group.history)) == ("snoozed", 0, 11)


async def test_mistakes_are_told(shop: Harness) -> None:
    """Everything a `Streams` refuses, and what would make a test lie."""
    async with shop as streams:
        with pytest.raises(NotFound, match="no group nobody"):
            await streams.pause("nobody")
        with pytest.raises(StreamsError, match="does not model trim"):
            await streams.trim("orders", keep=1)
    with pytest.raises(StreamsError, match="no handler or schedule depends on"):
        async with Harness(billing, overrides={test_mistakes_are_told: Printer}):
            """It is not even opened."""

"""Publish at times of the calendar, or every so often."""

from __future__ import annotations

from datetime import timedelta

from streams import Processor, Slot, Streams
from tests.guide.shop import InvoiceWritten, OrderPlaced
from tests.streams.conftest import StartConsumer
from tests.support.waiting import wait_until


async def test_a_processor_publishes_by_itself(streams: Streams, start: StartConsumer) -> None:
    """The function makes the event of a slot; who handles the event does the work."""
    billing = Processor("billing")
    seen: list[int] = []

    @billing.every(timedelta(seconds=0.2))
    def standing_order(slot: Slot) -> OrderPlaced:
        return OrderPlaced(order_id=round(slot.at.timestamp() * 10))

    @billing.on(OrderPlaced)
    async def bill(event: OrderPlaced) -> None:
        seen.append(event.order_id)

    await start(billing)
    await wait_until(lambda: len(seen) >= 3)
    assert seen[2] - seen[0] == 4


async def test_each_slot_is_published_once_however_many_run(streams: Streams, start: StartConsumer) -> None:
    """Three consumers, one event a slot: no leader, nothing to set up."""
    for _ in range(3):
        billing = Processor("billing")
        billing.every(0.2, name="tick")(lambda slot: InvoiceWritten(order_id=round(slot.at.timestamp() * 10)))
        await start(billing)

    invoices = streams.keys.stream("invoices")
    await wait_until(lambda: _more_than(streams, invoices, 6))
    orders = [int(fields[b"data"][12:-1]) for _, fields in await streams.redis.xrange(invoices)]
    assert orders == list(range(orders[0], orders[-1] + 1, 2))


async def test_a_time_of_the_calendar_has_a_zone(streams: Streams, start: StartConsumer) -> None:
    """Seven in the morning stays seven in the morning when the clocks change."""
    billing = Processor("billing")

    @billing.cron("0 7 * * mon-fri", tz="Europe/Berlin", name="morning")
    def morning(slot: Slot) -> None: ...

    await start(billing)
    (state,) = await wait_until(streams.schedules.ls)
    assert state.name == "billing.morning"
    assert state.words == "At 07:00 on Monday through Friday"
    assert state.next is not None
    assert f"{state.next:%H:%M}" == "07:00"


async def test_a_schedule_is_paused_resumed_and_run_by_hand(streams: Streams, start: StartConsumer) -> None:
    """Slots that pass while it is paused are not made up for; a run by hand is beside the slots."""
    billing = Processor("billing")

    @billing.cron("0 0 1 1 *", name="yearly")
    def yearly() -> InvoiceWritten:
        return InvoiceWritten(order_id=1)

    @billing.on(InvoiceWritten)
    async def send(event: InvoiceWritten) -> None:
        """Sends it."""

    await start(billing)
    await wait_until(streams.schedules.ls)

    await streams.schedules.pause("billing.yearly")
    run = await streams.schedules.run("billing.yearly")
    await streams.schedules.resume("billing.yearly")

    assert run.ids is not None
    event = await streams.event(run.ids[0])
    assert event.stream == "invoices"


async def test_slots_that_nobody_was_there_for(streams: Streams, start: StartConsumer) -> None:
    """`misfire` says what becomes of them: one for all (`once`), each (`all`), or none (`skip`)."""
    for misfire, count in (("once", 1), ("all", 3), ("skip", 0)):
        billing = Processor(misfire)
        # Its last slot was at 03:40 of that night; 03:45, 03:50 and 03:55 nobody was there for.
        billing.cron("*/5 3 1 1 *", name="nightly", misfire=misfire)(lambda: InvoiceWritten(order_id=1))  # type: ignore[arg-type]
        schedule = billing.schedules[f"{misfire}.nightly"]
        noon = 1_767_268_800_000  # 2026-01-01T12:00Z
        due = schedule.due(last=noon - 8 * 3_600_000 - 20 * 60_000, now=noon)
        assert len(due.slots) == count


async def _more_than(streams: Streams, key: str, count: int) -> bool:
    return int(await streams.redis.xlen(key)) > count

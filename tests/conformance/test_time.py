"""What happens later: delays, expiry, names that are taken, schedules."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from streams import Processor, Slot, StreamsError
from tests.conformance.driver import Driver, becomes, now
from tests.conformance.events import Sent


def watch(driver: Driver) -> tuple[Processor, list[tuple[int, float]]]:
    """A processor that notes what comes, and when."""
    one, seen = Processor("one", concurrency=1), list[tuple[int, float]]()

    @one.on(Sent)
    async def see(event: Sent) -> None:
        seen.append((event.number, await now(driver)))

    return one, seen


async def test_a_delayed_event_is_never_early(driver: Driver) -> None:
    one, seen = watch(driver)
    await driver.start(one)
    before = await now(driver)
    receipt = await driver.streams.publish(Sent(number=1), delay=0.25)
    trail = await driver.streams.event(receipt.id)
    assert trail.due_in is not None
    assert 0 < trail.due_in <= 0.25
    assert [(group.group, group.state) for group in trail.groups] == [("one", "waiting")]
    await driver.until(lambda: seen)
    assert seen[0][1] - before >= 0.249


async def test_delayed_events_come_in_the_order_in_which_they_are_due(driver: Driver) -> None:
    one, seen = watch(driver)
    await driver.start(one)
    for number, delay in ((3, 0.3), (1, 0.1), (2, 0.2)):
        await driver.streams.publish(Sent(number=number), delay=timedelta(seconds=delay))
    await driver.until(lambda: len(seen) == 3)
    assert [number for number, _ in seen] == [1, 2, 3]


async def test_an_event_has_its_time_of_day(driver: Driver) -> None:
    one, seen = watch(driver)
    await driver.start(one)
    at = datetime.fromtimestamp(await now(driver) + 0.2, UTC)
    await driver.streams.publish(Sent(number=1), at=at)
    await driver.until(lambda: seen)
    assert seen[0][1] >= at.timestamp() - 0.002


async def test_times_that_cannot_be_meant_are_refused(driver: Driver) -> None:
    streams, event = driver.streams, Sent(number=1)
    soon = datetime.fromtimestamp(await now(driver) + 60, UTC)
    with pytest.raises(StreamsError, match="must be between 0 and ten years"):
        await streams.publish(event, delay=-1)
    with pytest.raises(StreamsError, match="not both"):
        await streams.publish(event, delay=1, at=soon)
    with pytest.raises(StreamsError, match="is in the past"):
        await streams.publish(event, at=soon - timedelta(seconds=90))
    with pytest.raises(StreamsError, match="no time zone"):
        await streams.publish(event, at=soon.replace(tzinfo=None))
    with pytest.raises(StreamsError, match="before the event would be handled"):
        await streams.publish(event, delay=60, expires=timedelta(seconds=30))
    with pytest.raises(StreamsError, match="longer than 200 bytes"):
        await streams.publish(event, key="k" * 201)


async def test_what_is_too_late_is_not_handled(driver: Driver) -> None:
    one, seen = watch(driver)
    receipt = await driver.streams.publish(Sent(number=1), expires=timedelta(seconds=0.05))
    in_time = await driver.streams.publish(Sent(number=2), expires=timedelta(seconds=60))
    await driver.pass_time(0.1)
    await driver.start(one)
    trail = await becomes(driver, receipt.id, "one", "expired")
    await becomes(driver, in_time.id, "one", "acked")
    assert "it had to be handled before" in trail.reason
    assert [number for number, _ in seen] == [2]


async def test_a_name_is_published_under_once(driver: Driver) -> None:
    one, seen = watch(driver)
    await driver.start(one)
    first = await driver.streams.publish(Sent(number=1), once="parcel-7:sent")
    second = await driver.streams.publish(Sent(number=2), once="parcel-7:sent", delay=0.01)
    other = await driver.streams.publish(Sent(number=3), once="parcel-8:sent")
    assert first.id == second.id != other.id
    await becomes(driver, other.id, "one", "acked")
    await driver.pass_time(0.05)
    assert sorted(number for number, _ in seen) == [1, 3]


async def test_a_schedule_publishes_each_slot_once_and_in_order(driver: Driver) -> None:
    one, seen = watch(driver)

    @one.every(0.2)
    def tick(slot: Slot) -> Sent:
        return Sent(number=round(slot.at.timestamp() * 10))

    await driver.start(one)
    await driver.until(lambda: len(seen) >= 3)
    numbers = [number for number, _ in seen]
    assert numbers == list(range(numbers[0], numbers[0] + 2 * len(numbers), 2))
    assert all(number / 10 <= at for number, at in seen)
    await driver.streams.schedules.pause("one.tick")


async def test_a_schedule_can_be_paused_resumed_and_run_by_hand(driver: Driver) -> None:
    one, seen = watch(driver)

    @one.cron("0 0 1 1 *", name="yearly", tz="Europe/Berlin")
    def yearly() -> list[Sent]:
        return [Sent(number=1), Sent(number=2)]

    await driver.start(one)
    await driver.until(driver.streams.schedules.ls)
    assert await driver.streams.schedules.pause("one.yearly")
    assert not await driver.streams.schedules.pause("one.yearly")
    run = await driver.streams.schedules.run("one.yearly")
    assert run.ids is not None
    await becomes(driver, run.ids[1], "one", "acked")
    assert [number for number, _ in seen] == [1, 2]
    assert await driver.streams.schedules.resume("one.yearly")
    (state,) = await driver.streams.schedules.ls()
    assert (state.words, state.paused) == ("At 00:00 on January 1", False)
    assert state.next is not None
    assert f"{state.next:%m-%d %H:%M %Z}" == "01-01 00:00 CET"


async def test_slots_that_pass_while_a_schedule_is_paused_are_not_made_up_for(driver: Driver) -> None:
    one, seen = watch(driver)
    one.every(0.1, name="tick")(lambda: Sent(number=1))
    await driver.start(one)
    await driver.until(lambda: seen)
    await driver.streams.schedules.pause("one.tick")
    await driver.pass_time(0.7)  # it is seen within half a second
    before = len(seen)
    await driver.pass_time(0.5)
    assert len(seen) == before
    await driver.streams.schedules.resume("one.tick")
    await driver.until(lambda: len(seen) > before)
    await driver.streams.schedules.pause("one.tick")
    assert len(seen) < before + 5


async def test_a_schedule_publishes_nothing_or_many(driver: Driver) -> None:
    one, seen = watch(driver)
    called: list[int] = []

    @one.every(0.1)
    def tick() -> list[Sent] | None:
        called.append(1)
        return [Sent(number=1), Sent(number=2)] if len(called) == 2 else None

    await driver.start(one)
    await driver.until(lambda: len(called) >= 3 and len(seen) == 2)
    assert [number for number, _ in seen] == [1, 2]


async def test_a_schedule_that_keeps_failing_has_missed_its_slot(driver: Driver) -> None:
    one = Processor("one")

    @one.cron("0 0 1 1 *", name="yearly")
    def yearly() -> Sent:
        raise RuntimeError("no")

    await driver.start(one)
    await driver.until(driver.streams.schedules.ls)
    run = await driver.streams.schedules.run("one.yearly")
    assert run.failed
